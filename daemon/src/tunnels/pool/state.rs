//! What a pool knows at one time: its tunnels, and the dials under way. Every step is whole;
//! the moment is passed in.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared, WeakShared},
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    model::{Cause, Generation},
    tunnels::{
        Link,
        policy::{
            FULL_FOR, Idle, MAX_TUNNELS, PROMPT, SPARE_FOR, TunnelLoad, patience, rank, shared,
        },
    },
};

/// A dial for the first tunnel, shared by all who wait for it; given up when the last one goes.
pub(super) type FirstDial<L> = Shared<BoxFuture<'static, Result<L, Cause>>>;

/// It, as the pool keeps it: only who waits for it keeps it going.
type WeakFirstDial<L> = WeakShared<BoxFuture<'static, Result<L, Cause>>>;

/// The state of a pool; clones are the same one.
pub(super) struct PoolState<L>(Arc<Mutex<State<L>>>);

struct State<L> {
    /// The oldest first.
    members: Vec<Member<L>>,
    first: Option<(WeakFirstDial<L>, Instant)>,
    further: Vec<Further>,
    next: u64,
    /// The last change of the network, by number and time.
    network_changed: Option<(u64, Instant)>,
    full_until: Option<Instant>,
    /// How long the last handshake took.
    handshake: Duration,
    /// Ends further dials when the last tunnel has ended: they go the same way.
    given_up: CancellationToken,
}

struct Member<L> {
    link: L,
    idle: Idle,
}

/// A dial for one more tunnel.
struct Further {
    id: u64,
    began: Instant,
    /// To have one ready; nobody waits for it.
    is_ahead: bool,
}

/// Counts a dial for one more tunnel until it is dropped.
pub(super) struct PendingDial<L> {
    id: u64,
    others: usize,
    patience: Duration,
    given_up: CancellationToken,
    state: PoolState<L>,
}

/// What a new connection gets.
pub(super) enum Choice<L: Link> {
    Use(L, L::Reserved),
    DialOwn(PendingDial<L>),
    Nothing,
}

/// How many tunnels turned out to have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    None,
    Some,
    /// And there is no other.
    Last,
}

// === impl PoolState ===

impl<L> Clone for PoolState<L> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<L> Default for PoolState<L> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(State {
            members: Vec::new(),
            first: None,
            further: Vec::new(),
            next: 0,
            network_changed: None,
            full_until: None,
            handshake: Duration::ZERO,
            given_up: CancellationToken::new(),
        })))
    }
}

impl<L> PoolState<L> {
    fn lock(&self) -> MutexGuard<'_, State<L>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<L: Link> PoolState<L> {
    /// A tunnel that is up, with a key that is no older than that; one that is idle, where
    /// there is one.
    pub(super) fn idlest(&self, at_least: Option<Generation>) -> Option<L> {
        let state = self.lock();
        let fits = |link: &&L| at_least.is_none_or(|at_least| link.generation() >= at_least);
        let alive = state.alive().filter(fits);
        alive.min_by_key(|link| link.channels()).cloned()
    }

    /// Every tunnel.
    pub(super) fn links(&self) -> Vec<L> {
        self.lock()
            .members
            .iter()
            .map(|member| member.link.clone())
            .collect()
    }

    /// Joins the dial for the first tunnel; begins it where there is none that may still be
    /// waited for.
    pub(super) fn join_first(
        &self,
        now: Instant,
        dial: impl FnOnce() -> BoxFuture<'static, Result<L, Cause>>,
    ) -> FirstDial<L> {
        let mut state = self.lock();
        if let Some((dial, began)) = &state.first
            && !state.is_of_an_older_network(*began, now)
            && let Some(dial) = dial.upgrade().filter(|dial| dial.peek().is_none())
        {
            return dial;
        }
        let dial = dial().shared();
        state.first = dial.downgrade().map(|dial| (dial, now));
        dial
    }

    /// Answers whether that change is news.
    pub(super) fn network_changed(&self, revision: u64, now: Instant) -> bool {
        let mut state = self.lock();
        if state
            .network_changed
            .is_some_and(|(last, _)| last == revision)
        {
            return false;
        }
        state.network_changed = Some((revision, now));
        true
    }

    pub(super) fn handshake_took(&self, took: Duration) {
        self.lock().handshake = took;
    }

    /// Whether a tunnel is up.
    pub(super) fn has_any(&self) -> bool {
        self.lock().alive().next().is_some()
    }

    /// Lets a tunnel serve new connections, unless one with a newer key does. Those of an older
    /// key are dropped: they end when their last channel does.
    pub(super) fn add(&self, link: L) {
        let mut state = self.lock();
        if state
            .members
            .iter()
            .any(|member| member.link.generation() > link.generation())
        {
            return;
        }
        let (kept, retired) = std::mem::take(&mut state.members)
            .into_iter()
            .partition::<Vec<_>, _>(|member| member.link.generation() == link.generation());
        state.members = kept;
        if state.members.is_empty() {
            state.full_until = None;
        }
        state.members.push(Member {
            link,
            idle: Idle::default(),
        });
        drop(state);
        drop(retired);
    }

    /// Takes tunnels that have ended out.
    pub(super) fn remove_closed(&self) -> Ended {
        let mut state = self.lock();
        let before = state.members.len();
        state.members.retain(|member| !member.link.is_closed());
        match (before - state.members.len(), state.members.is_empty()) {
            (0, _) => Ended::None,
            (_, false) => Ended::Some,
            (_, true) => {
                state.full_until = None;
                let given_up = std::mem::take(&mut state.given_up);
                drop(state);
                given_up.cancel();
                Ended::Last
            }
        }
    }

