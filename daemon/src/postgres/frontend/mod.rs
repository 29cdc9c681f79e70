//! The client's side: what it opens with, TLS, its log-in to the session.
//!
//! [`greet`] takes a fresh connection to the point where it is known what the client wants;
//! [`Client::authenticate`] lets it in or not; [`Authenticated`] waits for what the database
//! server has to say. In each state the client can be refused with a cause.

mod authenticate;
mod error;
mod pace;
mod scram;
mod tls;

use std::sync::Arc;

use bytes::Bytes;

pub use authenticate::{Authenticated, LocalAuth};
pub use error::ClientError;
pub use pace::RefusalPace;
pub use scram::{ScramVerifier, ScramVerifierError};
pub use tls::{LocalTls, TlsOffer};

use super::{
    CancelRequest, MaybeTls, StartupParameters, Stream, last_words,
    refusal::{self, ErrorResponse},
    startup::{FirstPacket, StartupError},
    wire::{self, Opening, WireError},
};
use crate::model::{Cause, SessionName};

/// What came of a connection.
#[derive(Debug)]
pub enum Greeting<S: Stream> {
    /// A client that wants to log in.
    Startup(Client<S>),
    /// A cancel request. The stream is to be dropped once the request has been passed on:
    /// clients take its end for "done".
    Cancel(CancelRequest, MaybeTls<S>),
    /// Closed without a startup packet: `pg_isready`, a port probe, a client that gave up
    /// when it was told that there is no TLS. Nothing is wrong.
    Gone,
}

/// A client that said what it wants, and has not logged in yet.
#[derive(Debug)]
pub struct Client<S: Stream> {
    stream: MaybeTls<S>,
    startup: StartupParameters,
    /// The hash of the certificate that the client saw, for channel binding.
    end_point: Option<Bytes>,
    /// How fast it hears that its password is wrong.
    pace: Option<Arc<RefusalPace>>,
}

/// Takes a fresh connection to the point where it is known what the client wants.
///
/// Requests for TLS are answered by `tls`, also where the client begins with TLS at once
/// (`sslnegotiation=direct`), requests for GSSAPI encryption are declined; each may come once,
/// as in PostgreSQL. What the client asks of the protocol beyond
/// [`ProtocolVersion::NEWEST`](super::ProtocolVersion::NEWEST) is negotiated down.
///
/// Memory is bounded by a startup packet's 10,000 bytes and one TLS handshake; time is not:
/// the caller bounds it, by dropping the future.
///
/// # Errors
/// When the bytes make no sense or the connection fails. A startup packet that PostgreSQL
/// would refuse is refused in its words.
pub async fn greet<S: Stream>(stream: S, tls: &TlsOffer) -> Result<Greeting<S>, ClientError> {
    let Some((mut stream, packet)) = open(stream, tls).await? else {
        return Ok(Greeting::Gone);
    };
    let mut startup = match FirstPacket::parse(packet) {
        Ok(FirstPacket::Cancel(request)) => return Ok(Greeting::Cancel(request, stream)),
        Ok(FirstPacket::Startup(startup)) => startup,
        // Out of turn they are what their numbers look like: versions that nobody speaks.
        Ok(FirstPacket::SslRequest) => return Err(refused(StartupError::SSL_REQUEST, stream).await),
        Ok(FirstPacket::GssencRequest) => {
            return Err(refused(StartupError::GSSENC_REQUEST, stream).await);
        }
        Err(error) => return Err(refused(error, stream).await),
    };
    if let Some(message) = startup.negotiate() {
        wire::send(&mut stream, &message)
            .await
            .map_err(ClientError::Lost)?;
    }
    let end_point = match &stream {
        MaybeTls::Tls(_) => tls.end_point(),
        MaybeTls::Plain(_) => None,
    };
    Ok(Greeting::Startup(Client {
        stream,
        startup,
        end_point,
        pace: None,
    }))
}

/// Refuses a client of which nothing has been read: takes its startup packet, so that it is
/// ready to hear, tells it the cause and closes. Cancel requests, silence and nonsense are
/// closed without a word. Waits as long as the client does; the caller bounds the time.
pub async fn refuse_unread<S: Stream>(
    stream: S,
    tls: &TlsOffer,
    cause: &Cause,
    session: &SessionName,
) {
    if let Ok(Greeting::Startup(client)) = greet(stream, tls).await {
        client.refuse(cause, session).await;
    }
}

/// Tells a client that its first packet is none, in PostgreSQL's words.
async fn refused<S: Stream>(error: StartupError, stream: MaybeTls<S>) -> ClientError {
    let refusal = Refusal::new(error.sqlstate(), error.to_string());
    refusal.tell(stream).await
}

