//! `COPY … FROM STDIN`: standard input to the database, while its messages are read, since
//! one that nobody reads would in the end keep it from reading.

use bytes::BytesMut;
use postgres_protocol::message::{backend::Message, frontend};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{
    CopyFrom, complaint,
    connection::{Connection, lost},
};
use crate::{
    failure::{Failure, reason},
    output::Output,
};

/// Bytes of standard input that are read ahead.
const AHEAD: usize = 64 * 1024;

/// Sends the data; returns with the message that the database sent before the end of it
/// (an error), or `None` when all has been sent.
pub(super) async fn send(
    connection: &mut Connection,
    from: CopyFrom,
    output: &Output,
) -> Result<Option<Message>, Failure> {
    if from == CopyFrom::Nowhere {
        let why = "the SQL itself was read from standard input, so there is no data left to copy";
        connection.send(|out| frontend::copy_fail(why, out)).await?;
        return Ok(None);
    }
    let mut stdin = tokio::io::stdin();
    let mut data = BytesMut::with_capacity(AHEAD);
    let mut pending = BytesMut::new();
    let mut at_end = false;
    let Connection { incoming, outgoing } = connection;
    while !at_end || !pending.is_empty() {
        tokio::select! {
            message = incoming.next() => match message? {
                Message::NoticeResponse(body) => output.notice(&complaint::notice(&body)?),
                Message::ParameterStatus(_) | Message::NotificationResponse(_) => {}
                other => return Ok(Some(other)),
            },
            read = stdin.read_buf(&mut data), if !at_end && pending.is_empty() => match read {
                Ok(0) => {
                    at_end = true;
                    frontend::copy_done(&mut pending);
                }
                Ok(_) => {
                    let message = frontend::CopyData::new(&data[..]).map_err(|error| lost(&error))?;
                    message.write(&mut pending);
                    data.clear();
                }
                Err(error) => {
                    at_end = true;
                    let why = format!("can't read standard input: {}", reason(&error));
                    frontend::copy_fail(&why, &mut pending).map_err(|error| lost(&error))?;
                }
            },
            written = outgoing.write_buf(&mut pending), if !pending.is_empty() => {
                written.map_err(|error| lost(&error))?;
            }
        }
    }
    Ok(None)
}
