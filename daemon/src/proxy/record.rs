//! What is known of each local client that is there: written by its own task, read by whoever
//! lists. Nothing of what a statement says is among it.
//!
//! What changes while bytes pass is an atomic with one writer. The lock of the [`Registry`] is
//! taken at a connection's begin and end, and by who lists.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, ready},
};
use jiff::Timestamp;
use tokio::time::timeout;

use super::drain::{Drain, DrainReceiver};
use crate::{
    model::Cause,
    platform::clock::{self, BootInstant, Clock},
    postgres::{Activity, StartupParameters},
};

/// What is kept of a text that a client says of itself: more than PostgreSQL's 63 bytes.
const LONGEST_TEXT: usize = 256;
/// What a client gets to take its last words, once it is to be ended.
const END_LIMIT: Duration = Duration::from_secs(4);

/// Numbers are given once while the process runs, whatever session asks.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// The clients of one session that are there now.
#[derive(Debug, Default)]
pub struct Registry(Mutex<BTreeMap<u64, Arc<ConnectionRecord>>>);

/// What is known of one client.
pub struct ConnectionRecord {
    /// Never used again while the daemon runs.
    pub id: u64,
    /// How it came.
    pub peer: PeerProcess,
    /// When it came.
    pub since: Timestamp,
    pub(super) live: Live,
    login: OnceLock<Login>,
    backend_pid: AtomicU32,
    tunnel: AtomicU64,
    /// Ends this client alone.
    drain: Drain,
    cancel: OnceLock<CancelQuery>,
}

/// By what the process at a client's end is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerProcess {
    /// By the two ports of its connection; zero where one is not known.
    Tcp {
        /// The client's own.
        client: u16,
        /// The session's.
        session: u16,
    },
    /// The process that connected, as the kernel says; zero where it does not.
    Unix {
        /// Its id.
        pid: u32,
    },
}

/// What a client said at its log-in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// `application_name`; empty where it said none.
    pub application_name: String,
    /// The database that it chose; `None` where it gets the session's.
    pub database: Option<String>,
    /// Whether its own end is encrypted by the daemon.
    pub tls: bool,
}

/// What a connection is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// The client says who it is.
    LoggingIn,
    /// It waits for the tunnel, or for the log-in to the database.
    Held,
    /// The server works for it.
    Active,
    /// Nothing is asked and no transaction is open.
    Idle,
    /// Nothing is asked, and a transaction is open.
    IdleInTransaction,
    /// The same after an error.
    Aborted,
    /// The bytes are not the daemon's to understand.
    Passthrough,
}

/// What changes while bytes pass. Only the connection's task writes.
#[derive(Debug)]
pub(super) struct Live {
    /// The state in the low bits, and above them the millisecond since boot when it was entered:
    /// one store, so that no reader sees one with the time of another.
    state: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
}

/// Asks the server to cancel what a connection is running.
pub(super) type CancelQuery = Box<dyn Fn() -> BoxFuture<'static, Result<(), Cause>> + Send + Sync>;

/// A client's entry; it goes when this does.
pub(super) struct Registered {
    registry: Arc<Registry>,
    record: Arc<ConnectionRecord>,
}

const STATE_BITS: u32 = 3;

// === impl Registry ===

impl Registry {
    /// The clients that are there, the oldest first.
    pub fn all(&self) -> Vec<Arc<ConnectionRecord>> {
        self.entries().values().cloned().collect()
    }

    /// Since when the one that has been idle in a transaction for longest has been so, to the
    /// second: it is reckoned from another clock, and the same answer shall come each time.
    pub fn idle_in_transaction_since(&self) -> Option<Timestamp> {
        let longest = self
            .entries()
            .values()
            .filter_map(|record| {
                let (state, at) = record.live.state();
                matches!(state, State::IdleInTransaction | State::Aborted).then_some(at)
            })
            .min();
        let time = time_of(longest?);
        Some(Timestamp::from_second(time.as_second()).unwrap_or(time))
    }

