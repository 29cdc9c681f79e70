//! Refusals in PostgreSQL's own protocol, so that a client shows its user why there is no
//! connection and what to do: the third voice of a [`Cause`].
//!
//! A refusal is written, the stream is half-closed, and what the client still sends is read
//! and dropped for a moment, all within the bounds of [`last_words`].

use bytes::{BufMut, Bytes, BytesMut};

use super::{Stream, last_words, wire};
use crate::model::{Cause, SessionName};

/// An ErrorResponse as the server's side of the protocol writes it.
#[derive(Debug, Clone, Default)]
pub(super) struct ErrorResponse<'a> {
    pub(super) sqlstate: &'a str,
    pub(super) message: &'a str,
    pub(super) detail: &'a str,
    pub(super) hint: &'a str,
}

/// The ErrorResponse that says why a session can't serve a client: severity FATAL, the
/// SQLSTATE of the cause, its sentence with the session's name before it, its hint.
pub fn error_response(cause: &Cause, session: &SessionName) -> Bytes {
    let words = cause.words();
    ErrorResponse {
        sqlstate: cause.kind().sqlstate,
        message: &format!("session \"{session}\": {}", words.sentence),
        hint: &words.hint,
        detail: "",
    }
    .encode()
}

/// The ErrorResponse that ends an established connection: as [`error_response`], but always
/// 57P01, which poolers and drivers take for the end of the connection and nothing else.
pub fn farewell(cause: &Cause, session: &SessionName) -> Bytes {
    let words = cause.words();
    ErrorResponse {
        sqlstate: "57P01",
        message: &format!("session \"{session}\": {}", words.sentence),
        hint: &words.hint,
        detail: "",
    }
    .encode()
}

/// What a probe such as `pg_isready` is told while the session is not up, whatever the
/// reason: 57P03, which it shows as "rejecting connections".
pub fn not_ready(session: &SessionName) -> Bytes {
    ErrorResponse {
        sqlstate: "57P03",
        message: &format!("session \"{session}\" is not up"),
        hint: "see `borealisctl list`",
        detail: "",
    }
    .encode()
}

/// Writes an ErrorResponse and closes, within some seconds. A client that is gone already is no
/// error.
pub async fn send_and_close<S: Stream>(mut stream: S, error_response: &[u8]) {
    last_words::say_and_linger(&mut stream, error_response).await;
}

// === impl ErrorResponse ===

impl ErrorResponse<'_> {
    pub(super) fn encode(&self) -> Bytes {
        let mut body = BytesMut::new();
        let fields = [
            (b'S', "FATAL"),
            (b'V', "FATAL"),
            (b'C', self.sqlstate),
            (b'M', self.message),
            (b'D', self.detail),
            (b'H', self.hint),
        ];
        for (field, text) in fields {
            if text.is_empty() {
                continue;
            }
            body.put_u8(field);
            // A zero byte would end the field, and what follows be read as another.
            body.extend(text.bytes().filter(|byte| *byte != 0));
            body.put_u8(0);
        }
        body.put_u8(0);
        wire::frame(Some(b'E'), &body)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::postgres::backend::DatabaseRefusal;
    use crate::postgres::{TlsOffer, refuse_unread};

    fn session() -> SessionName {
        SessionName::parse("sushi").unwrap()
    }

    #[test]
    fn a_cause_becomes_an_error_response() {
        let bytes = error_response(&Cause::TooManyConnections { limit: 200 }, &session());
        let fields = b"SFATAL\0VFATAL\0C53300\0\
            Msession \"sushi\": the session has its 200 connections already\0\
            Hclose some, or raise max_connections in config.toml\0\0";
        assert_eq!(bytes, wire::frame(Some(b'E'), fields));
    }

    #[test]
    fn a_zero_byte_in_a_text_makes_no_field() {
        let response = ErrorResponse {
            sqlstate: "XX000",
            message: "a\0Cb",
            ..ErrorResponse::default()
        };
        let refusal = DatabaseRefusal::parse(response.encode());
        assert_eq!(refusal.sqlstate(), "XX000");
        assert!(refusal.message().ends_with("aCb"), "{}", refusal.message());
    }

    #[tokio::test]
    async fn an_unread_client_hears_the_cause() {
        let (client, server) = tokio::io::duplex(1024);
        let asked = async {
            let (mut read, mut write) = tokio::io::split(client);
            write
                .write_all(b"\0\0\0\x08\x04\xd2\x16\x2f")
                .await
                .unwrap();
            assert_eq!(read.read_u8().await.unwrap(), b'N');
            write
                .write_all(b"\0\0\0\x10\0\x03\0\0user\0u\0\0")
                .await
                .unwrap();
            let mut heard = Vec::new();
            read.read_to_end(&mut heard).await.unwrap();
            heard
        };
        let cause = Cause::NoNetwork;
        let session = session();
        let (heard, ()) = tokio::join!(
            asked,
            refuse_unread(server, &TlsOffer::Declined, &cause, &session)
        );
        assert_eq!(heard, error_response(&cause, &session));
    }
}
