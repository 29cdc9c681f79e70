//! How many tunnels there are.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Tunnels that live now; clones count the same ones.
#[derive(Debug, Clone, Default)]
pub struct TunnelCount(Arc<AtomicU64>);

/// Counts one tunnel while it lives.
#[derive(Debug)]
pub(crate) struct CountedTunnel(TunnelCount);

// === impl TunnelCount ===

impl TunnelCount {
    /// Tunnels now.
    pub fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

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
