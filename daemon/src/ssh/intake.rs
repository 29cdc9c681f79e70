//! What has come over a line and waits for its readers, and when the line is read no further.
//!
//! russh's loop serves all channels of a connection. It puts what comes into a queue for each
//! channel, and would wait where a queue is full: it could then answer none of the server's
//! probes, and send nothing. So the queues are long enough for whatever may wait, and the bound
//! is below russh: while too much waits, the line isn't read ([`Intake::poll_room`]), and TCP
//! holds the server back. The loop goes on sending.
//!
//! Where channels share the line, one reader that has stopped must not hold up the others: what
//! waits for it is then [taken out of its queue](Reader::decouple).

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicIsize, AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use futures_util::task::AtomicWaker;
use russh::{ChannelId, ChannelMsg};
use tokio::sync::{Notify, watch};

use super::channel::{QUEUE, TunnelBudget};

/// What a message costs beyond the bytes in it.
const OVERHEAD: usize = 128;

/// Messages for which there is room in a channel's queue: more than may wait at all.
pub(super) const MESSAGES: usize = 2 * QUEUE / OVERHEAD;

/// What waits on one line.
pub(super) struct Intake {
    /// Bytes. Less than nothing where some are taken before they are counted.
    waiting: AtomicIsize,
    is_paused: AtomicBool,
    /// russh's loop, while it is kept from reading the line.
    line: AtomicWaker,
    pauses: AtomicU64,
    paused: Notify,
    /// Those that share the line, open or being opened.
    channels: watch::Sender<usize>,
    known: Mutex<HashMap<ChannelId, Known>>,
    budget: Arc<TunnelBudget>,
}

/// What waits for one channel's reader.
#[derive(Default)]
pub(super) struct Waiting {
    bytes: AtomicIsize,
    /// Whether nobody will take it any more.
    is_closed: AtomicBool,
}

/// Who takes a channel's messages from its queue.
pub(super) trait Reader: Send + Sync {
    /// Has what waits, and what comes, taken out of the queue in the reader's place until the
    /// reader has caught up.
    fn decouple(&self);
}

#[derive(Default)]
struct Known {
    waiting: Arc<Waiting>,
    reader: Option<Weak<dyn Reader>>,
}

// === impl Intake ===

impl Intake {
    pub(super) fn new(budget: Arc<TunnelBudget>) -> Arc<Self> {
        Arc::new(Self {
            waiting: AtomicIsize::new(0),
            is_paused: AtomicBool::new(false),
            line: AtomicWaker::new(),
            pauses: AtomicU64::new(0),
            paused: Notify::new(),
            channels: watch::Sender::new(0),
            known: Mutex::default(),
            budget,
        })
    }

    pub(super) fn budget(&self) -> &Arc<TunnelBudget> {
        &self.budget
    }

    // Channels.

    /// Counts one more channel.
    pub(super) fn join(&self) {
        self.channels.send_modify(|channels| *channels += 1);
        // What came before knew of no other channel.
        if self.waiting.load(Ordering::SeqCst) >= self.resume_below() {
            self.relieve();
        }
    }

    /// Counts one channel less.
    pub(super) fn leave(&self) {
        self.channels.send_modify(|channels| *channels -= 1);
    }

    /// How many channels there are, and each change.
    pub(super) fn channels(&self) -> watch::Receiver<usize> {
        self.channels.subscribe()
    }

    /// How many channels there are.
    pub(super) fn count(&self) -> usize {
        *self.channels.borrow()
    }

    /// What waits for a channel; the same for all who ask.
    pub(super) fn waiting(&self, channel: ChannelId) -> Arc<Waiting> {
        let mut known = self.known();
        known.retain(|_, known| !known.waiting.is_closed());
        Arc::clone(&known.entry(channel).or_default().waiting)
    }

    /// Takes in who reads a channel.
    pub(super) fn admit(&self, channel: ChannelId, reader: Weak<dyn Reader>) {
        self.known().entry(channel).or_default().reader = Some(reader);
    }

    // What comes and goes.

    /// Counts a message that is in its channel's queue.
    pub(super) fn arrived(&self, waiting: &Waiting, bytes: usize) {
        let cost = cost(bytes);
        self.budget.queued(cost);
        waiting.bytes.fetch_add(signed(cost), Ordering::SeqCst);
        let all = self.waiting.fetch_add(signed(cost), Ordering::SeqCst) + signed(cost);
        if waiting.is_closed() {
            self.forget(waiting);
        } else if all >= signed(self.budget.queue_limit()) {
            self.relieve();
        }
    }

    /// Counts a message out that was taken from its queue.
    pub(super) fn taken(&self, waiting: &Waiting, message: &ChannelMsg) {
        let cost = match message {
            ChannelMsg::Data { data } | ChannelMsg::ExtendedData { data, .. } => cost(data.len()),
            ChannelMsg::WindowAdjusted { .. } => cost(0),
            _ => return,
        };
        waiting.bytes.fetch_sub(signed(cost), Ordering::SeqCst);
        self.count_out(signed(cost));
    }

    /// Counts all out that waits for a reader that has gone.
    pub(super) fn close(&self, waiting: &Waiting) {
        waiting.is_closed.store(true, Ordering::SeqCst);
        self.forget(waiting);
    }

    fn forget(&self, waiting: &Waiting) {
        self.count_out(waiting.bytes.swap(0, Ordering::SeqCst));
    }

