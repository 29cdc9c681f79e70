//! One question to the database on a connection of the daemon's own.

use std::io;

use bytes::{Buf as _, Bytes};

use super::{
    Stream,
    wire::{self, WireError},
};

/// What one message of the answer may hold.
const MAX_BODY: usize = 64 * 1024;
/// How many messages an answer may have.
const MAX_MESSAGES: usize = 10_000;

/// Asks a simple query; the first column of each row of its answer, as text. The time is the
/// caller's to bound. The connection is to be ended where it fails.
///
/// # Errors
/// Where the connection fails, the server refuses the query, or the answer isn't one.
pub async fn query<S: Stream>(stream: &mut S, sql: &str) -> io::Result<Vec<Bytes>> {
    let body = [sql.as_bytes(), &[0]].concat();
    wire::send(stream, &wire::frame(Some(b'Q'), &body)).await?;
    let mut rows = Vec::new();
    for _ in 0..MAX_MESSAGES {
        let message = wire::read_message(stream, MAX_BODY).await;
        let message = message.map_err(|error| match error {
            WireError::Io(error) => error,
            other => io::Error::other(other.to_string()),
        })?;
        match message.tag() {
            b'D' => rows.push(first_column(message.body())),
            b'E' => return Err(io::Error::other("the database refused the query")),
            b'Z' => return Ok(rows),
            _ => {}
        }
    }
    Err(io::Error::other("the answer doesn't come to an end"))
}

/// Empty where it is null, or where there is none.
fn first_column(mut row: Bytes) -> Bytes {
    const COUNT: usize = 2;
    if row.len() < COUNT {
        return Bytes::new();
    }
    row.advance(COUNT);
    let length = wire::take_u32(&mut row).and_then(|length| usize::try_from(length).ok());
    match length {
        Some(length) if length <= row.len() => row.split_to(length),
        _ => Bytes::new(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test]
    async fn rows_are_read_to_the_end_of_the_answer() {
        let (mut stream, mut server) = duplex(1024);
        let answering = async {
            let mut asked = [0; 14];
            server.read_exact(&mut asked).await.unwrap();
            assert_eq!(&asked, b"Q\0\0\0\x0dselect 1\0");
            for (tag, body) in [
                (b'T', &b"\0\0"[..]),
                (b'D', b"\0\x01\0\0\0\x01t"),
                (b'D', b"\0\x01\xff\xff\xff\xff"),
                (b'D', b"\0"),
                (b'C', b"SELECT 3\0"),
                (b'Z', b"I"),
            ] {
                let message = wire::frame(Some(tag), body);
                server.write_all(&message).await.unwrap();
            }
        };
        let (rows, ()) = tokio::join!(query(&mut stream, "select 1"), answering);
        assert_eq!(rows.unwrap(), [&b"t"[..], b"", b""]);
    }
}
