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
    model::{Generation, SessionName},
    platform::clock::{BootInstant, Clock},
    postgres::{StartupParameters, last_words},
    proxy::{
        Counters, CurrentLimits,
        connector::{self, Channel, Connect, Reached, WatchClosing as _, is_full},
    },
    tunnels::Gate,
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
pub(crate) struct WarmPool<C: Connect> {
    name: SessionName,
    connector: Arc<C>,
    limits: CurrentLimits,
    state: Mutex<State<C::Channel>>,
    counters: Arc<Counters>,
}

struct State<C: Channel> {
    /// The oldest first.
    kept: Vec<Entry<C>>,
    next: u64,
    /// Connections that the database has of these, or will have: also those that are no longer
    /// kept and have not ended yet.
    alive: usize,
    /// When the last of them ended here.
    ended_at: Option<Instant>,
    full_until: Option<Instant>,
    closed: bool,
}

struct Entry<C: Channel> {
    id: u64,
    startup: StartupParameters,
    /// Of the lease that it was begun with.
    generation: Generation,
    /// `None` while it is being made.
    ready: Option<Ready<C>>,
    /// Dropped, it has the log-in that is under way given up.
    _wanted: DropGuard,
}

/// A place that a connection is to be made for.
struct Place<C: Connect> {
    id: u64,
    /// Cancelled where it is no longer wanted.
    given_up: CancellationToken,
    _alive: AliveGuard<C>,
}

/// Counts a connection of the database while it lives.
struct AliveGuard<C: Connect>(Arc<WarmPool<C>>);

struct Ready<C: Channel> {
    since: BootInstant,
    claim: oneshot::Sender<Claim<C>>,
}

/// Asks the task that holds a connection for it; dropped, that lets go.
type Claim<C> = oneshot::Sender<Reached<C>>;

// === impl WarmPool ===

impl<C: Connect> WarmPool<C> {
    /// Keeps at most as many as the limits of the moment say.
    pub(crate) fn new(
        name: SessionName,
        connector: Arc<C>,
        limits: CurrentLimits,
        counters: Arc<Counters>,
    ) -> Arc<Self> {
        let state = State {
            kept: Vec::new(),
            next: 0,
            alive: 0,
            ended_at: None,
            full_until: None,
            closed: false,
        };
        Arc::new(Self {
            name,
            connector,
            limits,
            state: Mutex::new(state),
            counters,
        })
    }

    pub(crate) fn name(&self) -> &SessionName {
        &self.name
    }

    /// What connections are made with.
    pub(crate) fn connector(&self) -> &Arc<C> {
        &self.connector
    }

    /// The connection that is ready for these parameters, where a log-in now would give the
    /// same.
    pub(crate) async fn take(&self, startup: &StartupParameters) -> Option<Reached<C::Channel>> {
        if *self.connector.gate().borrow() != Gate::Open {
            return None;
        }
        let generation = self.connector.current_lease()?.generation;
        let kept = {
            let mut state = self.state();
            let place = state
                .kept
                .iter()
                .position(|kept| kept.ready.is_some() && kept.startup == *startup)?;
            let kept = state.kept.remove(place);
            self.count(&state);
            kept
        };
        let ready = kept.ready?;
        // Its own timer stands still while the machine sleeps.
        if kept.generation != generation || ready.since.elapsed() >= IDLE_LIMIT {
            return None;
        }
        let (give, given) = oneshot::channel();
        ready.claim.send(give).ok()?;
        given.await.ok()
    }

    /// Has a connection ready for the next client that asks for the same, in the background.
    pub(crate) fn prepare(self: &Arc<Self>, startup: &StartupParameters) {
        let lease = self.connector.current_lease();
        let (Some(lease), Some(watch)) = (lease, self.connector.watch_lease()) else {
            return;
        };
        let Some(place) = self.reserve(startup, lease.generation) else {
            return;
        };
        let (warm, startup) = (Arc::clone(self), startup.clone());
        tokio::spawn(async move {
            let logging_in = timeout(LOGIN_LIMIT, warm.log_in(&lease, &startup));
            let reached = place.given_up.run_until_cancelled(logging_in).await;
            if let Some(Ok(Some(mut reached))) = reached {
                match warm.put(place.id) {
                    Some(claimed) => keep(reached, claimed, watch, || warm.remove(place.id)).await,
                    None => last_words::terminate(&mut reached.stream).await,
                }
            }
            warm.remove(place.id);
        });
    }

    /// A log-in with what is at hand: where a renewal or a tunnel would have to be waited for,
    /// or anything goes wrong, none.
    pub(crate) async fn log_in_ahead(
        &self,
        startup: &StartupParameters,
    ) -> Option<Reached<C::Channel>> {
        let lease = self.connector.current_lease()?;
        self.log_in(&lease, startup).await
    }

    async fn log_in(
        &self,
        lease: &DatabaseLease,
        startup: &StartupParameters,
    ) -> Option<Reached<C::Channel>> {
        if *self.connector.gate().borrow() != Gate::Open {
            return None;
        }
        let channel = self
            .connector
            .channel(&lease.credential.server)
            .await
            .ok()?;
        match connector::log_in(&*self.connector, channel, lease, startup).await {
            Ok(reached) => Some(reached),
            Err(error) => {
                tracing::debug!(session = %self.name, %error, "no connection ahead of need");
                if is_full(&error) {
                    self.give_back();
                }
                None
            }
        }
    }

    /// Lets go of all: a log-in made now would begin with other settings.
    pub(crate) fn clear(&self) {
        let mut state = self.state();
        state.kept.clear();
        self.count(&state);
    }

    /// Lets go of those that are ready, since one of them had ended: what ended it may have ended
    /// the others. One that is being made is newer than that, and goes on where its credential is
    /// the newest.
    pub(crate) fn clear_ready(&self) {
        let newest = self.connector.current_lease().map(|lease| lease.generation);
        let mut state = self.state();
        state
            .kept
            .retain(|kept| kept.ready.is_none() && Some(kept.generation) == newest);
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
    fn reserve(
        self: &Arc<Self>,
        startup: &StartupParameters,
        generation: Generation,
    ) -> Option<Place<C>> {
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
            generation,
            ready: None,
            _wanted: given_up.clone().drop_guard(),
        });
        Some(Place {
            id,
            given_up,
            _alive: AliveGuard(Arc::clone(self)),
        })
    }

    /// Takes note that the connection for a place is there, unless that has been taken away.
    fn put(&self, id: u64) -> Option<oneshot::Receiver<Claim<C::Channel>>> {
        let (claim, claimed) = oneshot::channel();
        let mut state = self.state();
        let kept = state.kept.iter_mut().find(|kept| kept.id == id)?;
        kept.ready = Some(Ready {
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

    fn count(&self, state: &State<C::Channel>) {
        let ready = state.kept.iter().filter(|kept| kept.ready.is_some());
        self.counters.set_warm(ready.count() as u64);
    }

    fn state(&self) -> MutexGuard<'_, State<C::Channel>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl AliveGuard ===

impl<C: Connect> Drop for AliveGuard<C> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.alive -= 1;
        state.ended_at = Some(Instant::now());
    }
}

/// Holds a connection until it is claimed or no longer what a log-in would give.
async fn keep<C: Channel>(
    mut reached: Reached<C>,
    claimed: oneshot::Receiver<Claim<C>>,
    mut lease: watch::Receiver<Option<DatabaseLease>>,
    let_go: impl FnOnce(),
) {
    let generation = reached.generation;
    let closing = reached.closing.clone();
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
        _ = closing.closed() => None,
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
mod tests;
