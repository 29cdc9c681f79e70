//! The tunnels of one session: what is up, which one a new connection gets, and what a
//! connection is told while there is none.
//!
//! A connection gets a tunnel of its own while the session has fewer than [`MAX_TUNNELS`]:
//! that uses more cores, a bulk transfer stands in nobody's way, and sshd holds no answer back
//! for another's sake. An idle tunnel is kept ready, which hides the handshake. A tunnel that is
//! suspected to be dead is probed, and cut where it stays silent.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    Dialer, Gate, TunnelCount,
    policy::{Idle, TunnelLoad, rank, shared},
};
use crate::{
    model::{Cause, HostPort},
    ssh::{ChannelStream, Liveness, Reserved, Tunnel},
};

/// Tunnels for each session; more connections than this share them.
const MAX_TUNNELS: usize = 8;

/// How long tunnels are kept that nobody uses: who opened many connections at once does so again,
/// as an application's pool or a test suite that is started once more.
const SPARE_FOR: Duration = Duration::from_secs(300);

/// How long a bastion that refused another tunnel isn't asked for one.
const FULL_FOR: Duration = Duration::from_secs(60);

/// How long a tunnel that is probed may be silent. TCP sends again after 0.2 to 1 s, and
/// twice that the next time.
const PROBE_LIMIT: Duration = Duration::from_secs(3);

/// How long a bastion may take to open a channel before its line is probed.
const OPEN_LIMIT: Duration = Duration::from_secs(2);

/// The tunnels that new connections may use.
pub(crate) struct Tunnels {
    dialer: Dialer,
    count: TunnelCount,
    pool: Mutex<Pool>,
    gate: watch::Sender<Gate>,
    /// Why the last tunnel ended, each time it does.
    lost: watch::Sender<Option<Cause>>,
    /// Ends what was started in the background.
    stop: CancellationToken,
}

#[derive(Default)]
struct Pool {
    tunnels: Vec<Member>,
    /// Being dialled to have one ready.
    growing: bool,
    /// Being dialled for connections that wait for them.
    wanted: usize,
    full_until: Option<Instant>,
}

struct Member {
    tunnel: Tunnel,
    idle: Idle,
}

/// What a new connection gets.
enum Choice<'a> {
    Use(Reserved),
    DialOwn(PendingDial<'a>),
    Nothing,
}

/// Counts a tunnel that is being dialled for a connection.
struct PendingDial<'a> {
    tunnels: &'a Tunnels,
    /// How many tunnels came before it.
    others: usize,
}

// === impl Tunnels ===

impl Tunnels {
    pub(crate) fn new(dialer: Dialer, count: TunnelCount) -> Arc<Self> {
        Arc::new(Self {
            dialer,
            count,
            pool: Mutex::default(),
            gate: watch::Sender::new(Gate::Hold(None)),
            lost: watch::Sender::new(None),
            stop: CancellationToken::new(),
        })
    }

    /// Whether connections get through, and each change of it.
    pub(crate) fn gate(&self) -> watch::Receiver<Gate> {
        self.gate.subscribe()
    }

    /// Told each time the last tunnel ends.
    pub(crate) fn lost(&self) -> watch::Receiver<Option<Cause>> {
        self.lost.subscribe()
    }

    /// Lets a tunnel serve new connections. Those of an older key take no more; they
    /// end when their last channel does.
    pub(crate) fn install(self: &Arc<Self>, tunnel: Tunnel) {
        {
            let mut pool = self.pool();
            pool.tunnels
                .retain(|member| member.tunnel.generation() >= tunnel.generation());
        }
        self.pool().full_until = None;
        self.add(tunnel);
        self.gate.send_replace(Gate::Open);
    }

    /// Asks every tunnel for a sign of life, in the background, and cuts those that give
    /// none. For when the line may be dead: keepalive would find it later.
    pub(crate) fn probe(&self) {
        let tunnels: Vec<_> = {
            let pool = self.pool();
            pool.tunnels
                .iter()
                .map(|member| member.tunnel.clone())
                .collect()
        };
        for tunnel in tunnels {
            tokio::spawn(async move { probe(&tunnel).await });
        }
    }

