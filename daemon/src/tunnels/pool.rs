//! The tunnels to one bastion with one SSH lease: what is up, and which one a new connection
//! gets. All sessions of an add-on share them.
//!
//! A connection gets a tunnel of its own while the pool has fewer than eight: that
//! uses more cores, a bulk transfer stands in nobody's way, and sshd holds no answer back for
//! another's sake. An idle tunnel is kept ready, which hides the handshake. A tunnel that is
//! suspected to be dead is probed, and cut where it stays silent.

mod state;

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use tokio::{
    sync::{oneshot, watch},
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use self::state::{Choice, Ended, FirstDial, PendingDial, PoolState};
use super::{
    Link,
    count::PoolCount,
    dialler::{Dial, Dialled},
    policy::means_full,
};
use crate::{
    model::{Cause, Generation, HostPort},
    ssh::Liveness,
};

/// How long a tunnel that is probed may be silent. TCP sends again after 0.2 to 1 s, and
/// twice that the next time.
const PROBE_LIMIT: Duration = Duration::from_secs(3);

/// How long a bastion may take to open a channel before its line is probed.
const OPEN_LIMIT: Duration = Duration::from_secs(2);

/// Tunnels with the newest key that are asked for before one that comes is believed to be older.
const MOST_FIRST_DIALS: usize = 3;

/// The tunnels of an add-on's sessions. It ends when it is dropped; connections keep the
/// tunnels that they are on.
pub(crate) struct Pool<D: Dial> {
    inner: Arc<Inner<D>>,
    _stop: DropGuard,
}

/// Whether a pool has a tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Level {
    /// At least one.
    Up,
    /// None: why the last one ended, where there was one.
    Down(Option<Cause>),
}

struct Inner<D: Dial> {
    dialer: D,
    count: PoolCount,
    state: PoolState<D::Link>,
    level: watch::Sender<Level>,
    /// Ends what was started in the background.
    stop: CancellationToken,
}

// === impl Pool ===

impl<D: Dial> Pool<D> {
    /// Without tunnels.
    pub(super) fn new(dialer: D) -> Self {
        let stop = CancellationToken::new();
        let inner = Arc::new(Inner {
            dialer,
            count: PoolCount::default(),
            state: PoolState::default(),
            level: watch::Sender::new(Level::Down(None)),
            stop: stop.clone(),
        });
        Self {
            inner,
            _stop: stop.drop_guard(),
        }
    }

    pub(super) fn count(&self) -> &PoolCount {
        &self.inner.count
    }

    /// Cancelled when the pool has ended.
    pub(super) fn stopped(&self) -> CancellationToken {
        self.inner.stop.clone()
    }

    /// Whether there is a tunnel, and each change of it.
    pub(crate) fn level(&self) -> watch::Receiver<Level> {
        self.inner.level.subscribe()
    }

    /// A tunnel that was authenticated with the key of generation `at_least` or a later one: one
    /// that is up, else a new one, whose dial all who ask share. Older ones take no more
    /// connections from then on, and end when their last channel does.
    ///
    /// # Errors
    /// Why there is none. Dropping the future ends the dial where nobody else waits for it.
    pub(crate) async fn connect(&self, at_least: Option<Generation>) -> Result<D::Link, Cause> {
        let inner = &self.inner;
        for _ in 0..MOST_FIRST_DIALS {
            if let Some(link) = inner.state.idlest(at_least) {
                return Ok(link);
            }
            let link = inner.first_dial().await?;
            if at_least.is_none_or(|at_least| link.generation() >= at_least) {
                return Ok(link);
            }
        }
        Err(Cause::Internal {
            detail: "no tunnel is made with the newest SSH key".into(),
        })
    }

