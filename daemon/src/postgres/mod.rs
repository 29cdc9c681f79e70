//! PostgreSQL's protocol as far as the log-in goes, on both sides of a managed session.
//!
//! A client logs in to the session ([`greet`], [`Client::authenticate`]), the daemon logs in
//! to the database ([`log_in`]), and what the server said at the end of that log-in goes to
//! the client as it came ([`Authenticated::finish`]). From there on the bytes belong to
//! whoever splices the two streams; nothing here reads, counts or keeps a connection.
//!
//! Three rules hold throughout:
//!
//! - **Nothing is read ahead.** Every message is read by its own length and not a byte
//!   further, so no bytes are lost when a stream is handed on, and plain text that was
//!   stuffed before a TLS handshake can't be taken for something that came through it
//!   (CVE-2021-23214, CVE-2021-23222): it goes into the handshake and breaks it.
//! - **Every length is bounded** before memory is taken for it.
//! - **Time is the caller's.** No function here gives up by itself (but for the short
//!   [linger](refusal) after a refusal); each can be dropped at any await, which closes the
//!   stream.
//!
//! The protocol is described in PostgreSQL's manual, chapter "Frontend/Backend Protocol".

mod backend;
mod cancel;
mod certificate;
mod frontend;
pub(crate) mod last_words;
mod protocol_tracker;
mod query;
pub mod refusal;
mod startup;
mod stream;
mod wire;

pub use backend::{
    DatabaseRefusal, LoggedIn, LoginError, UpstreamTls, UpstreamTlsError, UpstreamTlsMode, log_in,
};
pub use cancel::{CancelRequest, forward as forward_cancel};
pub use frontend::{
    Authenticated, Client, ClientError, Greeting, LocalAuth, LocalTls, RefusalPace, ScramVerifier,
    ScramVerifierError, TlsOffer, greet, refuse_unread,
};
pub use protocol_tracker::{Activity, Boundary, ProtocolTracker};
pub use query::query;
pub use startup::{ProtocolVersion, StartupError, StartupParameters};
pub use stream::{MaybeTls, PoliteTls, PrefixedIo};

/// The name of PostgreSQL's protocol in TLS' application layer negotiation.
const ALPN: &[u8] = b"postgresql";

/// A stream that the log-ins run over.
pub trait Stream: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send {}

impl<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send> Stream for S {}