    /// Tells connections to wait, or not to. Without effect on those that have a channel.
    pub(crate) fn shut(&self, gate: Gate) {
        self.gate.send_replace(gate);
    }

    /// Opens a channel for one connection.
    ///
    /// # Errors
    /// The cause, where no tunnel is up or the bastion refuses the channel. Dropping the
    /// future abandons the channel.
    pub(crate) async fn channel(
        self: &Arc<Self>,
        server: &HostPort,
    ) -> Result<ChannelStream, Cause> {
        loop {
            let reserved = match self.choose() {
                Choice::Use(reserved) => reserved,
                Choice::DialOwn(wanted) => match self.dial_own(wanted).await {
                    Some(reserved) => reserved,
                    None if *self.gate.borrow() == Gate::Open => continue,
                    None => return Err(none_is_up()),
                },
                Choice::Nothing => return Err(none_is_up()),
            };
            self.keep_one_ready();
            match open(reserved, server).await {
                // A dead tunnel leaves the pool; the next choice is another one.
                Err(Cause::TunnelLost { .. }) => self.remove_closed(),
                answer => return answer,
            }
        }
    }

    /// Ends tunnels that nobody has used for [`SPARE_FOR`], but one. To be called now and then.
    pub(crate) fn prune(&self) {
        let mut pool = self.pool();
        let mut spare = 0;
        pool.tunnels.retain_mut(|member| {
            let is_idle = member.tunnel.channels() == 0;
            spare += usize::from(is_idle);
            let idle_for = member.idle.check(is_idle, Instant::now());
            !is_idle || spare == 1 || idle_for < SPARE_FOR
        });
    }

    /// Lets go of all tunnels; connections keep those that they are on.
    pub(crate) fn close(&self) {
        self.stop.cancel();
        self.pool().tunnels.clear();
    }

    /// A tunnel for one connection alone; `None` where there can be none now.
    async fn dial_own(self: &Arc<Self>, wanted: PendingDial<'_>) -> Option<Reserved> {
        let mut gate = self.gate.subscribe();
        let dialled = tokio::select! {
            dialled = self.dialer.dial(wanted.others) => dialled,
            // The line is known to be dead: this would only wait for its time limit.
            _ = gate.wait_for(|gate| *gate != Gate::Open) => return None,
        };
        match dialled {
            Ok(tunnel) => {
                let reserved = tunnel.reserve();
                self.add(tunnel);
                Some(reserved)
            }
            Err(cause) => {
                tracing::info!(%cause, "no further tunnel; connections share those that are up");
                self.pool().full_until = Some(Instant::now() + FULL_FOR);
                // The bastion may be full, or out of reach.
                self.probe();
                None
            }
        }
    }

