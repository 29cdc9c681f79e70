//! Connections kept ready: logged in to the database ahead of need, each with exactly the
//! parameters that a client has asked for lately, and given to the next client that asks
//! for the same. Used once.
//!
//! A client must see no difference but speed. So one is let go of as soon as a log-in made
//! now might differ from it: when the credential changes, when the database says anything
//! at all on it (that a setting changed, that it ends), when a client has changed settings
//! that log-ins begin with, and after [`IDLE_LIMIT`] in any case. That the database has not
//! ended it meanwhile is proved when it is handed over, see
//! [`liveness_check`](super::liveness_check).

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    io::AsyncReadExt as _,
    sync::{oneshot, watch},
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    credential::DatabaseLease,
    model::Generation,
    platform::clock::{BootInstant, Clock},
    postgres::{StartupParameters, last_words},
    proxy::{Counters, CurrentLimits, connection::Gateway, upstream::Reached},
};

/// How long one is kept. Settings of roles and databases that are changed elsewhere take
/// this long to reach every new client; the database's connections are few.
const IDLE_LIMIT: Duration = Duration::from_secs(60);
/// What logging in ahead of need may take.
const LOGIN_LIMIT: Duration = Duration::from_secs(15);
/// How long none is kept after the database had no connection left.
const FULL_FOR: Duration = Duration::from_secs(60);
/// How long a database that has no connection left may take to see that one of ours has ended.
const RELEASE_LIMIT: Duration = Duration::from_secs(2);

/// The connections that a session keeps ready.
pub(crate) struct WarmPool {
    limits: CurrentLimits,
    state: Mutex<State>,
    counters: Arc<Counters>,
}

#[derive(Default)]
struct State {
    /// The oldest first.
    kept: Vec<Entry>,
    next: u64,
    /// Connections that the database has of these, or will have: also those that are no longer
    /// kept and have not ended yet.
    alive: usize,
    /// When the last of them ended here.
    ended_at: Option<Instant>,
    full_until: Option<Instant>,
    closed: bool,
}

struct Entry {
    id: u64,
    startup: StartupParameters,
    /// `None` while it is being made.
    ready: Option<Ready>,
    /// Dropped, it has the log-in that is under way given up.
    _wanted: DropGuard,
}

/// A place that a connection is to be made for.
struct Place {
    id: u64,
    /// Cancelled where it is no longer wanted.
    given_up: CancellationToken,
    _alive: AliveGuard,
}

/// Counts a connection of the database while it lives.
struct AliveGuard(Arc<WarmPool>);

struct Ready {
    generation: Generation,
    since: BootInstant,
    /// Asks the task that holds it; dropped, that lets go.
    claim: oneshot::Sender<oneshot::Sender<Reached>>,
}

// === impl WarmPool ===

impl WarmPool {
    /// Keeps at most as many as the limits of the moment say.
    pub(crate) fn new(limits: CurrentLimits, counters: Arc<Counters>) -> Arc<Self> {
        Arc::new(Self {
            limits,
            state: Mutex::default(),
            counters,
        })
    }

    /// The connection that is ready for these parameters, where it was logged in with this
    /// credential.
    pub(crate) async fn take(
        &self,
        startup: &StartupParameters,
        generation: Generation,
    ) -> Option<Reached> {
        let ready = {
            let mut state = self.state();
            let place = state
                .kept
                .iter()
                .position(|kept| kept.ready.is_some() && kept.startup == *startup)?;
            let kept = state.kept.remove(place);
            self.count(&state);
            kept.ready?
        };
        // Its own timer stands still while the machine sleeps.
        if ready.generation != generation || ready.since.elapsed() >= IDLE_LIMIT {
            return None;
        }
        let (give, given) = oneshot::channel();
        ready.claim.send(give).ok()?;
        given.await.ok()
    }

    /// Lets go of all: a log-in made now would begin with other settings.
    pub(crate) fn clear(&self) {
        let mut state = self.state();
        state.kept.clear();
        self.count(&state);
    }

    /// Lets go of all, and keeps none for a while: the database has no connection left.
    /// Answers whether it had any of these, or may have had: one that is being made has its
    /// place there before it is known here, and one that has ended here may still have it.
    pub(crate) fn give_back(&self) -> bool {
        let mut state = self.state();
        state.full_until = Some(Instant::now() + FULL_FOR);
        state.kept.clear();
        self.count(&state);
        let has_just_ended = |at: Instant| at.elapsed() < RELEASE_LIMIT;
        state.alive > 0 || state.ended_at.is_some_and(has_just_ended)
    }