    /// What a new connection gets.
    pub(super) fn choose(&self, now: Instant) -> Choice<L> {
        let mut state = self.lock();
        // Of those that are alike the oldest: sshd has its memory for it, and its TCP connection
        // knows the line.
        let idle = state
            .members
            .iter_mut()
            .filter(|member| member.link.channels() == 0 && !member.link.is_closed())
            .min_by_key(|member| rank(member.link.generation(), member.link.shift()));
        if let Some(member) = idle {
            member.idle.end();
            return Choice::Use(member.link.clone(), member.link.reserve());
        }
        let may_grow = state.may_grow(now);
        match state.shared(may_grow) {
            Some((link, reserved)) => Choice::Use(link, reserved),
            None if state.alive().next().is_none() => Choice::Nothing,
            None => Choice::DialOwn(self.pending(&mut state, now, false)),
        }
    }

    /// A channel on a tunnel that others use.
    pub(super) fn share(&self) -> Option<(L, L::Reserved)> {
        self.lock().shared(false)
    }

    /// A channel on any tunnel, first on that of the connection with the end `prefer`.
    pub(super) fn any(&self, prefer: Option<&L::Closing>) -> Option<(L, L::Reserved)> {
        let state = self.lock();
        let preferred = prefer.and_then(|end| state.alive().find(|link| link.carries(end)));
        let link = preferred.or_else(|| state.alive().min_by_key(|link| link.channels()))?;
        Some((link.clone(), link.reserve()))
    }

    /// The dial for a tunnel that is to be ready, where none is idle or on its way.
    pub(super) fn one_ahead(&self, now: Instant) -> Option<PendingDial<L>> {
        let mut state = self.lock();
        let has_idle = state
            .members
            .iter()
            .any(|member| member.link.channels() == 0);
        let is_under_way = state.further.iter().any(|dial| dial.is_ahead);
        (!has_idle && !is_under_way && state.may_grow(now))
            .then(|| self.pending(&mut state, now, true))
    }

    /// The bastion takes no further tunnel for now; no news, where the tunnels beside which
    /// the dial was begun are gone.
    pub(super) fn is_full(&self, refused: &PendingDial<L>, now: Instant) {
        if !refused.given_up.is_cancelled() {
            self.lock().full_until = Some(now + FULL_FOR);
        }
    }

    /// Takes out what has been idle for long, but for one; and what was idle the last time too,
    /// beyond so many.
    pub(super) fn prune(&self, now: Instant, most_idle: usize) {
        let mut state = self.lock();
        let mut spare = 0;
        let surplus: Vec<_> = state
            .members
            .extract_if(.., |member| {
                let is_idle = member.link.channels() == 0;
                spare += usize::from(is_idle);
                let idle_for = member.idle.check(is_idle, now);
                let is_old = spare > 1 && idle_for >= SPARE_FOR;
                let is_too_many = spare > most_idle && !idle_for.is_zero();
                is_idle && (is_old || is_too_many)
            })
            .collect();
        drop(state);
        drop(surplus);
    }

    fn pending(&self, state: &mut State<L>, now: Instant, is_ahead: bool) -> PendingDial<L> {
        let (id, others) = (state.next, state.count());
        state.next += 1;
        state.further.push(Further {
            id,
            began: now,
            is_ahead,
        });
        PendingDial {
            id,
            others,
            patience: patience(state.handshake),
            given_up: state.given_up.clone(),
            state: self.clone(),
        }
    }
}

// === impl State ===

impl<L: Link> State<L> {
    fn alive(&self) -> impl Iterator<Item = &L> {
        let links = self.members.iter().map(|member| &member.link);
        links.filter(|link| !link.is_closed())
    }

    /// Tunnels that are there, or will be.
    fn count(&self) -> usize {
        self.members.len() + self.further.len()
    }

    /// Whether one more tunnel is worth asking for. Not where the bastion has none to give, or
    /// lets somebody wait for one longer than it should.
    fn may_grow(&self, now: Instant) -> bool {
        let is_full = self.full_until.is_some_and(|until| until > now);
        let patience = patience(self.handshake);
        let is_slow = self.further.iter().any(|dial| now - dial.began >= patience);
        !is_full && !is_slow && self.count() < MAX_TUNNELS
    }

    fn shared(&self, may_grow: bool) -> Option<(L, L::Reserved)> {
        let alive: Vec<_> = self.alive().collect();
        let in_use: Vec<_> = alive.iter().map(|link| TunnelLoad::of(*link)).collect();
        let link = alive[shared(&in_use, may_grow)?];
        Some((link.clone(), link.reserve()))
    }

    fn is_of_an_older_network(&self, began: Instant, now: Instant) -> bool {
        self.network_changed.is_some_and(|(_, at)| began < at) && now - began >= PROMPT
    }
}

// === impl PendingDial ===

impl<L> PendingDial<L> {
    /// How many tunnels came before it.
    pub(super) fn others(&self) -> usize {
        self.others
    }

    /// How long a connection waits for it.
    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    /// Ends with the pool's last tunnel, or with the pool.
    pub(super) async fn unless_given_up<T>(
        &self,
        stop: &CancellationToken,
        dialling: impl Future<Output = T>,
    ) -> Option<T> {
        tokio::select! {
            dialled = dialling => Some(dialled),
            () = self.given_up.cancelled() => None,
            () = stop.cancelled() => None,
        }
    }
}

impl<L> Drop for PendingDial<L> {
    fn drop(&mut self) {
        self.state.lock().further.retain(|dial| dial.id != self.id);
    }
}
