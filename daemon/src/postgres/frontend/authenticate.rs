//! A client's log-in to the session: by the session's password on TCP, by being the same
//! operating system user on the Unix socket.

use std::{io, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use tokio::{io::AsyncReadExt, time::timeout};

use super::{
    Client, ClientError, Refusal,
    scram::{Exchange, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramError, ScramVerifier, User},
};
use crate::{
    model::{Cause, SessionName},
    postgres::{
        MaybeTls, PrefixedIo, StartupParameters, Stream, last_words, refusal,
        wire::{self, Message},
    },
};

/// What a SASL message may hold; PostgreSQL's own bound is 1024 bytes without the framing.
const MAX_SASL_BODY: usize = 2048;
/// PostgreSQL cuts names at 63 bytes; longer ones aren't repeated in messages.
const NAME_LENGTH: usize = 63;

/// What is kept of what a client sends before it may begin.
const EARLY_BYTES: usize = 8 * 1024;

/// What a client gets to take the greeting, which mostly fits into its socket's buffer.
const GREETING_LIMIT: Duration = Duration::from_secs(30);

const AUTHENTICATION_OK: [u8; 9] = *b"R\0\0\0\x08\0\0\0\0";
const SASL: u32 = 10;
const SASL_CONTINUE: u32 = 11;
const SASL_FINAL: u32 = 12;

/// How a client is let in.
#[derive(Debug, Clone, Copy)]
pub enum LocalAuth<'a> {
    /// By SCRAM as the user of the session's name (TCP).
    Password(&'a ScramVerifier),
    /// Without a password and under any name: the kernel says that the peer is the same
    /// operating system user, or root (Unix socket).
    SameUser,
    /// Not at all: the peer is somebody else (Unix socket).
    OtherUser {
        /// Whom the kernel says the peer is.
        uid: u32,
    },
}

/// A client that has been let in and been told so. What the database server says at the end of
/// its own log-in is what it waits for now; a refusal may come instead.
///
/// It is told at once, as PostgreSQL does, since libpq takes a refusal that comes before for
/// one of TLS: with `sslmode=prefer` it connects a second time, and says everything twice.
#[derive(Debug)]
pub struct Authenticated<S: Stream> {
    stream: MaybeTls<S>,
    startup: StartupParameters,
    /// What a client sent that didn't wait until it may begin.
    early: BytesMut,
}

// === impl Client: authentication ===

impl<S: Stream> Client<S> {
    /// Lets the client in or tells it why not.
    ///
    /// # Errors
    /// When it is refused, leaves, or doesn't follow the protocol; the connection is closed
    /// then.
    pub async fn authenticate(
        mut self,
        session: &SessionName,
        auth: LocalAuth<'_>,
    ) -> Result<Authenticated<S>, ClientError> {
        let outcome = match auth {
            LocalAuth::Password(verifier) => self.scram(session, verifier).await,
            LocalAuth::SameUser => self.welcome(&[]).await.map_err(Failure::Broken),
            LocalAuth::OtherUser { uid } => Err(Failure::Refused(stranger(
                self.startup.user(),
                session,
                uid,
            ))),
        };
        match outcome {
            Ok(()) => Ok(Authenticated {
                stream: self.stream,
                startup: self.startup,
                early: BytesMut::new(),
            }),
            Err(Failure::Refused(refusal)) => {
                if let (Some(pace), LocalAuth::Password(_)) = (&self.pace, auth) {
                    pace.turn().await;
                }
                Err(refusal.tell(self.stream).await)
            }
            Err(Failure::Broken(error)) => {
                // As a server that gives up ends it.
                last_words::say_and_linger(&mut self.stream, &[]).await;
                Err(error)
            }
        }
    }

    async fn scram(
        &mut self,
        session: &SessionName,
        verifier: &ScramVerifier,
    ) -> Result<(), Failure> {
        let mut mechanisms = BytesMut::new();
        let plus = self.end_point.is_some().then_some(SCRAM_SHA_256_PLUS);
        for mechanism in plus.into_iter().chain([SCRAM_SHA_256]) {
            mechanisms.put_slice(mechanism.as_bytes());
            mechanisms.put_u8(0);
        }
        mechanisms.put_u8(0);
        self.ask(SASL, &mechanisms).await?;

        let (mechanism, first) = initial_response(self.answer().await?)
            .ok_or_else(|| Refusal::new("08P01", "malformed SASLInitialResponse message"))?;
        let user = if self.startup.user() == session.as_str().as_bytes() {
            User::Known
        } else {
            User::Unknown(self.startup.user())
        };
        let end_point = self.end_point.as_ref();
        let refused = |error| refusal_of(error, self.startup.user(), session);
        let exchange =
            Exchange::begin(verifier, user, &mechanism, &first, end_point).map_err(refused)?;
        self.ask(SASL_CONTINUE, exchange.challenge().as_bytes())
            .await?;
        let last = self.answer().await?;
        let proof = exchange
            .finish(&last)
            .map_err(|error| refusal_of(error, self.startup.user(), session))?;
        self.welcome(&question(SASL_FINAL, proof.as_bytes()))
            .await?;
        Ok(())
    }

    /// Tells the client that it is in.
    async fn welcome(&mut self, before: &[u8]) -> Result<(), ClientError> {
        let bytes = [before, &AUTHENTICATION_OK].concat();
        wire::send(&mut self.stream, &bytes)
            .await
            .map_err(ClientError::Lost)
    }

    async fn ask(&mut self, kind: u32, data: &[u8]) -> Result<(), ClientError> {
        wire::send(&mut self.stream, &question(kind, data))
            .await
            .map_err(ClientError::Lost)
    }

    async fn answer(&mut self) -> Result<Bytes, Failure> {
        let message: Message = wire::read_message(&mut self.stream, MAX_SASL_BODY)
            .await
            .map_err(ClientError::from)?;
        if message.tag() != b'p' {
            return Err(Failure::Refused(Refusal::new(
                "08P01",
                format!("expected SASL response, got message type {}", message.tag()),
            )));
        }
        Ok(message.body())
    }
}

// === impl Authenticated ===

impl<S: Stream> Authenticated<S> {
    /// What the client asked for.
    pub fn startup(&self) -> &StartupParameters {
        &self.startup
    }

    /// Whether the client's end is encrypted.
    pub fn is_tls(&self) -> bool {
        self.stream.is_tls()
    }

    /// Tells the client what the server said at the end of its own log-in
    /// ([`LoggedIn::greeting`](crate::postgres::LoggedIn)), by which it knows that it may
    /// begin. Gives the stream for splicing, in which whatever the client sent early comes
    /// first.
    ///
    /// # Errors
    /// When the client's connection fails and the client has asked nothing yet. What it sent
    /// before it left is asked all the same.
    pub async fn finish(mut self, greeting: &[u8]) -> io::Result<PrefixedIo<MaybeTls<S>>> {
        let told = timeout(GREETING_LIMIT, wire::send(&mut self.stream, greeting)).await;
        match told {
            Ok(Err(error)) if self.early.is_empty() => Err(error),
            Err(too_late) => Err(too_late.into()),
            Ok(_) => Ok(PrefixedIo::new(self.early.freeze(), self.stream)),
        }
    }

    /// Waits until the client leaves, so that nothing more is done for it. Never ends for one
    /// that speaks before it may begin: what it says is kept, at most 8 KiB, and the rest left
    /// in the stream. Can be dropped and called again without loss.
    pub async fn left(&mut self) {
        if self.early.is_empty() {
            self.early.reserve(EARLY_BYTES);
            let mut early = (&mut self.early).limit(EARLY_BYTES);
            if matches!(self.stream.read_buf(&mut early).await, Ok(0) | Err(_)) {
                return;
            }
        }
        std::future::pending().await
    }

    /// Tells the client why it can't be served, and closes.
    pub async fn refuse(self, cause: &Cause, session: &SessionName) {
        self.refuse_with(&refusal::error_response(cause, session))
            .await;
    }

    /// Passes on an ErrorResponse as it came from the server, and closes.
    pub async fn refuse_with(self, error_response: &[u8]) {
        refusal::send_and_close(self.stream, error_response).await;
    }
}

/// What ends a log-in: something to tell the client, or nothing that it could hear.
enum Failure {
    Refused(Refusal),
    Broken(ClientError),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::Broken(error)
    }
}

