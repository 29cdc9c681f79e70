//! Finds out that a line is dead, and keeps the server from taking this end for dead.
//!
//! Apart from russh's loop, which may be waiting for the line itself: for room to write, where
//! an upload goes nowhere.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use russh::client::Handle;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use super::{handler::Handler, intake::Intake, loss::Loss, metered_stream::LinkStats};

/// How soon a silent line counts as dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// How often a silent line is probed.
    pub interval: Duration,
    /// How long a probe may go unanswered.
    pub timeout: Duration,
}

/// How often the server hears something while it isn't heard: its own probes stand in a queue
/// behind what no client takes, and any packet counts as an answer to them. Servers that ask
/// more often than every other second are not known.
const WHILE_PAUSED: Duration = Duration::from_secs(1);

/// Watches one connection.
pub(super) struct Watch {
    pub(super) keepalive: Keepalive,
    pub(super) closed: CancellationToken,
    pub(super) loss: Loss,
    pub(super) stats: LinkStats,
    pub(super) intake: Arc<Intake>,
}

/// russh's handle, which keeps the connection alive.
type WeakHandle = Weak<Handle<Handler>>;

// === impl Watch ===

impl Watch {
    /// Ends with the connection, which it ends where the line stays silent.
    pub(super) async fn run(self, handle: WeakHandle) {
        let closed = self.closed.clone();
        let dead = closed.run_until_cancelled(self.until_dead(&handle)).await;
        if dead == Some(true) {
            self.loss.note("the line went silent".into());
            self.stats.cut();
            self.closed.cancel();
        }
    }

    /// Whether the line is dead, or else nobody uses it any more.
    async fn until_dead(&self, handle: &WeakHandle) -> bool {
        let Keepalive { interval, timeout } = self.keepalive;
        loop {
            let due = Instant::now() + interval.saturating_sub(self.stats.silent_for());
            if !self.wait_until(due, handle).await {
                return false;
            }
            if self.stats.silent_for() < interval {
                continue;
            }
            let signs = self.stats.signs();
            let deadline = Instant::now() + timeout;
            if !ask(handle, deadline).await || !self.wait_until(deadline, handle).await {
                return false;
            }
            if self.stats.signs() == signs && !self.intake.is_paused() {
                return true;
            }
        }
    }

    /// Waits, longer where the line isn't read meanwhile.
    async fn wait_until(&self, due: Instant, handle: &WeakHandle) -> bool {
        tokio::select! {
            biased;
            () = self.intake.paused() => self.while_paused(handle).await,
            () = sleep_until(due) => true,
        }
    }

    /// Lets the server hear something while the line isn't read.
    async fn while_paused(&self, handle: &WeakHandle) -> bool {
        loop {
            let pauses = self.intake.pauses();
            let next = Instant::now() + WHILE_PAUSED;
            sleep_until(next).await;
            if self.intake.is_paused() {
                // What is bearable may have become less, as others keep more.
                self.intake.relieve();
                if !ask(handle, next + WHILE_PAUSED).await {
                    return false;
                }
            } else if self.intake.pauses() == pauses {
                return true;
            }
        }
    }
}

/// Asks for an answer, without waiting for it; `false` where nobody uses the connection.
async fn ask(handle: &WeakHandle, deadline: Instant) -> bool {
    let Some(handle) = handle.upgrade() else {
        return false;
    };
    // Where it can't even be asked, the line is full or dead.
    let _ = timeout_at(deadline, handle.send_keepalive(true)).await;
    true
}
