//! Gives a connection that was kept ready to a client, once it is proved to be alive.
//!
//! The database may have ended the connection, or the tunnel be dead, while the news of it is
//! still under way. So a Sync goes ahead of whatever the client asks, and nothing is passed on
//! before its answer is there. Where that doesn't come, the database has seen nothing of what
//! the client asked, and it can be asked again on a new connection, whatever it is. The proof
//! costs a round trip, where a log-in would cost six; a database that takes much longer hangs, or
//! its host does.

use std::{io, time::Duration};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split},
    time::sleep,
};

/// Sync, which changes nothing on a connection where nothing is asked.
const SYNC: &[u8] = b"S\0\0\0\x04";
/// ReadyForQuery is so long.
const READY: usize = 6;
/// What a client may ask before the proof is there; the rest waits in its socket.
const ASKED: usize = 64 * 1024;
/// What the database may say before it.
const SAID: usize = 64 * 1024;

/// What the proof may take on a line with this round trip: some of them, for a line that is busy
/// or loses packets, and where it is short what a busy server may take.
pub(crate) fn limit(round_trip: Duration) -> Duration {
    (round_trip * 4).max(Duration::from_secs(1))
}

/// What came of a handover.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Liveness {
    /// The client's from now on.
    Alive {
        /// What the client asked meanwhile.
        asked: Bytes,
        /// What the database has said, but for the proof.
        said: Bytes,
    },
    /// It had ended, or its tunnel has, or no answer came within the limit.
    Dead {
        /// What the client asked, of which nothing was passed on.
        asked: Bytes,
    },
}

/// Proves that `database` is alive while the client begins. A client that ends, be it by an
/// error, has asked all the same.
pub(crate) async fn check_liveness<C, D>(
    client: &mut C,
    database: &mut D,
    limit: Duration,
) -> Liveness
where
    C: AsyncRead + AsyncWrite + Unpin,
    D: AsyncRead + AsyncWrite + Unpin,
{
    let (mut from_database, mut to_database) = split(database);
    let mut said = BytesMut::with_capacity(1024);
    let mut looked_at = 0;
    let mut asked = BytesMut::with_capacity(1024);
    let mut client_has_ended = false;
    let mut proof = SYNC;
    let mut needs_flush = true;
    let too_late = sleep(limit);
    tokio::pin!(too_late);
    loop {
        let may_ask = !client_has_ended && asked.len() < ASKED;
        tokio::select! {
            biased;
            read = from_database.read_buf(&mut said) => {
                let heard = match read {
                    Ok(1..) => scan(&said, &mut looked_at),
                    Ok(0) | Err(_) => Scanned::Other,
                };
                match heard {
                    Scanned::Nothing if said.len() < SAID => {}
                    Scanned::Ready => return alive(asked, said, looked_at),
                    Scanned::Nothing | Scanned::Other => {
                        return Liveness::Dead { asked: asked.freeze() };
                    }
                }
            }
            passed = push(&mut to_database, proof), if needs_flush => {
                needs_flush = !proof.is_empty();
                // Where it takes no more, its other direction ends too.
                proof = &proof[passed.unwrap_or(proof.len())..];
            }
            read = client.read_buf(&mut asked), if may_ask => {
                client_has_ended = !matches!(read, Ok(1..));
            }
            () = &mut too_late => return Liveness::Dead { asked: asked.freeze() },
        }
    }
}

/// What was said but for the proof, which stands at `looked_at`, is the client's.
fn alive(asked: BytesMut, mut said: BytesMut, looked_at: usize) -> Liveness {
    let mut beyond = said.split_off(looked_at);
    beyond.advance(READY);
    said.unsplit(beyond);
    Liveness::Alive {
        asked: asked.freeze(),
        said: said.freeze(),
    }
}

/// One step, that can be given up without loss: writes, or flushes where nothing is left to
/// write. How much was written.
async fn push<W: AsyncWrite + Unpin>(writer: &mut W, bytes: &[u8]) -> io::Result<usize> {
    if bytes.is_empty() {
        return writer.flush().await.map(|()| 0);
    }
    writer.write(bytes).await
}

/// What the database has said.
#[derive(Debug, PartialEq, Eq)]
enum Scanned {
    /// That it is ready, at the place that is looked at.
    Ready,
    /// What may come at any time, or nothing whole yet.
    Nothing,
    /// Anything else.
    Other,
}

/// Looks at what is new, from `looked_at` on.
fn scan(said: &[u8], looked_at: &mut usize) -> Scanned {
    loop {
        let rest = said.get(*looked_at..).unwrap_or_default();
        let Some(&[tag, a, b, c, d]) = rest.first_chunk::<5>() else {
            return Scanned::Nothing;
        };
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        match tag {
            b'Z' if length == READY - 1 && rest.len() >= READY => return Scanned::Ready,
            b'Z' if length == READY - 1 => return Scanned::Nothing,
            b'S' | b'N' | b'A' if (4..SAID).contains(&length) => {}
            _ => return Scanned::Other,
        }
        if rest.len() < 1 + length {
            return Scanned::Nothing;
        }
        *looked_at += 1 + length;
    }
}

/// The parameters that a new connection's greeting has and an earlier one's hasn't, as
/// messages.
pub(crate) fn changed_parameters(before: &Bytes, now: &Bytes) -> Bytes {
    let known: Vec<Bytes> = parameters(before).collect();
    let mut changed = BytesMut::new();
    for parameter in parameters(now) {
        if !known.contains(&parameter) {
            changed.extend_from_slice(&parameter);
        }
    }
    changed.freeze()
}

fn parameters(greeting: &Bytes) -> impl Iterator<Item = Bytes> {
    let mut rest = greeting.clone();
    std::iter::from_fn(move || {
        let length = u32::from_be_bytes(rest.get(1..5)?.try_into().ok()?);
        let whole = usize::try_from(length).ok()?.checked_add(1)?;
        (whole <= rest.len()).then(|| rest.split_to(whole))
    })
    .filter(|message| message.first() == Some(&b'S'))
}

#[cfg(test)]
mod tests;