fn question(kind: u32, data: &[u8]) -> Bytes {
    wire::frame(Some(b'R'), &[&kind.to_be_bytes(), data].concat())
}

/// Mechanism, length, data. A client that leaves the data for later is answered by
/// PostgreSQL with an empty challenge; no driver does.
fn initial_response(mut body: Bytes) -> Option<(Bytes, Bytes)> {
    let mechanism = wire::take_text(&mut body)?;
    let length = usize::try_from(wire::take_u32(&mut body)?).ok()?;
    (body.len() == length).then_some((mechanism, body))
}

fn refusal_of(error: ScramError, user: &[u8], session: &SessionName) -> Refusal {
    match error {
        // Its port may be taken for that of somebody else's daemon.
        ScramError::WrongPassword if user != session.as_str().as_bytes() => Refusal::new(
            "28000",
            format!(
                "this is the session {session} of {}, which user \"{}\" is not let in to; unless that is yours, no session of yours listens here",
                own_user(),
                printable(user)
            ),
        )
        .with_hint(format!(
            "`borealisctl list` shows the ports of your sessions; this one takes the user {session} with the password that its owner's `borealisctl show {session} --reveal` prints"
        )),
        ScramError::Protocol { sqlstate, message } => Refusal::new(sqlstate, message),
        ScramError::WrongPassword => Refusal::new(
            "28P01",
            format!(
                "password authentication failed for user \"{}\"",
                printable(user)
            ),
        )
        .with_hint(format!(
            "session \"{session}\" takes the user {session} with the password that `borealisctl show {session} --reveal` prints"
        )),
    }
}

fn stranger(user: &[u8], session: &SessionName, uid: u32) -> Refusal {
    Refusal::new(
        "28000",
        format!(
            "session \"{session}\": peer authentication failed for user \"{}\": this socket belongs to another operating system user than yours (uid {uid})",
            printable(user)
        ),
    )
    .with_hint(format!(
        "connect over TCP with the password that its owner's `borealisctl show {session} --reveal` prints"
    ))
}

/// The operating system user that the daemon runs as, by name where the environment has one.
fn own_user() -> String {
    let name = ["USER", "LOGNAME"].map(|variable| std::env::var(variable).ok());
    let uid = || format!("uid {}", rustix::process::geteuid().as_raw());
    name.into_iter()
        .flatten()
        .find(|name| !name.is_empty())
        .unwrap_or_else(uid)
}

fn printable(name: &[u8]) -> String {
    let name = &name[..name.len().min(NAME_LENGTH)];
    String::from_utf8_lossy(name)
        .chars()
        .filter(|c| !c.is_control())
        .collect()
}
