//! The tunnels as one session has them: its add-on's pool, and whether its connections get
//! through.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::{Gate, SharedPool, TunnelCount, count::PoolCount, pool::none_is_up};
use crate::{
    model::{Cause, HostPort},
    ssh::{ChannelStream, Closing},
};

/// The tunnels that a session's connections may use.
pub(crate) struct Tunnels {
    /// Known once the target has been looked up.
    pool: Mutex<Option<SharedPool>>,
    gate: watch::Sender<Gate>,
    count: TunnelCount,
}

// === impl Tunnels ===

impl Tunnels {
    /// None yet. `count` tells how many there are.
    pub(crate) fn new(count: TunnelCount) -> Arc<Self> {
        Arc::new(Self {
            pool: Mutex::default(),
            gate: watch::Sender::new(Gate::Hold(None)),
            count,
        })
    }

    /// Whether connections get through, and each change of it.
    pub(crate) fn gate(&self) -> watch::Receiver<Gate> {
        self.gate.subscribe()
    }

    /// Tells connections whether they get through. Without effect on those that have a
    /// channel.
    pub(crate) fn set_gate(&self, gate: Gate) {
        self.gate.send_if_modified(|now| {
            let changes = *now != gate;
            *now = gate;
            changes
        });
    }

    /// New connections take their tunnels from `pool`; those that have one keep it.
    pub(crate) fn take_from(&self, pool: &SharedPool) {
        self.count.follow(pool.count());
        *self.pool_slot() = Some(Arc::clone(pool));
    }

    /// Lets go of the pool; connections keep the tunnels that they are on.
    pub(crate) fn close(&self) {
        self.count.follow(&PoolCount::default());
        let pool = self.pool_slot().take();
        drop(pool);
    }

    /// Opens a channel for one connection.
    ///
    /// # Errors
    /// The cause, where no tunnel is up or the bastion refuses the channel. Dropping the
    /// future abandons the channel.
    pub(crate) async fn channel(&self, server: &HostPort) -> Result<ChannelStream, Cause> {
        let pool = self.pool().ok_or_else(none_is_up)?;
        pool.channel(server).await
    }

    /// Opens a channel for a cancel request over a tunnel that is up, first over that of the
    /// connection with the end `prefer`. Never dials.
    ///
    /// # Errors
    /// As [`Tunnels::channel`].
    pub(crate) async fn channel_for_cancel(
        &self,
        server: &HostPort,
        prefer: Option<&Closing>,
    ) -> Result<ChannelStream, Cause> {
        let pool = self.pool().ok_or_else(none_is_up)?;
        pool.channel_for_cancel(server, prefer).await
    }

    /// Asks every tunnel for a sign of life, in the background, and cuts those that give
    /// none. For when the line may be dead: keepalive would find it later.
    pub(crate) fn probe(&self) {
        if let Some(pool) = self.pool() {
            pool.probe();
        }
    }

    pub(crate) fn pool(&self) -> Option<SharedPool> {
        self.pool_slot().clone()
    }

    fn pool_slot(&self) -> MutexGuard<'_, Option<SharedPool>> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
