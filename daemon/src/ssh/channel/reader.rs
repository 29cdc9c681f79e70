//! Where a channel's bytes come from: from russh's queue, or from a pump.

use std::{
    io,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use futures_util::Stream;
use russh::{ChannelId, ChannelMsg, ChannelReadHalf};
use tokio::sync::{
    mpsc,
    oneshot::{self, error::TryRecvError},
};

use super::{
    super::{
        Closing,
        intake::{Intake, Reader, Waiting},
    },
    pump::Pump,
};

/// A channel's reader. It can be decoupled from russh's queue while it is used.
pub(in crate::ssh) struct ChannelReader(Mutex<Feed>);

struct Feed {
    mode: ReadMode,
    /// Ends the channel for who holds its stream.
    closing: Closing,
    /// Who waits for a message, to be told where it comes from now.
    reader: Option<Waker>,
}

/// Where the next message comes from.
pub(super) enum ReadMode {
    /// From russh.
    Direct(Queue),
    /// From a pump. An empty message is the end; without one the queue comes back.
    Buffered {
        messages: mpsc::Receiver<Bytes>,
        back: oneshot::Receiver<Queue>,
    },
    /// From nowhere: the pump gave the channel up, or it broke.
    Broken,
}

/// russh's queue for a channel; what is taken from it is counted.
pub(super) struct Queue {
    half: ChannelReadHalf,
    waiting: Arc<Waiting>,
    intake: Arc<Intake>,
}

// === impl ChannelReader ===

impl ChannelReader {
    /// Reads the channel's queue.
    pub(super) fn new(
        channel: ChannelId,
        half: ChannelReadHalf,
        intake: &Arc<Intake>,
        closing: Closing,
    ) -> Arc<Self> {
        let queue = Queue {
            half,
            waiting: intake.waiting(channel),
            intake: Arc::clone(intake),
        };
        let reader = Arc::new(Self(Mutex::new(Feed {
            mode: ReadMode::Direct(queue),
            closing,
            reader: None,
        })));
        let known: Weak<Self> = Arc::downgrade(&reader);
        intake.admit(channel, known);
        reader
    }

    /// The next message; empty at the end.
    pub(super) fn poll_next(&self, context: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        let mut feed = self.feed();
        loop {
            let message = match &mut feed.mode {
                ReadMode::Direct(queue) => Pin::new(queue).poll_next(context),
                ReadMode::Buffered { messages, back } => {
                    if let Some(bytes) = ready!(messages.poll_recv(context)) {
                        return Poll::Ready(Ok(bytes));
                    }
                    feed.mode = match ready!(Pin::new(back).poll(context)) {
                        Ok(queue) => ReadMode::Direct(queue),
                        Err(_) => ReadMode::Broken,
                    };
                    continue;
                }
                ReadMode::Broken => return Poll::Ready(Err(broken())),
            };
            return match message {
                Poll::Ready(Some(ChannelMsg::Data { data })) if data.is_empty() => continue,
                Poll::Ready(Some(ChannelMsg::Data { data })) => Poll::Ready(Ok(data)),
                Poll::Ready(Some(ChannelMsg::Eof | ChannelMsg::Close)) => {
                    Poll::Ready(Ok(Bytes::new()))
                }
                Poll::Ready(Some(_)) => continue,
                Poll::Ready(None) => Poll::Ready(Err(broken())),
                Poll::Pending => {
                    match &mut feed.reader {
                        Some(known) => known.clone_from(context.waker()),
                        none => *none = Some(context.waker().clone()),
                    }
                    Poll::Pending
                }
            };
        }
    }

    fn feed(&self) -> MutexGuard<'_, Feed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reader for ChannelReader {
    /// By a pump.
    fn decouple(&self) {
        let mut feed = self.feed();
        // A pump hands on one message at a time: what is kept is counted in the pump.
        let (sender, messages) = mpsc::channel(1);
        let (hand_back, back) = oneshot::channel();
        let buffered = ReadMode::Buffered { messages, back };
        let queue = match std::mem::replace(&mut feed.mode, buffered) {
            ReadMode::Direct(queue) => queue,
            ReadMode::Buffered { messages, mut back } => match back.try_recv() {
                // The reader had taken all from the last pump, and has not looked since.
                Ok(queue) => queue,
                Err(problem) => {
                    if problem == TryRecvError::Closed {
                        // The pump has ended. A receiver that has said so says it only once.
                        back = oneshot::channel().1;
                    }
                    feed.mode = ReadMode::Buffered { messages, back };
                    return;
                }
            },
            ReadMode::Broken => {
                feed.mode = ReadMode::Broken;
                return;
            }
        };
        let intake = Arc::clone(&queue.intake);
        let pump = Pump::new(queue, sender, intake.budget(), intake.channels());
        let closing = feed.closing.clone();
        tokio::spawn(async move {
            match pump.run().await {
                // Who read it may have gone.
                Ok(Some(queue)) => drop(hand_back.send(queue)),
                Ok(None) => {}
                Err(gives_up) => {
                    tracing::warn!("{gives_up}");
                    closing.end(gives_up);
                }
            }
        });
        if let Some(reader) = feed.reader.take() {
            reader.wake();
        }
    }
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "the channel broke")
}

// === impl Queue ===

impl Stream for Queue {
    type Item = ChannelMsg;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<ChannelMsg>> {
        // A message that is not there yet leaves nothing behind but the waker.
        let next = ready!(pin!(self.half.wait()).poll(context));
        if let Some(message) = &next {
            self.intake.taken(&self.waiting, message);
        }
        Poll::Ready(next)
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.intake.close(&self.waiting);
    }
}
