//! Why a client does not get in.

use std::io;

use crate::postgres::wire::WireError;

/// Why a client did not get in. It has been told whatever it can be told, and its connection
/// is closed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// It closed during the log-in, as psql does to ask its user for a password.
    #[error("the client left during the log-in")]
    Left,
    /// The connection failed, or was closed within a message.
    #[error("the client's connection was lost during the log-in: {0}")]
    Lost(#[source] io::Error),
    /// The TLS handshake failed; among others when the client doesn't trust the certificate.
    #[error("TLS with the client failed: {0}")]
    Tls(String),
    /// What it sent isn't PostgreSQL's protocol.
    #[error("not a PostgreSQL client: {0}")]
    Nonsense(String),
    /// It was refused.
    #[error("the client was refused ({sqlstate}: {message})")]
    Refused {
        /// The SQLSTATE that it was told.
        sqlstate: &'static str,
        /// The message that it was told.
        message: String,
    },
}

impl From<WireError> for ClientError {
    fn from(error: WireError) -> Self {
        match error {
            WireError::Closed => Self::Left,
            WireError::Io(error) => Self::Lost(error),
            WireError::Malformed(problem) => Self::Nonsense(problem),
        }
    }
}
