//! The database's side: the daemon's log-in with the credential of the moment.
//!
//! Round trips of a log-in, over a channel that is open: one to ask for TLS, one for TLS 1.3's
//! handshake (two for 1.2's), one from the startup packet to the server's question, two for
//! SCRAM, the last of which also brings everything up to ReadyForQuery. Without TLS three.

mod authenticate;
mod error;
mod exchange;
mod tls;

use bytes::{Bytes, BytesMut};

pub use error::{DatabaseRefusal, LoginError};
pub use tls::{UpstreamTls, UpstreamTlsError, UpstreamTlsMode};

use exchange::{Failure, next};

use super::{CancelRequest, MaybeTls, StartupParameters, Stream, wire};
use crate::model::DatabaseCredential;

/// What the server may say between letting the daemon in and being ready.
const MAX_GREETING: usize = 256 * 1024;

/// A connection on which the server waits for a query.
#[derive(Debug)]
pub struct LoggedIn<S: Stream> {
    /// The connection. Not a byte of it has been read beyond the greeting.
    pub stream: MaybeTls<S>,
    /// What the server said after AuthenticationOk, byte for byte up to and with
    /// ReadyForQuery: its parameters, its cancel key, notices.
    pub greeting: Bytes,
    /// What would cancel a query on this connection, where the server gave a key.
    pub cancel: Option<CancelRequest>,
}

/// Logs in to the database: as the credential's user, to its database or the one that the
/// client chose, with every other parameter as the client gave it.
///
/// Answers SCRAM-SHA-256 (with channel binding where the server offers it and there is TLS),
/// MD5 and clear text; within the tunnel the latter two are no worse than the tunnel. Clear text
/// without TLS is refused to a server that has had TLS before: somebody may have taken it off.
/// Dropping the future closes the channel.
///
/// The client's protocol version goes to the server. Should the server answer that it speaks
/// an older one, that answer stays here: what the client was promised (see
/// [`ProtocolVersion::NEWEST`](super::ProtocolVersion::NEWEST)) holds with either.
///
/// # Errors
/// As [`LoginError`] tells apart. The time is the caller's to bound.
pub async fn log_in<S: Stream>(
    channel: S,
    tls: &UpstreamTls,
    credential: &DatabaseCredential,
    startup: &StartupParameters,
) -> Result<LoggedIn<S>, LoginError> {
    let packet = startup
        .encode_as(&credential.username, &credential.database)
        .map_err(|error| LoginError::Protocol(error.to_string()))?;
    let (mut stream, end_point) = tls.secure(channel, &credential.server).await?;
    wire::send(&mut stream, &packet).await?;
    let asks = startup.asks_for(&credential.database);
    let refused = |refusal: Bytes| LoginError::refused(refusal, asks);
    let may_say_password = stream.is_tls() || !tls.has_lost_tls(&credential.server);
    authenticate::authenticate(&mut stream, credential, end_point, may_say_password)
        .await
        .map_err(|failure| failure.or_refused(refused))?;
    let (greeting, cancel) = read_greeting(&mut stream)
        .await
        .map_err(|failure| failure.or_refused(refused))?;
    Ok(LoggedIn {
        stream,
        greeting,
        cancel,
    })
}

async fn read_greeting<S: Stream>(
    stream: &mut MaybeTls<S>,
) -> Result<(Bytes, Option<CancelRequest>), Failure> {
    let mut greeting = BytesMut::new();
    let mut cancel = None;
    loop {
        let message = next(stream).await?;
        greeting.extend_from_slice(message.raw());
        match message.tag() {
            // ParameterStatus, NoticeResponse, NotificationResponse.
            b'S' | b'N' | b'A' => {}
            b'K' => cancel = CancelRequest::parse(message.body()),
            b'Z' => return Ok((greeting.freeze(), cancel)),
            tag => {
                return Err(Failure::protocol(format!(
                    "a message of type {} where the log-in should end",
                    tag.escape_ascii()
                )));
            }
        }
        if greeting.len() > MAX_GREETING {
            return Err(Failure::protocol("the log-in doesn't come to an end"));
        }
    }
}

#[cfg(test)]
mod tests;
