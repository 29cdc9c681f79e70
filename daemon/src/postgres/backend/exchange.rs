//! One message after the other, as the server says them during a log-in.

use bytes::Bytes;

use super::error::LoginError;
use crate::postgres::{
    MaybeTls, Stream,
    wire::{self, Message, WireError},
};

/// What one message of the server may hold during a log-in. Long ones are notices, errors and
/// settings such as `search_path`; libpq's own bound for errors is 30,000 bytes.
const MAX_MESSAGE_BODY: usize = 64 * 1024;
/// What stops a log-in: the server says no, or anything else.
#[derive(Debug)]
pub(super) enum Failure {
    Refused(Bytes),
    Broken(LoginError),
}

// === impl Failure ===

impl Failure {
    pub(super) fn protocol(problem: impl Into<String>) -> Self {
        Self::Broken(LoginError::Protocol(problem.into()))
    }

    pub(super) fn or_refused(self, refused: impl FnOnce(Bytes) -> LoginError) -> LoginError {
        match self {
            Self::Refused(response) => refused(response),
            Self::Broken(error) => error,
        }
    }
}

impl<E: Into<LoginError>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Broken(error.into())
    }
}

/// The next message that isn't the server's refusal.
pub(super) async fn next<S: Stream>(stream: &mut MaybeTls<S>) -> Result<Message, Failure> {
    let message =
        wire::read_message(stream, MAX_MESSAGE_BODY)
            .await
            .map_err(|error| match error {
                WireError::Closed => LoginError::Lost(std::io::Error::new(
                    std::io::ErrorKind::UnexpectedEof,
                    "the server closed the connection",
                )),
                WireError::Io(error) => LoginError::Lost(error),
                WireError::Malformed(problem) => LoginError::Protocol(problem),
            })?;
    if message.tag() == b'E' {
        return Err(Failure::Refused(message.raw().clone()));
    }
    Ok(message)
}
