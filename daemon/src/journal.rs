//! What happened: the last events, for `borealisctl events`, and each new one for who
//! follows. A leaf: everybody may record, nobody is asked anything.
//!
//! The log is for those who mend the daemon; this is for its user, in the user's words. Both
//! are written where something happens.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use tokio::sync::broadcast;

use crate::model::{Cause, SessionName};

/// How many events are remembered.
const CAPACITY: usize = 500;

/// Records events. Clones share them.
#[derive(Debug, Clone)]
pub struct Journal(Arc<Mutex<Ring>>);

#[derive(Debug)]
struct Ring {
    next: u64,
    events: VecDeque<Arc<Event>>,
    followers: broadcast::Sender<Arc<Event>>,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Grows by one with each event since the daemon started.
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
    PortTaken,
    PortRegained,
    PortReplaced,
    PortReused,
    ConnectionRefused,
    ConnectionsEnded,
    RequestRefused,
    Reloaded,
    ConfigRefused,
    TokenChanged,
    LoggedIn,
    LoggedOut,
}

/// What was remembered at a moment, and everything from then on.
#[derive(Debug)]
pub struct Following {
    /// The oldest first.
    pub recent: Vec<Arc<Event>>,
    /// What follows on them without a gap, unless the reader is slow.
    pub next: broadcast::Receiver<Arc<Event>>,
}

// === impl Journal ===

impl Journal {
    /// Empty.
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(Ring {
            next: 1,
            events: VecDeque::new(),
            followers: broadcast::Sender::new(CAPACITY),
        })))
    }

    /// Remembers something that happened to the daemon.
    pub fn record(&self, kind: Kind, detail: impl Into<String>) {
        self.ring().add(kind, None, None, detail.into());
    }

    /// Remembers something that happened to a session.
    pub fn of_session(&self, session: &SessionName, kind: Kind, detail: impl Into<String>) {
        self.ring()
            .add(kind, Some(session.clone()), None, detail.into());
    }

    /// Remembers a failure. One that repeats the last of the same session is left out: a
    /// session that tries all night tells of it once.
    pub fn failure(&self, session: Option<&SessionName>, kind: Kind, cause: &Cause) {
        let mut ring = self.ring();
        let last = ring
            .events
            .iter()
            .rev()
            .find(|event| event.session.as_ref() == session);
        if last.is_some_and(|last| last.kind == kind && last.cause.as_ref() == Some(cause)) {
            return;
        }
        ring.add(kind, session.cloned(), Some(cause.clone()), String::new());
    }

    /// What is remembered, and what happens next.
    pub fn follow(&self) -> Following {
        let ring = self.ring();
        Following {
            recent: ring.events.iter().cloned().collect(),
            next: ring.followers.subscribe(),
        }
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Journal {
    fn default() -> Self {
        Self::new()
    }
}

// === impl Ring ===

impl Ring {
    fn add(
        &mut self,
        kind: Kind,
        session: Option<SessionName>,
        cause: Option<Cause>,
        detail: String,
    ) {
        let event = Arc::new(Event {
            sequence: self.next,
            at: Timestamp::now(),
            kind,
            session,
            cause,
            detail,
        });
        self.next += 1;
        if self.events.len() == CAPACITY {
            self.events.pop_front();
        }
        self.events.push_back(Arc::clone(&event));
        // Nobody may be following.
        let _ = self.followers.send(event);
    }
}

// === impl Event ===

impl Event {
    /// What happened, in a sentence; the session goes without saying.
    pub fn sentence(&self) -> String {
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
            Self::PortTaken => "port-taken",
            Self::PortRegained => "port-regained",
            Self::PortReplaced => "port-replaced",
            Self::PortReused => "port-reused",
            Self::ConnectionRefused => "connection-refused",
            Self::ConnectionsEnded => "connections-ended",
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
            Self::PortTaken => "has no listener",
            Self::PortRegained => "has its port again",
            Self::PortReplaced => "has another port for now",
            Self::PortReused => "is closed, and has lost the port that was remembered for it",
            Self::ConnectionRefused => "refused a client",
            Self::ConnectionsEnded => "ended open connections",
            Self::RequestRefused => "a session was not opened",
            Self::Reloaded => "config and token were read again",
            Self::ConfigRefused => "the config was refused",
            Self::TokenChanged => "the Heroku token has changed",
            Self::LoggedIn => "logged in",
            Self::LoggedOut => "logged out",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sushi() -> SessionName {
        SessionName::parse("sushi").unwrap()
    }

    #[test]
    fn the_oldest_are_forgotten_and_numbers_go_on() {
        let journal = Journal::new();
        for number in 0..CAPACITY + 3 {
            journal.of_session(&sushi(), Kind::SessionUp, number.to_string());
        }
        let recent = journal.follow().recent;
        assert_eq!(recent.len(), CAPACITY);
        assert_eq!((recent[0].sequence, recent[0].detail.as_str()), (4, "3"));
        assert_eq!(recent[CAPACITY - 1].sequence, CAPACITY as u64 + 3);
    }

    #[test]
    fn a_failure_that_repeats_is_told_once() {
        let journal = Journal::new();
        let name = sushi();
        let failed = |cause: &Cause| journal.failure(Some(&name), Kind::AttemptFailed, cause);
        failed(&Cause::NoNetwork);
        failed(&Cause::NoNetwork);
        journal.record(Kind::Reloaded, "");
        failed(&Cause::NoNetwork);
        assert_eq!(journal.follow().recent.len(), 2);
        failed(&Cause::NotLoggedIn);
        failed(&Cause::NoNetwork);
        journal.of_session(&name, Kind::SessionUp, "");
        failed(&Cause::NoNetwork);
        assert_eq!(journal.follow().recent.len(), 6);
        assert_eq!(
            journal.follow().recent[0].sentence(),
            "could not connect: this machine has no network"
        );
    }

    #[tokio::test]
    async fn what_follows_has_no_gap() {
        let journal = Journal::new();
        journal.record(Kind::DaemonStarted, "");
        let mut following = journal.follow();
        journal.record(Kind::Reloaded, "");
        assert_eq!(following.recent.len(), 1);
        let next = following.next.recv().await.unwrap();
        assert_eq!((next.sequence, next.kind), (2, Kind::Reloaded));
    }
}
