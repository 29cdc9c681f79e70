//! How much the process keeps of what clients don't take, in memory and on disk, and what part
//! of it a tunnel may have.
//!
//! A tunnel may have half as much as is left over after all others. So there is always room for
//! one more, those that are greedy get the same, and nobody needs to know how many they are.

use std::sync::{
    Arc, LazyLock,
    atomic::{AtomicUsize, Ordering},
};

/// Memory for all tunnels: thirty of them with a full queue.
const MEMORY: usize = 96 * 1024 * 1024;
/// Disk for all tunnels.
const DISK: usize = 512 * 1024 * 1024;
/// Disk for one tunnel. russh gives the server its window back whether or not a client reads,
/// so this much comes over the line for nobody before it is known that nobody wants it.
const DISK_FOR_TUNNEL: usize = 128 * 1024 * 1024;
/// What may wait in russh's queues for the readers of one tunnel: what comes at 1 Gbit/s while
/// they are busy for 25 ms.
pub(in crate::ssh) const QUEUE: usize = 3 * 1024 * 1024;
/// What may wait there in any case: a tunnel that can't be read at all can't answer.
const LEAST_QUEUE: usize = 256 * 1024;

/// What all tunnels of a process may keep.
pub(in crate::ssh) struct ProcessBudget {
    memory: Store,
    disk: Store,
}

/// What one tunnel may keep, and what it keeps on disk.
pub(in crate::ssh) struct TunnelBudget {
    process: Arc<ProcessBudget>,
    disk: AtomicUsize,
}

struct Store {
    used: AtomicUsize,
    limit: usize,
}

// === impl ProcessBudget ===

impl ProcessBudget {
    /// The one of this process.
    pub(in crate::ssh) fn shared() -> Arc<Self> {
        static SHARED: LazyLock<Arc<ProcessBudget>> =
            LazyLock::new(|| ProcessBudget::new(MEMORY, DISK));
        Arc::clone(&SHARED)
    }

    /// Bytes in memory and on disk.
    pub(in crate::ssh) fn new(memory: usize, disk: usize) -> Arc<Self> {
        Arc::new(Self {
            memory: Store::new(memory),
            disk: Store::new(disk),
        })
    }

    pub(in crate::ssh) fn for_tunnel(self: &Arc<Self>) -> Arc<TunnelBudget> {
        Arc::new(TunnelBudget {
            process: Arc::clone(self),
            disk: AtomicUsize::new(0),
        })
    }
}

// === impl TunnelBudget ===

impl TunnelBudget {
    /// Takes room on disk, where the tunnel may have more.
    pub(super) fn take_disk(&self, bytes: usize) -> bool {
        let disk = &self.process.disk;
        let fair = disk.fair().min(DISK_FOR_TUNNEL);
        let own = self.disk.load(Ordering::Relaxed);
        let taken = own + bytes <= fair && disk.take(bytes);
        if taken {
            self.disk.fetch_add(bytes, Ordering::Relaxed);
        }
        taken
    }

    pub(super) fn give_disk(&self, bytes: usize) {
        self.disk.fetch_sub(bytes, Ordering::Relaxed);
        self.process.disk.give(bytes);
    }

    /// Takes room in memory for what could go to the disk as well.
    pub(super) fn take_memory(&self, bytes: usize) -> bool {
        let memory = &self.process.memory;
        bytes <= memory.fair() && memory.take(bytes)
    }

    pub(super) fn give_memory(&self, bytes: usize) {
        self.process.memory.give(bytes);
    }

    /// Counts what has come and is in memory already.
    pub(in crate::ssh) fn queued(&self, bytes: usize) {
        self.process.memory.used.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(in crate::ssh) fn unqueued(&self, bytes: usize) {
        self.process.memory.give(bytes);
    }

    /// How much may wait in russh's queues before the line is read no further.
    pub(in crate::ssh) fn queue_limit(&self) -> usize {
        self.process.memory.fair().clamp(LEAST_QUEUE, QUEUE)
    }
}

// === impl Store ===

impl Store {
    fn new(limit: usize) -> Self {
        Self {
            used: AtomicUsize::new(0),
            limit,
        }
    }

    /// Half of what is left.
    fn fair(&self) -> usize {
        self.limit.saturating_sub(self.used.load(Ordering::Relaxed)) / 2
    }

    fn take(&self, bytes: usize) -> bool {
        let before = self.used.fetch_add(bytes, Ordering::Relaxed);
        let fits = before.saturating_add(bytes) <= self.limit;
        if !fits {
            self.give(bytes);
        }
        fits
    }

    fn give(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
impl TunnelBudget {
    pub(in crate::ssh) fn used(&self) -> (usize, usize) {
        let used = |store: &Store| store.used.load(Ordering::Relaxed);
        (used(&self.process.memory), used(&self.process.disk))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: usize = 128 * 1024;

    fn fill(tunnel: &TunnelBudget) -> usize {
        std::iter::from_fn(|| tunnel.take_disk(BLOCK).then_some(BLOCK)).sum()
    }

    #[test]
    fn a_greedy_tunnel_leaves_room_for_the_next() {
        let process = ProcessBudget::new(MEMORY, DISK);
        let tunnels: Vec<_> = (0..12).map(|_| process.for_tunnel()).collect();
        let taken: Vec<_> = tunnels.iter().map(|tunnel| fill(tunnel)).collect();
        assert_eq!(taken[0], DISK_FOR_TUNNEL);
        assert!(taken.iter().all(|taken| *taken > 0), "{taken:?}");
        assert!(taken.iter().sum::<usize>() <= DISK);
        for (tunnel, taken) in tunnels.iter().zip(taken) {
            tunnel.give_disk(taken);
        }
        assert_eq!(tunnels[0].used(), (0, 0));
        assert_eq!(fill(&tunnels[7]), DISK_FOR_TUNNEL);
    }

    #[test]
    fn queues_are_shorter_while_much_is_kept_and_never_nothing() {
        let process = ProcessBudget::new(MEMORY, DISK);
        let tunnel = process.for_tunnel();
        assert_eq!(tunnel.queue_limit(), QUEUE);
        process.for_tunnel().queued(MEMORY - QUEUE);
        assert_eq!(tunnel.queue_limit(), QUEUE / 2);
        process.for_tunnel().queued(2 * QUEUE);
        assert_eq!(tunnel.queue_limit(), LEAST_QUEUE);
        assert!(!tunnel.take_memory(1));
    }
}
