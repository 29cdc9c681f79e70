//! How many tunnels there are, and how far the bastion is.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// The tunnels of the pool that a session uses; clones follow the same pool.
#[derive(Debug, Clone, Default)]
pub struct TunnelCount(Arc<Mutex<PoolCount>>);

/// Tunnels of a pool that live now; clones count the same ones.
#[derive(Debug, Clone, Default)]
pub(super) struct PoolCount(Arc<Tunnels>);

#[derive(Debug, Default)]
struct Tunnels {
    now: AtomicU64,
    /// Microseconds, of the tunnel that was made last.
    round_trip: AtomicU64,
}

/// Counts one tunnel while it lives.
#[derive(Debug)]
pub(super) struct CountedTunnel(PoolCount);

// === impl TunnelCount ===

impl TunnelCount {
    /// Tunnels now. Sessions that share a pool all have them.
    pub fn now(&self) -> u64 {
        self.count().0.now.load(Ordering::Relaxed)
    }

    /// How long the bastion took to answer when a tunnel was last made; `None` while there is
    /// none.
    pub fn round_trip(&self) -> Option<Duration> {
        let count = self.count();
        let micros = count.0.round_trip.load(Ordering::Relaxed);
        (count.0.now.load(Ordering::Relaxed) > 0).then(|| Duration::from_micros(micros))
    }

    /// Tells the tunnels of that pool from now on.
    pub(super) fn follow(&self, pool: &PoolCount) {
        *self.count() = pool.clone();
    }

    fn count(&self) -> MutexGuard<'_, PoolCount> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl PoolCount ===

impl PoolCount {
    /// Counts a tunnel until the answer is dropped; its bastion is so far.
    pub(super) fn add(&self, round_trip: Duration) -> CountedTunnel {
        let micros = u64::try_from(round_trip.as_micros()).unwrap_or(u64::MAX);
        self.0.round_trip.store(micros, Ordering::Relaxed);
        self.0.now.fetch_add(1, Ordering::Relaxed);
        CountedTunnel(self.clone())
    }
}

impl Drop for CountedTunnel {
    fn drop(&mut self) {
        self.0.0.now.fetch_sub(1, Ordering::Relaxed);
    }
}
