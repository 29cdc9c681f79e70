//! The tunnels of one session: what is up, which one a new connection gets, and what a
//! connection is told while there is none.
//!
//! A connection gets a tunnel of its own while the session has fewer than [`MAX_TUNNELS`]:
//! russh's loop waits for a channel's reader, so on a shared tunnel a client that stops
//! reading would stop the others. An idle tunnel is kept ready, which hides the handshake.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{Counters, attempt::Dialer};
use crate::{
    model::{Cause, HostPort},
    ssh::{ChannelStream, Reserved, Tunnel},
};

/// Tunnels for each session; more connections than this share them.
const MAX_TUNNELS: usize = 8;

/// How long a bastion that refused another tunnel isn't asked for one.
const FULL_FOR: Duration = Duration::from_secs(60);

/// Whether connections get through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Gate {
    /// A tunnel is up.
    Open,
    /// None is, and one is being tried for: connections wait.
    Hold(Option<Cause>),
    /// Waiting can't help.
    Refuse(Cause),
}

/// The tunnels that new connections may use.
pub(super) struct Tunnels {
    dialer: Dialer,
    counters: Arc<Counters>,
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
    full_until: Option<Instant>,
}

struct Member {
    tunnel: Tunnel,
    /// How many checks in a row have found it idle.
    idle_checks: u8,
}

/// What a new connection gets.
enum Choice {
    Use(Reserved),
    DialOwn,
    Nothing,
}

// === impl Tunnels ===

impl Tunnels {
    pub(super) fn new(dialer: Dialer, counters: Arc<Counters>) -> Arc<Self> {
        Arc::new(Self {
            dialer,
            counters,
            pool: Mutex::default(),
            gate: watch::Sender::new(Gate::Hold(None)),
            lost: watch::Sender::new(None),
            stop: CancellationToken::new(),
        })
    }

    /// Whether connections get through, and each change of it.
    pub(super) fn gate(&self) -> watch::Receiver<Gate> {
        self.gate.subscribe()
    }

    /// Told each time the last tunnel ends.
    pub(super) fn lost(&self) -> watch::Receiver<Option<Cause>> {
        self.lost.subscribe()
    }

    /// Lets a proven tunnel serve new connections. Those of an older key take no more; they
    /// end when their last channel does.
    pub(super) fn install(self: &Arc<Self>, tunnel: Tunnel) {
        {
            let mut pool = self.pool();
            pool.tunnels
                .retain(|member| member.tunnel.generation() >= tunnel.generation());
        }
        self.add(tunnel);
        self.gate.send_replace(Gate::Open);
    }

    /// Tells connections to wait, or not to. Without effect on those that have a channel.
    pub(super) fn shut(&self, gate: Gate) {
        self.gate.send_replace(gate);
    }

    /// Opens a channel for one connection.
    ///
    /// # Errors
    /// The cause, where no tunnel is up or the bastion refuses the channel. Dropping the
    /// future abandons the channel.
    pub(super) async fn channel(
        self: &Arc<Self>,
        server: &HostPort,
    ) -> Result<ChannelStream, Cause> {
        loop {
            let reserved = match self.choose() {
                Choice::Use(reserved) => reserved,
                Choice::DialOwn => match self.dialer.dial().await {
                    Ok(tunnel) => {
                        let reserved = tunnel.reserve();
                        self.add(tunnel);
                        reserved
                    }
                    Err(cause) => {
                        tracing::info!(%cause, "no further tunnel; connections share those that are up");
                        self.pool().full_until = Some(Instant::now() + FULL_FOR);
                        continue;
                    }
                },
                Choice::Nothing => {
                    return Err(Cause::TunnelLost {
                        detail: "no tunnel is up".into(),
                    });
                }
            };
            self.keep_one_ready();
            match reserved.open(server).await {
                // A dead tunnel leaves the pool by itself; the next choice is another one.
                Err(Cause::TunnelLost { .. }) => self.remove_closed(),
                answer => return answer,
            }
        }
    }

    /// Ends tunnels that nobody has used for two checks, but one.
    pub(super) fn prune(&self) {
        let mut pool = self.pool();
        let mut spare = 0;
        for member in &mut pool.tunnels {
            let idle = member.tunnel.channels() == 0;
            member.idle_checks = if idle {
                member.idle_checks.saturating_add(1)
            } else {
                0
            };
        }
        pool.tunnels.retain(|member| {
            spare += usize::from(member.tunnel.channels() == 0);
            member.tunnel.channels() > 0 || spare == 1 || member.idle_checks < 2
        });
    }

    /// Lets go of all tunnels; connections keep those that they are on.
    pub(super) fn close(&self) {
        self.stop.cancel();
        self.pool().tunnels.clear();
    }

    fn choose(&self) -> Choice {
        let pool = self.pool();
        let alive = || {
            pool.tunnels
                .iter()
                .map(|member| &member.tunnel)
                .filter(|tunnel| !tunnel.is_closed())
        };
        // Of the idle ones the newest: it has the newest key.
        if let Some(idle) = alive().rfind(|tunnel| tunnel.channels() == 0) {
            return Choice::Use(idle.reserve());
        }
        let least = alive().min_by_key(|tunnel| tunnel.channels());
        match least {
            None => Choice::Nothing,
            Some(_) if pool.tunnels.len() < MAX_TUNNELS && !pool.is_full() => Choice::DialOwn,
            Some(tunnel) => Choice::Use(tunnel.reserve()),
        }
    }

    /// Dials another tunnel in the background where none is idle.
    fn keep_one_ready(self: &Arc<Self>) {
        {
            let mut pool = self.pool();
            let has_idle = pool
                .tunnels
                .iter()
                .any(|member| member.tunnel.channels() == 0);
            if has_idle || pool.growing || pool.is_full() || pool.tunnels.len() >= MAX_TUNNELS {
                return;
            }
            pool.growing = true;
        }
        let this = Arc::clone(self);
        tokio::spawn(async move {
            let dialled = this.stop.run_until_cancelled(this.dialer.dial()).await;
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
            idle_checks: 0,
        });
        let this = Arc::clone(self);
        let counting = self.counters.tunnel();
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
        let was_last = {
            let mut pool = self.pool();
            let before = pool.tunnels.len();
            pool.tunnels.retain(|member| !member.tunnel.is_closed());
            // Tunnels that were retired or pruned end too, and nobody misses them.
            before > 0 && pool.tunnels.is_empty()
        };
        if was_last {
            self.gate.send_replace(Gate::Hold(Some(cause.clone())));
            self.lost.send_replace(Some(cause));
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

// === impl Pool ===

impl Pool {
    fn is_full(&self) -> bool {
        self.full_until.is_some_and(|until| until > Instant::now())
    }
}