    /// Makes one more tunnel, which shows that the key that is held works.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn dial_one_more(&self) -> Result<(), Cause> {
        let others = self.inner.state.links().len();
        let (link, _) = self.inner.dialer.dial(Dialled::Further { others }).await?;
        self.inner.add(link);
        Ok(())
    }

    /// Asks every tunnel for a sign of life, in the background, and cuts those that give none.
    pub(crate) fn probe(&self) {
        self.inner.probe();
    }

    /// The network has changed, or the machine has woken up, for the time with that number:
    /// tunnels are asked, and dials that may wait for the old network are no longer waited for.
    /// Every session of the pool may tell it.
    pub(crate) fn network_changed(&self, revision: u64) {
        if self.inner.state.network_changed(revision, Instant::now()) {
            self.inner.probe();
        }
    }

    /// Ends tunnels that nobody has used for long, and those that are idle beyond so many. To be
    /// called now and then.
    pub(super) fn prune(&self, most_idle: usize) {
        self.inner.state.prune(Instant::now(), most_idle);
    }

    /// Opens a channel for one connection, on a tunnel of its own as far as possible.
    ///
    /// # Errors
    /// The cause, where no tunnel is up or the bastion refuses the channel. Dropping the
    /// future abandons the channel; a dial goes on for the next who needs it.
    pub(crate) async fn channel(
        &self,
        server: &HostPort,
    ) -> Result<<D::Link as Link>::Channel, Cause> {
        loop {
            let choice = self.inner.state.choose(Instant::now());
            let (link, reserved) = match choice {
                Choice::Use(link, reserved) => (link, reserved),
                Choice::DialOwn(pending) => self.own_or_shared(pending).await?,
                Choice::Nothing => return Err(none_is_up()),
            };
            self.inner.keep_one_ready();
            match self.inner.open(&link, reserved, server).await {
                // The next choice is another one.
                Err(Cause::TunnelLost { .. }) => {}
                answer => return answer,
            }
        }
    }

    /// Opens a channel over a tunnel that is up, first over that of the connection with the
    /// end `prefer`. Never dials.
    ///
    /// # Errors
    /// As [`Pool::channel`].
    pub(crate) async fn channel_for_cancel(
        &self,
        server: &HostPort,
        prefer: Option<&<D::Link as Link>::Closing>,
    ) -> Result<<D::Link as Link>::Channel, Cause> {
        loop {
            let chosen = self.inner.state.any(prefer);
            let (link, reserved) = chosen.ok_or_else(none_is_up)?;
            match self.inner.open(&link, reserved, server).await {
                Err(Cause::TunnelLost { .. }) => {}
                answer => return answer,
            }
        }
    }

    /// A tunnel for one connection alone. Where the handshake takes longer than it should, it
    /// goes on behind, and the connection shares a tunnel that is up.
    async fn own_or_shared(
        &self,
        pending: PendingDial<D::Link>,
    ) -> Result<(D::Link, <D::Link as Link>::Reserved), Cause> {
        let patience = pending.patience();
        let own = self.inner.dial_further(pending);
        if let Ok(Ok(own)) = timeout(patience, own).await {
            return Ok(own);
        }
        self.inner.state.share().ok_or_else(none_is_up)
    }
}

// === impl Inner ===

impl<D: Dial> Inner<D> {
    /// Joins the dial that is under way, or begins one.
    fn first_dial(self: &Arc<Self>) -> FirstDial<D::Link> {
        self.state.join_first(Instant::now(), || {
            let this = Arc::clone(self);
            let dial = async move {
                let dialling = this.dialer.dial(Dialled::First);
                let dialled = this.stop.run_until_cancelled(dialling).await;
                let (link, took) = dialled.unwrap_or(Err(Cause::SessionClosing))?;
                this.state.handshake_took(took);
                this.add(link.clone());
                Ok(link)
            };
            dial.boxed()
        })
    }