    fn choose(&self) -> Choice<'_> {
        let mut pool = self.pool();
        // Of those that are alike the oldest: sshd has its memory for it, and its TCP connection
        // knows the line.
        let idle = pool
            .tunnels
            .iter_mut()
            .filter(|member| member.tunnel.channels() == 0 && !member.tunnel.is_closed())
            .min_by_key(|member| rank(member.tunnel.generation(), member.tunnel.shift()));
        if let Some(member) = idle {
            member.idle.end();
            return Choice::Use(member.tunnel.reserve());
        }
        let alive: Vec<_> = pool
            .tunnels
            .iter()
            .map(|member| &member.tunnel)
            .filter(|tunnel| !tunnel.is_closed())
            .collect();
        if alive.is_empty() {
            return Choice::Nothing;
        }
        let in_use: Vec<_> = alive.iter().map(|tunnel| TunnelLoad::of(tunnel)).collect();
        let others = pool.count();
        let may_grow = !pool.is_full() && others < MAX_TUNNELS;
        if let Some(place) = shared(&in_use, may_grow) {
            return Choice::Use(alive[place].reserve());
        }
        pool.wanted += 1;
        Choice::DialOwn(PendingDial {
            tunnels: self,
            others,
        })
    }

    /// Dials another tunnel in the background where none is idle.
    fn keep_one_ready(self: &Arc<Self>) {
        let others = {
            let mut pool = self.pool();
            let has_idle = pool
                .tunnels
                .iter()
                .any(|member| member.tunnel.channels() == 0);
            if has_idle || pool.growing || pool.is_full() || pool.count() >= MAX_TUNNELS {
                return;
            }
            let others = pool.count();
            pool.growing = true;
            others
        };
        let this = Arc::clone(self);
        tokio::spawn(async move {
            let dialled = this
                .stop
                .run_until_cancelled(this.dialer.dial(others))
                .await;
            this.pool().growing = false;
            match dialled {
                Some(Ok(tunnel)) => this.add(tunnel),
                Some(Err(cause)) => {
                    tracing::debug!(%cause, "no tunnel ahead of need");
                    this.pool().full_until = Some(Instant::now() + FULL_FOR);
                }
                None => {}
            }
        });
    }

    fn add(self: &Arc<Self>, tunnel: Tunnel) {
        if self.stop.is_cancelled() {
            return;
        }
        self.pool().tunnels.push(Member {
            tunnel: tunnel.clone(),
            idle: Idle::default(),
        });
        let this = Arc::clone(self);
        let counting = self.count.add();
        tokio::spawn(async move {
            let _counting = counting;
            // Watches without keeping the tunnel alive.
            let closed = tunnel.closing();
            drop(tunnel);
            let watching = this.stop.run_until_cancelled(closed.closed()).await;
            if let Some(cause) = watching {
                this.ended(cause);
            }
        });
    }

    fn ended(&self, cause: Cause) {
        let (before, left) = {
            let mut pool = self.pool();
            let before = pool.tunnels.len();
            pool.tunnels.retain(|member| !member.tunnel.is_closed());
            (before, pool.tunnels.len())
        };
        if before == left {
            // One that was retired or pruned: nobody misses it.
        } else if left == 0 {
            self.gate.send_replace(Gate::Hold(Some(cause.clone())));
            self.lost.send_replace(Some(cause));
        } else {
            // What ended one may have ended the others, and not all of them listen: one
            // whose client doesn't read notices nothing.
            self.probe();
        }
    }

    fn remove_closed(&self) {
        let loss = self
            .pool()
            .tunnels
            .iter()
            .find(|member| member.tunnel.is_closed())
            .map(|member| member.tunnel.loss());
        if let Some(cause) = loss {
            self.ended(cause);
        }
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens a channel; where that takes long, asks whether the line is alive.
async fn open(reserved: Reserved, server: &HostPort) -> Result<ChannelStream, Cause> {
    let tunnel = reserved.tunnel().clone();
    let opening = reserved.open(server);
    tokio::pin!(opening);
    tokio::select! {
        answer = &mut opening => return answer,
        () = sleep(OPEN_LIMIT) => {}
    }
    // Alive means that it is the database which takes its time.
    match probe(&tunnel).await {
        Liveness::Alive => opening.await,
        Liveness::Silent => Err(tunnel.loss()),
    }
}

fn none_is_up() -> Cause {
    Cause::TunnelLost {
        detail: "no tunnel is up".into(),
    }
}

async fn probe(tunnel: &Tunnel) -> Liveness {
    let pulse = tunnel.probe(PROBE_LIMIT).await;
    if pulse == Liveness::Silent && !tunnel.is_closed() {
        tunnel.cut("the line went silent");
    }
    pulse
}

// === impl PendingDial ===

impl Drop for PendingDial<'_> {
    fn drop(&mut self) {
        self.tunnels.pool().wanted -= 1;
    }
}

// === impl Pool ===

impl Pool {
    /// Tunnels that are there, or will be.
    fn count(&self) -> usize {
        self.tunnels.len() + self.wanted + usize::from(self.growing)
    }

    fn is_full(&self) -> bool {
        self.full_until.is_some_and(|until| until > Instant::now())
    }
}