    /// Lets go of all, for good.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.clear();
    }

    /// A place for a connection with these parameters, where there is to be one. Where all
    /// places are taken, the oldest connection that is ready makes room; while the limit's
    /// number are being made, no other is.
    fn reserve(self: &Arc<Self>, startup: &StartupParameters) -> Option<Place> {
        let limit = self.limits.borrow().warm_connections as usize;
        let mut state = self.state();
        let is_full = state.full_until.is_some_and(|until| until > Instant::now());
        let is_known = state.kept.iter().any(|kept| kept.startup == *startup);
        if state.closed || is_full || is_known || limit == 0 || startup.is_replication() {
            return None;
        }
        // Those that were let go of end in a moment, and count until then.
        let being_made = state.kept.iter().filter(|kept| kept.ready.is_none());
        if being_made.count() >= limit || state.alive >= limit * 2 {
            return None;
        }
        while state.kept.len() >= limit {
            let oldest = state.kept.iter().position(|kept| kept.ready.is_some())?;
            state.kept.remove(oldest);
        }
        self.count(&state);
        let id = state.next;
        state.next += 1;
        state.alive += 1;
        let given_up = CancellationToken::new();
        state.kept.push(Entry {
            id,
            startup: startup.clone(),
            ready: None,
            _wanted: given_up.clone().drop_guard(),
        });
        Some(Place {
            id,
            given_up,
            _alive: AliveGuard(Arc::clone(self)),
        })
    }

    /// Puts a connection in its place, unless that has been taken away.
    fn put(
        &self,
        id: u64,
        generation: Generation,
    ) -> Option<oneshot::Receiver<oneshot::Sender<Reached>>> {
        let (claim, claimed) = oneshot::channel();
        let mut state = self.state();
        let kept = state.kept.iter_mut().find(|kept| kept.id == id)?;
        kept.ready = Some(Ready {
            generation,
            since: Clock::now(),
            claim,
        });
        self.count(&state);
        Some(claimed)
    }

    fn remove(&self, id: u64) {
        let mut state = self.state();
        state.kept.retain(|kept| kept.id != id);
        self.count(&state);
    }

    fn count(&self, state: &State) {
        let ready = state.kept.iter().filter(|kept| kept.ready.is_some());
        self.counters.set_warm(ready.count() as u64);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl AliveGuard ===

impl Drop for AliveGuard {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.alive -= 1;
        state.ended_at = Some(Instant::now());
    }
}

/// Has a connection ready for the next client that asks for the same, in the background.
pub(crate) fn prepare(gateway: &Arc<Gateway>, startup: &StartupParameters) {
    let Some(place) = gateway.warm.reserve(startup) else {
        return;
    };
    let (gateway, startup) = (Arc::clone(gateway), startup.clone());
    tokio::spawn(async move {
        let warm = Arc::clone(&gateway.warm);
        let lease = gateway
            .key
            .borrow()
            .as_ref()
            .map(|key| gateway.broker.watch_database(key));
        let logging_in = timeout(LOGIN_LIMIT, gateway.log_in_ahead(&startup));
        let reached = place.given_up.run_until_cancelled(logging_in).await;
        // What is kept doesn't keep the session.
        drop(gateway);
        if let (Some(Ok(Some(mut reached))), Some(lease)) = (reached, lease) {
            match warm.put(place.id, reached.generation) {
                Some(claimed) => keep(reached, claimed, lease, || warm.remove(place.id)).await,
                None => last_words::terminate(&mut reached.stream).await,
            }
        }
        warm.remove(place.id);
    });
}

