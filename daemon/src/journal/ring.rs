//! The events that are remembered, and who follows them.

mod saving;

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::broadcast, time::Instant};

use super::{Event, Kind, Record, unsaved::Unsaved};
use crate::{
    model::{Cause, SessionName},
    platform::clock,
};

/// How many events are remembered.
pub const CAPACITY: usize = 500;
/// How often something that goes on repeating is told anew.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// Records events. Clones share them.
#[derive(Debug, Clone)]
pub struct Journal(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    ring: Mutex<Ring>,
    /// Wakes who saves events.
    changed: Condvar,
}

#[derive(Debug)]
struct Ring {
    next: u64,
    /// Of earlier daemons, the oldest first.
    earlier: VecDeque<Arc<Record>>,
    events: VecDeque<Arc<Event>>,
    unsaved: Unsaved,
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

/// What was remembered at a moment, and everything from then on.
#[derive(Debug)]
pub struct Following {
    /// Of earlier daemons, the oldest first.
    pub earlier: Vec<Arc<Record>>,
    /// Of this one, the oldest first.
    pub recent: Vec<Arc<Event>>,
    /// What follows on them without a gap, unless the reader is slow.
    pub next: broadcast::Receiver<Arc<Event>>,
}

// === impl Journal ===

impl Journal {
    /// Empty.
    pub fn new() -> Self {
        Self::after(Vec::new())
    }

    /// Goes on after what earlier daemons have recorded, ordered by number.
    pub fn after(earlier: Vec<Record>) -> Self {
        let last = earlier.last().map_or(0, |record| record.sequence);
        let forgotten = earlier.len().saturating_sub(CAPACITY);
        let earlier = earlier.into_iter().skip(forgotten).map(Arc::new);
        let ring = Ring {
            next: last + 1,
            earlier: earlier.collect(),
            events: VecDeque::new(),
            unsaved: Unsaved::default(),
            repeats: HashMap::new(),
            followers: broadcast::Sender::new(CAPACITY),
        };
        Self(Arc::new(Shared {
            ring: Mutex::new(ring),
            changed: Condvar::new(),
        }))
    }

    /// Remembers something that happened to the daemon.
    pub fn record(&self, kind: Kind, detail: impl Into<String>) {
        self.ring().add(kind, None, None, detail.into());
        self.0.changed.notify_one();
    }

    /// Remembers something that happened to a session.
    pub fn of_session(&self, session: &SessionName, kind: Kind, detail: impl Into<String>) {
        let mut ring = self.ring();
        // What fails after this is news again.
        let of_session = Some(session.clone());
        ring.repeats.retain(|(known, ..), _| *known != of_session);
        ring.add(kind, of_session, None, detail.into());
        drop(ring);
        self.0.changed.notify_one();
    }

    /// Remembers something that others can make happen to a session as often as they like:
    /// counted where it repeats, and told anew once a minute at most.
    pub fn counted(&self, session: &SessionName, kind: Kind, detail: impl Into<String>) -> bool {
        self.repeat(kind, Some(session), None, detail.into())
    }

    /// Remembers a failure. One that repeats, be it between others, is counted, and told anew
    /// once a minute at most. Answers whether it was told.
    pub fn failure(&self, session: Option<&SessionName>, kind: Kind, cause: &Cause) -> bool {
        self.repeat(kind, session, Some(cause.clone()), String::new())
    }

    fn repeat(
        &self,
        kind: Kind,
        session: Option<&SessionName>,
        cause: Option<Cause>,
        detail: String,
    ) -> bool {
        let told = self.ring().repeat(kind, session.cloned(), cause, detail);
        self.0.changed.notify_one();
        told
    }

    /// What is remembered, and what happens next.
    pub fn follow(&self) -> Following {
        let ring = self.ring();
        Following {
            earlier: ring.earlier.iter().cloned().collect(),
            recent: ring.events.iter().cloned().collect(),
            next: ring.followers.subscribe(),
        }
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.0.ring.lock().unwrap_or_else(PoisonError::into_inner)
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
                self.unsaved.counted(event.sequence);
                return false;
            }
            self.events.remove(place);
        }
        let replaces = place.is_ok().then_some(repeats.sequence);
        (repeats.sequence, repeats.told_at) = (sequence, Instant::now());
        self.push(Event {
            sequence,
            at: clock::timestamp(),
            kind,
            session,
            cause,
            detail,
            count,
            replaces,
        });
        true
    }

    fn add(
        &mut self,
        kind: Kind,
        session: Option<SessionName>,
        cause: Option<Cause>,
        detail: String,
    ) {
        self.push(Event {
            sequence: self.next,
            at: clock::timestamp(),
            kind,
            session,
            cause,
            detail,
            count: 1,
            replaces: None,
        });
    }

    fn push(&mut self, event: Event) {
        let event = Arc::new(event);
        self.next += 1;
        if self.earlier.len() + self.events.len() == CAPACITY && self.earlier.pop_front().is_none()
        {
            self.events.pop_front();
        }
        self.events.push_back(Arc::clone(&event));
        self.unsaved.added(event.sequence);
        // Nobody may be following.
        let _ = self.followers.send(event);
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