    /// Enters a client that has come, until the answer is dropped.
    pub(super) fn enter(self: &Arc<Self>, peer: PeerProcess) -> Registered {
        let record = Arc::new(ConnectionRecord {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            peer,
            since: clock::timestamp(),
            live: Live::default(),
            login: OnceLock::new(),
            backend_pid: AtomicU32::new(0),
            tunnel: AtomicU64::new(0),
            drain: Drain::new(),
            cancel: OnceLock::new(),
        });
        self.entries().insert(record.id, Arc::clone(&record));
        Registered {
            registry: Arc::clone(self),
            record,
        }
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<ConnectionRecord>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl ConnectionRecord ===

impl ConnectionRecord {
    /// What it is at, and since when.
    pub fn state(&self) -> (State, Timestamp) {
        let (state, at) = self.live.state();
        (state, time_of(at))
    }

    /// What the client said; `None` until it has been let in, and in passthrough.
    pub fn login(&self) -> Option<&Login> {
        self.login.get()
    }

    /// The server's process; zero where there is none or it isn't known.
    pub fn backend_pid(&self) -> u32 {
        self.backend_pid.load(Ordering::Relaxed)
    }

    /// The tunnel that carries it; zero where none does.
    pub fn tunnel(&self) -> u64 {
        self.tunnel.load(Ordering::Relaxed)
    }

    /// Bytes to the database, and from it.
    pub fn bytes(&self) -> (u64, u64) {
        self.live.bytes()
    }

    /// Ends it as the end of its session would, and waits until it has ended: some seconds at
    /// most, after which a client that takes nothing is dropped.
    pub async fn end(&self, cause: Cause) {
        self.drain.now(cause);
        if timeout(END_LIMIT, self.drain.nobody_follows())
            .await
            .is_err()
        {
            self.drain.abandon();
            self.drain.nobody_follows().await;
        }
    }

    /// Asks the server to cancel what it is running. Which one that is is settled before the
    /// answer is awaited.
    ///
    /// # Errors
    /// Where it has no cancel key, or the request could not be passed on.
    pub fn cancel_query(&self) -> BoxFuture<'static, Result<(), Cause>> {
        match self.cancel.get() {
            Some(cancel) => cancel(),
            None => ready(Err(Cause::NoCancelKey { id: self.id })).boxed(),
        }
    }

    /// Hears when this client alone is to end.
    pub(super) fn follow(&self, session: &Drain) -> DrainReceiver {
        session.follow().and(&self.drain)
    }

    pub(super) fn has_logged_in(&self, startup: &StartupParameters, tls: bool) {
        let text = |bytes: &[u8]| {
            let kept = &bytes[..bytes.len().min(LONGEST_TEXT)];
            String::from_utf8_lossy(kept).into_owned()
        };
        // A connection logs in once.
        let _ = self.login.set(Login {
            application_name: startup
                .get("application_name")
                .map(text)
                .unwrap_or_default(),
            database: startup.chosen_database().map(text),
            tls,
        });
    }

    /// It is carried by this tunnel, and served by this process of the server's, where that is
    /// known.
    pub(super) fn has_reached(&self, tunnel: u64, backend_pid: Option<u32>) {
        self.tunnel.store(tunnel, Ordering::Relaxed);
        self.backend_pid
            .store(backend_pid.unwrap_or_default(), Ordering::Relaxed);
    }

    pub(super) fn set_cancel(&self, cancel: CancelQuery) {
        // The key that a client was given stays the same.
        let _ = self.cancel.set(cancel);
    }
}

impl std::fmt::Debug for ConnectionRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConnectionRecord")
            .field("id", &self.id)
            .field("peer", &self.peer)
            .field("live", &self.live)
            .finish_non_exhaustive()
    }
}

// === impl Live ===

impl Live {
    /// Notes that another state has been entered.
    pub(super) fn enter(&self, state: State) {
        let now = Clock::now().since(BootInstant::since_boot(Duration::ZERO));
        let millis = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let packed = (millis << STATE_BITS) | u64::from(state as u8);
        self.state.store(packed, Ordering::Relaxed);
    }

    pub(super) fn sent(&self, bytes: usize) {
        add(&self.sent, bytes);
    }

    pub(super) fn received(&self, bytes: usize) {
        add(&self.received, bytes);
    }

    pub(super) fn bytes(&self) -> (u64, u64) {
        let sent = self.sent.load(Ordering::Relaxed);
        (sent, self.received.load(Ordering::Relaxed))
    }

