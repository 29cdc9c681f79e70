//! A channel to the database as a stream of bytes.
//!
//! russh's loop serves all channels of a connection, and waits when one of them isn't read
//! (`client/encrypted.rs`, `chan.send(…).await`, on a queue of 100 messages). While a channel has its tunnel
//! for itself that is back-pressure, where it belongs: it is read [directly](Source::Direct),
//! at no cost. Once it has company it is [`decoupled`](ChannelReader::decouple): a pump takes whatever
//! comes, and keeps what the client doesn't take yet.

use std::{
    io,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::{Buf as _, Bytes};
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf, client::Msg};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::mpsc,
    time::{Instant, sleep_until},
};

mod spill;

pub(super) use spill::Budget;
use spill::SpillBuffer;

use super::{Closing, Tunnel, tunnel::Counted};

/// Messages between a pump and its reader.
const QUEUE: usize = 16;
/// Where there is no room left for what a client doesn't take, the tunnel waits for it, and
/// so do the others; unless it has taken nothing for this long, which ends its connection.
const STALLED: Duration = Duration::from_secs(3);

/// A channel to the database, as a stream of bytes. Dropping it closes the channel. It
/// breaks with an error, and not an end, where its tunnel ends before the channel.
pub struct ChannelStream {
    reader: Arc<ChannelReader>,
    /// Of the last message, what has not been read.
    rest: Bytes,
    ended: bool,
    writer: Pin<Box<dyn AsyncWrite + Send + Sync>>,
    closer: Option<ChannelWriteHalf<Msg>>,
    closing: Closing,
    count: Counted,
}

/// Where a channel's bytes come from.
pub(super) struct ChannelReader(Mutex<Feed>);

struct Feed {
    source: Source,
    /// Ends the channel for who holds its stream.
    closing: Closing,
    /// Who waits for a message, to be told where it comes from now.
    reader: Option<Waker>,
}

enum Source {
    /// From russh.
    Direct(ChannelReadHalf),
    /// From the pump. An empty message is the end.
    Pumped(mpsc::Receiver<Bytes>),
}

// === impl ChannelReader ===

impl ChannelReader {
    /// From now on whatever the server sends is taken from russh at once, so that the
    /// tunnel's loop never waits for this channel's reader.
    pub(super) fn decouple(&self, budget: &Arc<Budget>) {
        let mut feed = self.feed();
        if let Source::Pumped(_) = feed.source {
            return;
        }
        let (sender, receiver) = mpsc::channel(QUEUE);
        let before = std::mem::replace(&mut feed.source, Source::Pumped(receiver));
        if let Source::Direct(half) = before {
            let closing = feed.closing.clone();
            let budget = Arc::clone(budget);
            tokio::spawn(async move {
                if let Err(gives_up) = pump(half, sender, budget).await {
                    tracing::warn!("{gives_up}");
                    closing.end(gives_up);
                }
            });
        }
        if let Some(reader) = feed.reader.take() {
            reader.wake();
        }
    }