    fn count_out(&self, cost: isize) {
        match usize::try_from(cost) {
            Ok(cost) => self.budget.unqueued(cost),
            Err(_) => self.budget.queued(cost.unsigned_abs()),
        }
        let left = self.waiting.fetch_sub(cost, Ordering::SeqCst) - cost;
        if self.is_paused() && left < self.resume_below() {
            self.line.wake();
        }
    }

    /// Where channels share the line: takes out of their queues what waits for those readers
    /// that have the most waiting. What is left is less than a quarter, so that the line is
    /// read again.
    pub(super) fn relieve(&self) {
        let all = self.waiting.load(Ordering::SeqCst);
        let channels = self.count();
        if channels <= 1 {
            return;
        }
        let share = (all / signed(4 * channels)).max(1);
        let known = self.known();
        let most = known.values().filter_map(|known| {
            let waits = known.waiting.bytes.load(Ordering::SeqCst);
            (waits >= share).then(|| known.reader.as_ref()?.upgrade())?
        });
        for reader in most {
            reader.decouple();
        }
    }

    // The line.

    /// Ready while the line may be read.
    pub(super) fn poll_room(&self, context: &mut Context<'_>) -> Poll<()> {
        let was_paused = self.is_paused();
        let has_room = || {
            let limit = if was_paused {
                self.resume_below()
            } else {
                signed(self.budget.queue_limit())
            };
            self.waiting.load(Ordering::SeqCst) < limit
        };
        if has_room() {
            if was_paused {
                self.is_paused.store(false, Ordering::SeqCst);
            }
            return Poll::Ready(());
        }
        self.line.register(context.waker());
        self.is_paused.store(true, Ordering::SeqCst);
        // What was taken before the waker was there has woken nobody.
        if has_room() {
            self.is_paused.store(false, Ordering::SeqCst);
            return Poll::Ready(());
        }
        if !was_paused {
            self.pauses.fetch_add(1, Ordering::Relaxed);
            self.paused.notify_one();
        }
        Poll::Pending
    }

    /// Whether the line isn't read, and the server can't be heard.
    pub(super) fn is_paused(&self) -> bool {
        self.is_paused.load(Ordering::SeqCst)
    }

    /// Completes once the line has been paused since this completed last. For one task.
    pub(super) async fn paused(&self) {
        self.paused.notified().await;
    }

    /// How often it was paused.
    pub(super) fn pauses(&self) -> u64 {
        self.pauses.load(Ordering::Relaxed)
    }

    fn resume_below(&self) -> isize {
        signed(self.budget.queue_limit() / 2)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<ChannelId, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        self.count_out(self.waiting.load(Ordering::SeqCst));
    }
}

fn cost(bytes: usize) -> usize {
    bytes + OVERHEAD
}

fn signed(bytes: usize) -> isize {
    isize::try_from(bytes).unwrap_or(isize::MAX)
}

// === impl Waiting ===

impl Waiting {
    /// Whether the channel's reader has gone.
    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use bytes::Bytes;

    use super::*;
    use crate::ssh::channel::ProcessBudget;

    const PIECE: usize = 32 * 1024;

    fn intake() -> Arc<Intake> {
        Intake::new(ProcessBudget::new(1 << 30, 1 << 30).for_tunnel())
    }

    fn may_read(intake: &Intake) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        intake.poll_room(&mut context).is_ready()
    }

    fn fill(intake: &Intake, waiting: &Waiting) -> usize {
        let mut messages = 0;
        while may_read(intake) {
            intake.arrived(waiting, PIECE);
            messages += 1;
        }
        messages
    }

    fn take(intake: &Intake, waiting: &Waiting) {
        let data = Bytes::from(vec![0; PIECE]);
        intake.taken(waiting, &ChannelMsg::Data { data });
    }

    #[test]
    fn a_line_is_read_until_enough_waits_and_again_once_half_of_it_is_taken() {
        let intake = intake();
        let waiting = Waiting::default();
        let messages = fill(&intake, &waiting);
        assert_eq!(messages, QUEUE.div_ceil(PIECE + OVERHEAD));
        assert!(intake.is_paused());
        for taken in 1.. {
            take(&intake, &waiting);
            if may_read(&intake) {
                assert_eq!(taken, messages / 2 + 1);
                break;
            }
        }
        assert!(!intake.is_paused());
        assert_eq!(intake.pauses(), 1);
    }

    #[test]
    fn small_messages_fill_no_queue() {
        let intake = intake();
        let waiting = Waiting::default();
        let mut messages = 0;
        while may_read(&intake) {
            intake.arrived(&waiting, 1);
            messages += 1;
        }
        assert!(messages < MESSAGES, "{messages}");
    }

    #[test]
    fn what_waited_for_a_reader_that_went_is_forgotten() {
        let intake = intake();
        let [gone, other] = [Waiting::default(), Waiting::default()];
        fill(&intake, &gone);
        intake.close(&gone);
        assert!(may_read(&intake));
        // It was on its way.
        intake.arrived(&gone, PIECE);
        assert_eq!(intake.waiting.load(Ordering::SeqCst), 0);
        // Taken before it was counted.
        take(&intake, &other);
        intake.close(&other);
        intake.arrived(&other, PIECE);
        assert_eq!(intake.waiting.load(Ordering::SeqCst), 0);
        assert_eq!(intake.budget.used(), (0, 0));
    }

    #[tokio::test]
    async fn a_pause_is_told() {
        let intake = intake();
        let waiting = Waiting::default();
        fill(&intake, &waiting);
        intake.paused().await;
        intake.close(&waiting);
        assert!(may_read(&intake));
    }
}