    pub(super) fn state(&self) -> (State, BootInstant) {
        let packed = self.state.load(Ordering::Relaxed);
        let state = match packed & ((1 << STATE_BITS) - 1) {
            0 => State::LoggingIn,
            1 => State::Held,
            2 => State::Active,
            3 => State::Idle,
            4 => State::IdleInTransaction,
            5 => State::Aborted,
            _ => State::Passthrough,
        };
        let at = BootInstant::since_boot(Duration::from_millis(packed >> STATE_BITS));
        (state, at)
    }
}

impl Default for Live {
    fn default() -> Self {
        let live = Self {
            state: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
        };
        live.enter(State::LoggingIn);
        live
    }
}

/// There is one writer, so it takes no more than a load and a store.
fn add(counter: &AtomicU64, bytes: usize) {
    let sum = counter.load(Ordering::Relaxed) + bytes as u64;
    counter.store(sum, Ordering::Relaxed);
}

/// The time of day at a moment.
fn time_of(at: BootInstant) -> Timestamp {
    let ago = jiff::SignedDuration::try_from(at.elapsed()).unwrap_or_default();
    clock::shifted(clock::timestamp(), -ago)
}

// === impl State ===

impl From<Activity> for State {
    fn from(activity: Activity) -> Self {
        match activity {
            Activity::Active => Self::Active,
            Activity::Idle => Self::Idle,
            Activity::IdleInTransaction => Self::IdleInTransaction,
            Activity::Aborted => Self::Aborted,
        }
    }
}

// === impl Registered ===

impl Registered {
    pub(super) fn record(&self) -> &Arc<ConnectionRecord> {
        &self.record
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.registry.entries().remove(&self.record.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_given_once_and_entries_go_with_their_clients() {
        let (one, other) = (Arc::new(Registry::default()), Arc::new(Registry::default()));
        let peer = PeerProcess::Tcp {
            client: 40_000,
            session: 15_432,
        };
        let (first, second) = (one.enter(peer), one.enter(peer));
        let elsewhere = other.enter(peer);
        let ids = |registry: &Registry| {
            let all = registry.all();
            all.iter().map(|record| record.id).collect::<Vec<_>>()
        };
        assert_eq!(ids(&one), [first.record.id, second.record.id]);
        assert_eq!(ids(&other), [elsewhere.record.id]);
        assert!(first.record.id < second.record.id && second.record.id < elsewhere.record.id);
        let gone = first.record.id;
        drop(first);
        assert_eq!(ids(&one), [second.record.id]);
        let next = one.enter(peer);
        assert!(next.record.id > gone && next.record.id > elsewhere.record.id);
    }

    #[test]
    fn a_state_is_read_with_its_own_time() {
        let live = Live::default();
        for state in [
            State::LoggingIn,
            State::Held,
            State::Active,
            State::Idle,
            State::IdleInTransaction,
            State::Aborted,
            State::Passthrough,
        ] {
            let before = Clock::now();
            live.enter(state);
            let (read, at) = live.state();
            assert_eq!(read, state);
            assert!(at.since(before) < Duration::from_secs(60));
            assert!(
                before.since(at) <= Duration::from_millis(1),
                "cut to milliseconds"
            );
        }
    }

    #[test]
    fn the_oldest_idle_transaction_is_told() {
        let registry = Arc::new(Registry::default());
        let peer = PeerProcess::Unix { pid: 1 };
        let clients: Vec<_> = (0..3).map(|_| registry.enter(peer)).collect();
        assert_eq!(registry.idle_in_transaction_since(), None);
        let minute = 60_000 << STATE_BITS;
        let hour = 60 * minute;
        // Milliseconds since boot: the second has been so since the first minute.
        for (client, packed) in clients.iter().zip([
            hour | State::IdleInTransaction as u64,
            minute | State::Aborted as u64,
            State::Active as u64,
        ]) {
            client.record.live.state.store(packed, Ordering::Relaxed);
        }
        let at = |packed: u64| {
            time_of(BootInstant::since_boot(Duration::from_millis(
                packed >> STATE_BITS,
            )))
        };
        let told = registry.idle_in_transaction_since().unwrap();
        let apart = told.duration_since(at(minute)).abs();
        assert!(apart < jiff::SignedDuration::from_secs(60), "{apart:?}");
    }
}
