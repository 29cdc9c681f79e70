//! What happened: the last events, for `borealisctl events`, and each new one for who
//! follows. A leaf: everybody may record, nobody is asked anything.
//!
//! The log is for those who mend the daemon; this is for its user, in the user's words. Both
//! are written where something happens.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use tokio::{sync::broadcast, time::Instant};

use crate::{
    model::{Cause, SessionName},
    platform::clock,
};

/// How many events are remembered.
const CAPACITY: usize = 500;
/// How often something that goes on repeating is told anew.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// Records events. Clones share them.
#[derive(Debug, Clone)]
pub struct Journal(Arc<Mutex<Ring>>);

#[derive(Debug)]
struct Ring {
    next: u64,
    events: VecDeque<Arc<Event>>,
    repeats: HashMap<Repeated, Repeats>,
    followers: broadcast::Sender<Arc<Event>>,
}

/// What happened again: the same to the same session, for the same reason. Two causes with the
/// same code may differ in a number, such as how long a client waited.
type Repeated = (Option<SessionName>, Kind, &'static str);

#[derive(Debug)]
struct Repeats {
    /// The event that has been told.
    sequence: u64,
    told_at: Instant,
    count: u64,
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
    /// How often it happened, where it is told once for all of them.
    pub count: u64,
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
            repeats: HashMap::new(),
            followers: broadcast::Sender::new(CAPACITY),
        })))
    }

    /// Remembers something that happened to the daemon.
    pub fn record(&self, kind: Kind, detail: impl Into<String>) {
        self.ring().add(kind, None, None, detail.into(), 1);
    }

    /// Remembers something that happened to a session.
    pub fn of_session(&self, session: &SessionName, kind: Kind, detail: impl Into<String>) {
        let mut ring = self.ring();
        // What fails after this is news again.
        let of_session = Some(session.clone());
        ring.repeats.retain(|(known, ..), _| *known != of_session);
        ring.add(kind, of_session, None, detail.into(), 1);
    }

    /// Remembers something that others can make happen to a session as often as they like:
    /// counted where it repeats, and told anew once a minute at most.
    pub fn counted(&self, session: &SessionName, kind: Kind, detail: impl Into<String>) -> bool {
        let session = Some(session.clone());
        self.ring().repeat(kind, session, None, detail.into())
    }

    /// Remembers a failure. One that repeats, be it between others, is counted, and told anew
    /// once a minute at most. Answers whether it was told.
    pub fn failure(&self, session: Option<&SessionName>, kind: Kind, cause: &Cause) -> bool {
        let session = session.cloned();
        self.ring()
            .repeat(kind, session, Some(cause.clone()), String::new())
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
    /// Adds what happened, or counts it with the event that tells of it already.
    fn repeat(
        &mut self,
        kind: Kind,
        session: Option<SessionName>,
        cause: Option<Cause>,
        detail: String,
    ) -> bool {
        let code = cause.as_ref().map_or("", |cause| cause.kind().code);
        let sequence = self.next;
        let repeats = self
            .repeats
            .entry((session.clone(), kind, code))
            .or_insert_with(|| Repeats {
                sequence,
                told_at: Instant::now(),
                count: 0,
            });
        repeats.count += 1;
        let count = repeats.count;
        let place = self
            .events
            .binary_search_by_key(&repeats.sequence, |event| event.sequence);
        if let Ok(place) = place {
            if repeats.told_at.elapsed() < TELL_AGAIN {
                let event = Arc::make_mut(&mut self.events[place]);
                (event.count, event.cause, event.detail) = (count, cause, detail);
                return false;
            }
            self.events.remove(place);
        }
        (repeats.sequence, repeats.told_at) = (sequence, Instant::now());
        self.add(kind, session, cause, detail, count);
        true
    }

    fn add(
        &mut self,
        kind: Kind,
        session: Option<SessionName>,
        cause: Option<Cause>,
        detail: String,
        count: u64,
    ) {
        let event = Arc::new(Event {
            sequence: self.next,
            at: clock::timestamp(),
            kind,
            session,
            cause,
            detail,
            count,
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
        let told = match (why, self.detail.as_str()) {
            // The cause says all of it.
            (Some(why), _) if matches!(self.kind, Kind::TunnelLost | Kind::PortTaken) => why,
            (Some(why), _) => format!("{what}: {why}"),
            (None, "") => what.to_owned(),
            (None, detail) => format!("{what} {detail}"),
        };
        match self.count {
            0 | 1 => told,
            count => format!("{told} ({count} times)"),
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

    /// A pool of clients that retry in an outage, beside the session's own attempts.
    #[tokio::test(start_paused = true)]
    async fn what_repeats_between_others_is_counted_and_told_again_now_and_then() {
        let journal = Journal::new();
        journal.record(Kind::DaemonStarted, "");
        let (sushi, ramen) = (sushi(), SessionName::parse("ramen").unwrap());
        let timed_out = |milliseconds| Cause::HoldTimeout {
            waited: Duration::from_millis(milliseconds),
            because: None,
        };
        let mut told = 0;
        for number in 0..1000 {
            let cause = timed_out(30_000 + number);
            for session in [&sushi, &ramen] {
                told += u32::from(journal.failure(Some(session), Kind::ConnectionRefused, &cause));
                journal.failure(Some(session), Kind::AttemptFailed, &Cause::NoNetwork);
                journal.counted(session, Kind::PasswordRefused, "no");
            }
        }
        assert_eq!(told, 2);
        let recent = journal.follow().recent;
        assert_eq!((recent.len(), recent[0].kind), (7, Kind::DaemonStarted));
        let refused = recent[1].sentence();
        assert!(refused.ends_with("within 31 s (1000 times)"), "{refused}");
        assert_eq!(recent[3].sentence(), "refused a log-in: no (1000 times)");

        let mut following = journal.follow();
        tokio::time::advance(TELL_AGAIN).await;
        assert!(journal.failure(Some(&sushi), Kind::ConnectionRefused, &timed_out(1)));
        let again = following.next.try_recv().unwrap();
        assert_eq!((again.sequence, again.count), (8, 1001));
        assert_eq!(journal.follow().recent.len(), 7);
        // It is news again once the session was up.
        journal.of_session(&sushi, Kind::SessionUp, "");
        assert!(journal.failure(Some(&sushi), Kind::ConnectionRefused, &timed_out(1)));
        assert_eq!(following.next.try_recv().unwrap().kind, Kind::SessionUp);
        assert_eq!(following.next.try_recv().unwrap().count, 1);
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
        assert_eq!(journal.follow().recent.len(), 5);
        assert_eq!(
            journal.follow().recent[0].sentence(),
            "could not connect: this machine has no network (4 times)"
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