    /// Dials one more tunnel on a task; who waits for the answer has a channel in it. Nobody
    /// has to.
    fn dial_further(
        self: &Arc<Self>,
        pending: PendingDial<D::Link>,
    ) -> oneshot::Receiver<(D::Link, <D::Link as Link>::Reserved)> {
        let (give, given) = oneshot::channel();
        let this = Arc::clone(self);
        tokio::spawn(async move {
            let others = pending.others();
            let dialling = this.dialer.dial(Dialled::Further { others });
            let Some(dialled) = pending.unless_given_up(&this.stop, dialling).await else {
                return;
            };
            match dialled {
                Ok((link, took)) => {
                    let reserved = link.reserve();
                    this.state.handshake_took(took);
                    this.add(link.clone());
                    // Dropped, it is the tunnel that is kept ready.
                    let _ = give.send((link, reserved));
                }
                Err(cause) => {
                    tracing::info!(%cause, "no further tunnel; connections share those that are up");
                    if means_full(&cause) {
                        this.state.is_full(&pending, Instant::now());
                    } else {
                        // The line may be dead.
                        this.probe();
                    }
                }
            }
        });
        given
    }

    /// Dials another tunnel in the background where none is idle.
    fn keep_one_ready(self: &Arc<Self>) {
        let pending = self.state.one_ahead(Instant::now());
        if let Some(pending) = pending {
            drop(self.dial_further(pending));
        }
    }

    /// Lets a tunnel serve new connections. Those of an older key take no more.
    fn add(self: &Arc<Self>, link: D::Link) {
        if self.stop.is_cancelled() {
            return;
        }
        let ended = link.ended();
        let counting = self.count.add(link.round_trip());
        self.state.add(link);
        self.publish(None);
        let this = Arc::clone(self);
        tokio::spawn(async move {
            // Watches without keeping the tunnel alive.
            let ended = this.stop.run_until_cancelled(ended).await;
            drop(counting);
            if let Some(cause) = ended {
                this.ended(cause);
            }
        });
    }

    fn ended(&self, cause: Cause) {
        let ended = self.state.remove_closed();
        match ended {
            // One that was retired or pruned: nobody misses it.
            Ended::None => {}
            Ended::Last => self.publish(Some(cause)),
            // What ended one may have ended the others, and not all of them listen: one whose
            // client doesn't read notices nothing.
            Ended::Some => self.probe(),
        }
    }

    /// Tells whether there is a tunnel; `loss` is why the last one ended.
    fn publish(&self, loss: Option<Cause>) {
        // Looked at under the lock of the watch, so that what is told last is true.
        self.level.send_if_modified(|level| {
            let next = match self.state.has_any() {
                true => Level::Up,
                false => Level::Down(loss),
            };
            let changes = *level != next;
            *level = next;
            changes
        });
    }

    fn probe(&self) {
        for link in self.state.links() {
            tokio::spawn(async move { probe(&link).await });
        }
    }

    /// Opens a channel; where that takes long, asks whether the line is alive. A tunnel that
    /// turns out to be lost is no member any more.
    async fn open(
        &self,
        link: &D::Link,
        reserved: <D::Link as Link>::Reserved,
        server: &HostPort,
    ) -> Result<<D::Link as Link>::Channel, Cause> {
        let opening = D::Link::open(reserved, server);
        tokio::pin!(opening);
        let answer = tokio::select! {
            answer = &mut opening => answer,
            () = sleep(OPEN_LIMIT) => match probe(link).await {
                // It is the database which takes its time.
                Liveness::Alive => opening.await,
                Liveness::Silent => Err(link.loss()),
            },
        };
        if let Err(cause @ Cause::TunnelLost { .. }) = &answer {
            if !link.is_closed() {
                link.cut("it opens no channels");
            }
            self.ended(cause.clone());
        }
        answer
    }
}

async fn probe(link: &impl Link) -> Liveness {
    let liveness = link.probe(PROBE_LIMIT).await;
    if liveness == Liveness::Silent && !link.is_closed() {
        link.cut("the line went silent");
    }
    liveness
}

pub(crate) fn none_is_up() -> Cause {
    Cause::TunnelLost {
        detail: "no tunnel is up".into(),
    }
}

#[cfg(test)]
mod tests;