// === impl Client ===

impl<S: Stream> Client<S> {
    /// What it asked for.
    pub fn startup(&self) -> &StartupParameters {
        &self.startup
    }

    /// Has it told that its password is wrong no faster than others are.
    pub fn paced(self, pace: &Arc<RefusalPace>) -> Self {
        Self {
            pace: Some(Arc::clone(pace)),
            ..self
        }
    }

    /// Whether it came through TLS.
    pub fn is_tls(&self) -> bool {
        self.stream.is_tls()
    }

    /// Tells it why it can't be served, and closes. For states in which nobody is let in;
    /// `pg_isready` says "rejecting connections" where the cause's SQLSTATE is 57P03.
    pub async fn refuse(self, cause: &Cause, session: &SessionName) {
        self.refuse_with(&refusal::error_response(cause, session))
            .await;
    }

    /// Passes on an ErrorResponse, and closes.
    pub async fn refuse_with(self, error_response: &[u8]) {
        refusal::send_and_close(self.stream, error_response).await;
    }
}

/// An error that the client is told in PostgreSQL's words.
#[derive(Debug)]
struct Refusal {
    sqlstate: &'static str,
    message: String,
    hint: String,
}

// === impl Refusal ===

impl Refusal {
    fn new(sqlstate: &'static str, message: impl Into<String>) -> Self {
        Self {
            sqlstate,
            message: message.into(),
            hint: String::new(),
        }
    }

    fn with_hint(self, hint: impl Into<String>) -> Self {
        Self {
            hint: hint.into(),
            ..self
        }
    }

    async fn tell<S: Stream>(self, stream: MaybeTls<S>) -> ClientError {
        let response = ErrorResponse {
            sqlstate: self.sqlstate,
            message: &self.message,
            hint: &self.hint,
            ..ErrorResponse::default()
        };
        refusal::send_and_close(stream, &response.encode()).await;
        ClientError::Refused {
            sqlstate: self.sqlstate,
            message: self.message,
        }
    }
}

/// The encryption that has been talked about on a connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Asked {
    tls: bool,
    gss: bool,
}

/// Settles encryption; gives the stream and the first packet that is about something else.
/// `None` where the client closes instead.
async fn open<S: Stream>(
    mut stream: S,
    tls: &TlsOffer,
) -> Result<Option<(MaybeTls<S>, Bytes)>, ClientError> {
    let mut asked = Asked::default();
    loop {
        let packet = match read_opening(&mut stream).await? {
            Opening::Closed => return Ok(None),
            Opening::Tls(first) if asked == Asked::default() => {
                let first = Bytes::copy_from_slice(&first);
                return open_tls(tls.accept_direct(first, stream).await?).await;
            }
            Opening::Tls(_) => {
                return Err(ClientError::Nonsense("TLS begins out of turn".into()));
            }
            Opening::Packet(packet) => packet,
        };
        match FirstPacket::parse(packet.clone()) {
            Ok(FirstPacket::SslRequest) if !asked.tls => {
                asked.tls = true;
                stream = match tls.answer(stream).await? {
                    MaybeTls::Plain(stream) => stream,
                    through @ MaybeTls::Tls(_) => return open_tls(through).await,
                };
            }
            Ok(FirstPacket::GssencRequest) if !asked.gss => {
                asked.gss = true;
                wire::send(&mut stream, b"N")
                    .await
                    .map_err(ClientError::Lost)?;
            }
            _ => return Ok(Some((MaybeTls::Plain(stream), packet))),
        }
    }
}

/// The first packet within TLS.
async fn open_tls<S: Stream>(
    mut stream: MaybeTls<S>,
) -> Result<Option<(MaybeTls<S>, Bytes)>, ClientError> {
    match read_opening(&mut stream).await? {
        Opening::Closed => Ok(None),
        Opening::Packet(packet) => Ok(Some((stream, packet))),
        Opening::Tls(_) => {
            last_words::say_and_linger(&mut stream, &[]).await;
            Err(ClientError::Nonsense("TLS begins within TLS".into()))
        }
    }
}

/// Reads a first packet; closes the connection well where it has no possible length, about
/// which PostgreSQL says nothing to the client either.
async fn read_opening<S: Stream>(stream: &mut S) -> Result<Opening, ClientError> {
    let opening = wire::read_opening(stream).await;
    if let Err(WireError::Malformed(_)) = opening {
        last_words::say_and_linger(stream, &[]).await;
    }
    Ok(opening?)
}

#[cfg(test)]
mod tests;