/// Holds a connection until it is claimed or no longer what a log-in would give.
async fn keep(
    mut reached: Reached,
    claimed: oneshot::Receiver<oneshot::Sender<Reached>>,
    mut lease: watch::Receiver<Option<DatabaseLease>>,
    let_go: impl FnOnce(),
) {
    let generation = reached.generation;
    let tunnel = reached.closing.clone();
    let renewed = lease.wait_for(|lease| {
        lease
            .as_ref()
            .is_none_or(|lease| lease.generation != generation)
    });
    let mut byte = [0];
    let give = tokio::select! {
        biased;
        // Nothing is expected of it.
        _ = reached.stream.read(&mut byte) => None,
        claimed = claimed => claimed.ok(),
        _ = tunnel.closed() => None,
        _ = renewed => None,
        () = sleep(IDLE_LIMIT) => None,
    };
    let unused = match give {
        Some(give) => give.send(reached).err(),
        None => Some(reached),
    };
    let_go();
    if let Some(mut unused) = unused {
        last_words::terminate(&mut unused.stream).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::Limits;

    fn startup(name: &'static str) -> StartupParameters {
        StartupParameters::new([("user", "u"), ("application_name", name)]).unwrap()
    }

    fn warm(limit: u32) -> (Arc<WarmPool>, Arc<Counters>) {
        let counters = Arc::new(Counters::default());
        let limits = watch::Sender::new(Limits {
            connect_timeout: Duration::from_secs(30),
            max_connections: 200,
            warm_connections: limit,
        });
        let warm = WarmPool::new(limits.subscribe(), Arc::clone(&counters));
        (warm, counters)
    }

    #[tokio::test]
    async fn one_for_each_set_of_parameters_and_the_oldest_gives_way() {
        let (warm, counters) = warm(2);
        let first = warm.reserve(&startup("a")).unwrap();
        assert!(warm.reserve(&startup("a")).is_none());
        let second = warm.reserve(&startup("b")).unwrap();
        let mut claimed = warm.put(first.id, Generation(1)).unwrap();
        assert_eq!(counters.warm(), 1);
        let _third = warm.reserve(&startup("c")).unwrap();
        assert_eq!(counters.warm(), 0);
        // Whoever holds it lets go.
        assert!(claimed.try_recv().is_err());
        assert!(warm.put(first.id, Generation(1)).is_none());
        assert!(warm.put(second.id, Generation(1)).is_some());
    }

    #[tokio::test]
    async fn none_with_other_parameters_or_an_older_credential() {
        let (warm, counters) = warm(1);
        let place = warm.reserve(&startup("a")).unwrap();
        assert!(warm.take(&startup("a"), Generation(1)).await.is_none());
        let mut claimed = warm.put(place.id, Generation(1)).unwrap();
        assert!(warm.take(&startup("b"), Generation(1)).await.is_none());
        assert!(claimed.try_recv().is_err());
        assert_eq!(counters.warm(), 1);
        assert!(warm.take(&startup("a"), Generation(2)).await.is_none());
        assert_eq!(counters.warm(), 0);
    }

    #[tokio::test]
    async fn none_where_none_is_to_be_or_the_database_is_full() {
        let (off, _) = warm(0);
        assert!(off.reserve(&startup("a")).is_none());
        let (warm, _) = warm(1);
        let replication = StartupParameters::new([("replication", "database")]).unwrap();
        assert!(warm.reserve(&replication).is_none());
        let place = warm.reserve(&startup("a")).unwrap();
        // It is being made, and may have its place at the database already.
        assert!(warm.give_back());
        assert!(place.given_up.is_cancelled());
        assert!(warm.put(place.id, Generation(1)).is_none());
        assert!(warm.reserve(&startup("a")).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_has_ended_counts_until_the_database_knows() {
        let (warm, _) = warm(1);
        assert!(!warm.give_back());
        tokio::time::advance(FULL_FOR).await;
        drop(warm.reserve(&startup("a")).unwrap());
        assert!(warm.give_back());
        tokio::time::advance(RELEASE_LIMIT).await;
        assert!(!warm.give_back());
    }

    /// Each client with parameters of its own, as job runners have them.
    #[tokio::test]
    async fn no_more_are_made_at_a_time_than_are_kept() {
        let (warm, _) = warm(2);
        let names: Vec<_> = (0..200).map(|number| format!("job {number}")).collect();
        let own = |name: &String| {
            StartupParameters::new([("user", "u".to_owned()), ("application_name", name.clone())])
                .unwrap()
        };
        let making: Vec<_> = names
            .iter()
            .filter_map(|name| warm.reserve(&own(name)))
            .collect();
        assert_eq!(making.len(), 2);
        assert!(!making.iter().any(|place| place.given_up.is_cancelled()));
        // Ready ones make room, but not faster than they end.
        let ready: Vec<_> = making
            .iter()
            .filter_map(|place| warm.put(place.id, Generation(1)))
            .collect();
        let next: Vec<_> = names
            .iter()
            .filter_map(|name| warm.reserve(&own(name)))
            .collect();
        assert_eq!((ready.len(), next.len()), (2, 2));
        for place in &next {
            warm.put(place.id, Generation(1)).unwrap();
        }
        assert!(warm.reserve(&own(&names[199])).is_none());
    }
}
