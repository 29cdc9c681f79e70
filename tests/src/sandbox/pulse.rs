//! Tells waiters that something in the sandbox changed, so that a test waits for the event
//! and not for a while.

use tokio::sync::watch;

/// Beats with every change that [`Stats`](super::Stats) shows.
#[derive(Debug, Clone)]
pub(crate) struct Pulse(watch::Sender<u64>);

// === impl Pulse ===

impl Pulse {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(0))
    }

    pub(crate) fn beat(&self) {
        self.0.send_modify(|beats| *beats += 1);
    }

    pub(crate) fn listen(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }
}
