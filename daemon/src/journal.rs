//! What happened: the last events, for `borealisctl events`, and each new one for who
//! follows. A leaf: everybody may record, nobody is asked anything.
//!
//! The log is for those who mend the daemon; this is for its user, in the user's words. Both
//! are written where something happens. `state` keeps the events in a file: it takes what is
//! unsaved, and gives the next daemon what it finds there.

mod record;
mod ring;
mod unsaved;

use jiff::Timestamp;

use crate::model::{Cause, SessionName};

pub use record::{Failure, Record};
pub use ring::{CAPACITY, Following, Journal};

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Grows by one with each event, over restarts too.
    pub sequence: u64,
    /// When.
    pub at: Timestamp,
    /// What.
    pub kind: Kind,
    /// The session that it happened to; `None` where it happened to the daemon.
    pub session: Option<SessionName>,
    /// Why, where it is a failure.
    pub cause: Option<Cause>,
    /// What a kind and a cause don't say, such as a port.
    pub detail: String,
    /// How often it happened, where it is told once for all of them.
    pub count: u64,
    /// The event that told of it until now, and is gone.
    pub replaces: Option<u64>,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each one's sentence says what it means")]
pub enum Kind {
    DaemonStarted,
    DaemonStopping,
    SessionOpened,
    SessionUp,
    SessionClosed,
    SessionExpired,
    AttemptFailed,
    TunnelLost,
    CredentialRotated,
    TargetMoved,
    PortTaken,
    PortRegained,
    PortReplaced,
    PortReused,
    ConnectionRefused,
    PasswordRefused,
    CancelRefused,
    ConnectionsEnded,
    ConnectionEnded,
    QueryCancelled,
    LeftoversEnded,
    RequestRefused,
    Reloaded,
    ConfigRefused,
    TokenChanged,
    LoggedIn,
    LoggedOut,
}

/// A sentence, and how often it was so.
fn with_count(sentence: String, count: u64) -> String {
    match count {
        0 | 1 => sentence,
        count => format!("{sentence} ({count} times)"),
    }
}

// === impl Event ===

impl Event {
    /// What happened, in a sentence; the session goes without saying.
    pub fn sentence(&self) -> String {
        with_count(self.words(), self.count)
    }

    /// The same without how often.
    fn words(&self) -> String {
        let what = self.kind.sentence();
        let why = self.cause.as_ref().map(ToString::to_string);
        match (why, self.detail.as_str()) {
            // The cause says all of it.
            (Some(why), _) if matches!(self.kind, Kind::TunnelLost | Kind::PortTaken) => why,
            (Some(why), _) => format!("{what}: {why}"),
            (None, "") => what.to_owned(),
            (None, detail) => format!("{what} {detail}"),
        }
    }
}

// === impl Kind ===

impl Kind {
    /// Stable and machine readable.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DaemonStarted => "daemon-started",
            Self::DaemonStopping => "daemon-stopping",
            Self::SessionOpened => "session-opened",
            Self::SessionUp => "session-up",
            Self::SessionClosed => "session-closed",
            Self::SessionExpired => "session-expired",
            Self::AttemptFailed => "attempt-failed",
            Self::TunnelLost => "tunnel-lost",
            Self::CredentialRotated => "credential-rotated",
            Self::TargetMoved => "target-moved",
            Self::PortTaken => "port-taken",
            Self::PortRegained => "port-regained",
            Self::PortReplaced => "port-replaced",
            Self::PortReused => "port-reused",
            Self::ConnectionRefused => "connection-refused",
            Self::PasswordRefused => "password-refused",
            Self::CancelRefused => "cancel-refused",
            Self::ConnectionsEnded => "connections-ended",
            Self::ConnectionEnded => "connection-ended",
            Self::QueryCancelled => "query-cancelled",
            Self::LeftoversEnded => "leftovers-ended",
            Self::RequestRefused => "request-refused",
            Self::Reloaded => "reloaded",
            Self::ConfigRefused => "config-refused",
            Self::TokenChanged => "token-changed",
            Self::LoggedIn => "logged-in",
            Self::LoggedOut => "logged-out",
        }
    }

    fn sentence(self) -> &'static str {
        match self {
            Self::DaemonStarted => "borealisd started",
            Self::DaemonStopping => "borealisd is stopping",
            Self::SessionOpened => "opened",
            Self::SessionUp => "up",
            Self::SessionClosed => "closed",
            Self::SessionExpired => "its time is over",
            Self::AttemptFailed => "could not connect",
            Self::TunnelLost => "lost its tunnel",
            Self::CredentialRotated => "has new credentials",
            Self::TargetMoved => "its target leads elsewhere:",
            Self::PortTaken => "has no listener",
            Self::PortRegained => "has its port again",
            Self::PortReplaced => "has another port for now",
            Self::PortReused => "is closed, and has lost the port that was remembered for it",
            Self::ConnectionRefused => "refused a client",
            Self::PasswordRefused => "refused a log-in:",
            Self::CancelRefused => "closed a cancel request that is for none of its connections",
            Self::ConnectionsEnded => "ended open connections",
            Self::ConnectionEnded => "ended connection",
            Self::QueryCancelled => "cancelled what was run by connection",
            Self::LeftoversEnded => "ended what lost connections had left at the database",
            Self::RequestRefused => "a session was not opened",
            Self::Reloaded => "config and token were read again",
            Self::ConfigRefused => "the config was refused",
            Self::TokenChanged => "the Heroku token has changed",
            Self::LoggedIn => "logged in",
            Self::LoggedOut => "logged out",
        }
    }
}