    /// The next message; empty at the end.
    fn poll_next(&self, context: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        let mut feed = self.feed();
        let Feed { source, reader, .. } = &mut *feed;
        let half = match source {
            Source::Direct(half) => half,
            Source::Pumped(receiver) => {
                return receiver
                    .poll_recv(context)
                    .map(|next| next.ok_or_else(broken));
            }
        };
        loop {
            // A message that is not there yet leaves nothing behind but the waker.
            return match pin!(half.wait()).poll(context) {
                Poll::Ready(Some(ChannelMsg::Data { data })) if data.is_empty() => continue,
                Poll::Ready(Some(ChannelMsg::Data { data })) => Poll::Ready(Ok(data)),
                Poll::Ready(Some(ChannelMsg::Eof | ChannelMsg::Close)) => {
                    Poll::Ready(Ok(Bytes::new()))
                }
                Poll::Ready(Some(_)) => continue,
                Poll::Ready(None) => Poll::Ready(Err(broken())),
                Poll::Pending => {
                    match reader {
                        Some(known) => known.clone_from(context.waker()),
                        None => *reader = Some(context.waker().clone()),
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

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "the channel broke")
}

/// Takes all messages of a channel, until it ends or nobody wants them.
///
/// # Errors
/// Why it gives the channel up.
async fn pump(
    mut half: ChannelReadHalf,
    reader: mpsc::Sender<Bytes>,
    budget: Arc<Budget>,
) -> Result<(), &'static str> {
    let mut backlog = SpillBuffer::new(Arc::clone(&budget));
    let mut jam = None;
    let mut last_taken = Instant::now();
    // Once it is known how the channel ended.
    let mut end = None;
    loop {
        if let (Some(end), true) = (&end, backlog.is_empty()) {
            if let End::Proper = end {
                // Who doesn't take it has gone.
                let _ = reader.send(Bytes::new()).await;
            }
            return Ok(());
        }
        jam = match jam {
            _ if !backlog.is_full() => None,
            None => Some(budget.jam()),
            going_on => going_on,
        };
        // Alone in its tunnel it may wait as long as it likes, which is looked at again.
        let has_company = budget.channels() > 1;
        let until = if has_company {
            last_taken + STALLED
        } else {
            Instant::now() + STALLED
        };
        tokio::select! {
            message = half.wait(), if end.is_none() && jam.is_none() => match message {
                Some(ChannelMsg::Data { data }) if data.is_empty() => {}
                Some(ChannelMsg::Data { data }) => {
                    if let Some(data) = at_once(&reader, &backlog, data) {
                        backlog.push(data).await;
                    }
                }
                Some(ChannelMsg::Eof | ChannelMsg::Close) => end = Some(End::Proper),
                Some(_) => {}
                None => end = Some(End::Broken),
            },
            permit = reader.reserve(), if !backlog.is_empty() => {
                let Ok(permit) = permit else { return Ok(()) };
                match backlog.pop().await {
                    Ok(Some(bytes)) => permit.send(bytes),
                    Ok(None) => {}
                    Err(error) => {
                        tracing::error!(%error, "can't read back what was put aside for a client");
                        return Err("what was put aside for a client that read slowly is lost");
                    }
                }
                last_taken = Instant::now();
            }
            () = reader.closed() => return Ok(()),
            () = sleep_until(until), if jam.is_some() && !has_company => {}
            () = sleep_until(until), if jam.is_some() && has_company => {
                return Err("a client that had stopped reading kept others from their results, and was cut off");
            }
        }
    }
}

/// How a channel ended.
enum End {
    /// The server said so.
    Proper,
    /// With its tunnel.
    Broken,
}

/// Hands a message to a reader that keeps up; gives it back where that one doesn't.
fn at_once(reader: &mpsc::Sender<Bytes>, backlog: &SpillBuffer, data: Bytes) -> Option<Bytes> {
    if !backlog.is_empty() {
        return Some(data);
    }
    match reader.try_send(data) {
        Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => None,
        Err(mpsc::error::TrySendError::Full(data)) => Some(data),
    }
}

// === impl ChannelStream ===

impl ChannelStream {
    pub(super) fn new(channel: Channel<Msg>, count: Counted) -> Self {
        let writer = Box::pin(channel.make_writer());
        let (half, closer) = channel.split();
        let closing = count.tunnel().closing().of_channel();
        let reader = Arc::new(ChannelReader(Mutex::new(Feed {
            source: Source::Direct(half),
            closing: closing.clone(),
            reader: None,
        })));
        count.tunnel().admit(&reader);
        Self {
            reader,
            rest: Bytes::new(),
            ended: false,
            writer,
            closer: Some(closer),
            closing,
            count,
        }
    }

    /// A watch on the channel's end, by its tunnel's end or because its client doesn't
    /// read.
    pub fn closing(&self) -> Closing {
        self.closing.clone()
    }

    /// The tunnel that the channel is in.
    pub fn tunnel(&self) -> &Tunnel {
        self.count.tunnel()
    }
}

impl AsyncRead for ChannelStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.rest.is_empty() && !self.ended {
            self.rest = ready!(self.reader.poll_next(context))?;
            self.ended = self.rest.is_empty();
        }
        let length = self.rest.len().min(buffer.remaining());
        buffer.put_slice(&self.rest[..length]);
        self.rest.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ChannelStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        // russh takes an empty write for an error.
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.writer.as_mut().poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer.as_mut().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer.as_mut().poll_shutdown(context)
    }
}

impl Drop for ChannelStream {
    fn drop(&mut self) {
        let (Some(closer), Ok(runtime)) =
            (self.closer.take(), tokio::runtime::Handle::try_current())
        else {
            return;
        };
        // An error means that the tunnel has ended, and the channel with it.
        runtime.spawn(async move { closer.close().await });
    }
}
