//! Finds out that a line is dead, and keeps the server from taking this end for dead.
//!
//! Apart from russh's loop, which may be waiting for the line itself: for room to write, where
//! an upload goes nowhere.

use std::{
    sync::{Arc, LazyLock, Weak},
    time::Duration,
};

use russh::client::Handle;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{
    handler::Handler, intake::Intake, loss::Loss, metered_stream::LinkStats, route::Route,
};

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

/// Lines are looked at so often in each interval, all of them at the same moments: a laptop
/// then wakes for all its lines together.
const TICKS: u32 = 2;

/// A tunnel that nobody uses is probed only each so many intervals, while another tunnel to the
/// same bastion is probed in each.
const IDLE: u32 = 4;

/// What the moments are counted from.
static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// A question that the server has not answered yet.
#[derive(Clone, Copy)]
struct Probe {
    /// The line's signs of life when it was asked.
    signs: u64,
    /// Without another sign by then, the line is dead.
    deadline: Instant,
}

/// Why a watch goes on.
enum Waited {
    Due,
    /// Another tunnel to the same bastion has no answer.
    Doubted,
    /// Nobody uses the connection any more.
    Unused,
}

/// Watches one connection.
pub(super) struct Watch {
    pub(super) keepalive: Keepalive,
    pub(super) route: Route,
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
        let mut doubts = self.route.doubts();
        let mut probe: Option<Probe> = None;
        loop {
            let tick = next_tick(Instant::now(), interval / TICKS);
            let due = probe.map_or(tick, |probe| tick.min(probe.deadline));
            let is_doubted = match self.wait_until(due, handle, &mut doubts).await {
                Waited::Unused => return false,
                Waited::Doubted => true,
                Waited::Due => false,
            };
            let signs = self.stats.signs();
            let now = Instant::now();
            match probe {
                Some(asked) if asked.signs == signs && !self.intake.is_paused() => {
                    if now >= asked.deadline {
                        return true;
                    }
                    if !is_doubted {
                        self.route.doubt();
                    }
                }
                _ if is_doubted || self.is_due(now) => {
                    let deadline = now + timeout;
                    probe = Some(Probe { signs, deadline });
                    if !ask(handle, deadline).await {
                        return false;
                    }
                }
                _ => probe = None,
            }
        }
    }

    /// Whether the line is to be probed at this tick.
    fn is_due(&self, now: Instant) -> bool {
        let interval = self.keepalive.interval;
        let tick = interval / TICKS;
        // At the next tick it would have been silent for longer than the interval.
        let silent_for = self.stats.silent_for() + tick;
        silent_for > interval
            && (self.intake.count() > 0
                || silent_for > interval * IDLE
                || self.route.watch_over(now, now + interval - tick / 2))
    }

    /// Waits, longer where the line isn't read meanwhile.
    async fn wait_until(
        &self,
        due: Instant,
        handle: &WeakHandle,
        doubts: &mut watch::Receiver<u64>,
    ) -> Waited {
        tokio::select! {
            biased;
            () = self.intake.paused() => match self.while_paused(handle).await {
                true => Waited::Due,
                false => Waited::Unused,
            },
            Ok(()) = doubts.changed() => Waited::Doubted,
            () = sleep_until(due) => Waited::Due,
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

/// The first moment after `now` that is a whole number of `pause`s away from the origin.
fn next_tick(now: Instant, pause: Duration) -> Instant {
    let pause = pause.max(Duration::from_millis(1)).as_nanos();
    let since = now.saturating_duration_since(*ORIGIN).as_nanos();
    let next = (since / pause + 1) * pause;
    let next = u64::try_from(next).unwrap_or(u64::MAX);
    *ORIGIN + Duration::from_nanos(next)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_the_same_for_all_lines() {
        let pause = Duration::from_millis(2500);
        let first = next_tick(*ORIGIN, pause);
        assert_eq!(first, *ORIGIN + pause);
        let between = [0, 1, 1200, 2499].map(|ms| first + Duration::from_millis(ms));
        assert!(
            between
                .iter()
                .all(|now| next_tick(*now, pause) == first + pause)
        );
        assert_eq!(next_tick(first + pause, pause), first + 2 * pause);
    }
}
