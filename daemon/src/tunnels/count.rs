//! How many tunnels there are.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

/// The tunnels of the pool that a session uses; clones follow the same pool.
#[derive(Debug, Clone, Default)]
pub struct TunnelCount(Arc<Mutex<PoolCount>>);

/// Tunnels of a pool that live now; clones count the same ones.
#[derive(Debug, Clone, Default)]
pub(super) struct PoolCount(Arc<AtomicU64>);

/// Counts one tunnel while it lives.
#[derive(Debug)]
pub(super) struct CountedTunnel(PoolCount);

// === impl TunnelCount ===

impl TunnelCount {
    /// Tunnels now. Sessions that share a pool all have them.
    pub fn now(&self) -> u64 {
        self.count().0.load(Ordering::Relaxed)
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
    /// Counts a tunnel until the answer is dropped.
    pub(super) fn add(&self) -> CountedTunnel {
        self.0.fetch_add(1, Ordering::Relaxed);
        CountedTunnel(self.clone())
    }
}

impl Drop for CountedTunnel {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}
