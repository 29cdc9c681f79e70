//! Connections and bytes of a session, counted where they happen, and who its clients are.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::record::Registry;
use crate::{model::Cause, tunnels::TunnelCount};

/// Connections and bytes, counted where they happen and read where they are shown.
#[derive(Debug, Default)]
pub struct Counters {
    active: AtomicU64,
    total: AtomicU64,
    pub(super) sent: AtomicU64,
    pub(super) received: AtomicU64,
    pub(crate) tunnels: TunnelCount,
    attempts: AtomicU64,
    failed_attempts: AtomicU64,
    warm: AtomicU64,
    /// The clients that are there.
    pub(crate) registry: Arc<Registry>,
}

/// Counts one connection while it lives.
#[derive(Debug)]
pub struct Counting(Arc<Counters>);

// === impl Counters ===

impl Counters {
    /// Counts a connection until the answer is dropped.
    pub fn connection(self: &Arc<Self>) -> Counting {
        self.active.fetch_add(1, Ordering::Relaxed);
        self.total.fetch_add(1, Ordering::Relaxed);
        Counting(Arc::clone(self))
    }

    /// Connections that are kept ready.
    pub fn warm(&self) -> u64 {
        self.warm.load(Ordering::Relaxed)
    }

    pub(super) fn set_warm(&self, count: u64) {
        self.warm.store(count, Ordering::Relaxed);
    }

    /// Counts an attempt that has ended.
    pub fn attempted<T>(&self, outcome: &Result<T, Cause>) {
        let count = match outcome {
            Ok(_) => &self.attempts,
            Err(_) => &self.failed_attempts,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// How long the bastion takes to answer; `None` while there is no tunnel.
    pub fn round_trip(&self) -> Option<Duration> {
        self.tunnels.round_trip()
    }

    /// The clients that are there.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Tunnels now.
    pub fn tunnels(&self) -> u64 {
        self.tunnels.now()
    }

    /// Attempts that brought the session up, or renewed its credentials.
    pub fn successful_attempts(&self) -> u64 {
        self.attempts.load(Ordering::Relaxed)
    }

    /// Attempts that failed.
    pub fn failed_attempts(&self) -> u64 {
        self.failed_attempts.load(Ordering::Relaxed)
    }

    /// Connections now.
    pub fn active(&self) -> u64 {
        self.active.load(Ordering::Relaxed)
    }

    /// Connections since the session began.
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// Bytes to the database.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Bytes from the database.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}
