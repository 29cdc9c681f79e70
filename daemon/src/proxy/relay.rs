//! Bytes both ways between a client and the database, after the log-ins: counted, never
//! kept. Of a managed connection the headers of messages are followed as they pass, so that
//! it can be ended where that does no harm, with a word to the client.

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf as _, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep, timeout},
};

use super::{
    Counters,
    record::{Live, State},
};
use crate::postgres::{Activity, Boundary, ProtocolTracker, last_words};

/// Buffer from the client: one SSH packet's worth.
const UP: usize = 32 * 1024;
/// Buffer to the client: two of the bastion's packets.
const DOWN: usize = 64 * 1024;

/// How often one direction reads before the other has its turn: one that is always ready
/// would keep the other from ever being looked at.
const ROUNDS: usize = 32;

/// How long the database is waited for whose client has gone, once all that the client sent
/// has been passed on: it may be at work on that, and a channel that is closed with answers
/// unread would end it.
const GONE_LIMIT: Duration = Duration::from_secs(30);

/// What passing on the last of what was received may take, for a client that reads slowly.
const REST_LIMIT: Duration = Duration::from_secs(2);

/// Two streams that are joined.
pub(crate) struct Relay<'a, C, D> {
    client: &'a mut C,
    database: D,
    up: Pipe,
    down: Pipe,
    /// `None` where the bytes aren't the daemon's to understand.
    tracker: Option<ProtocolTracker>,
    /// The same, of what has been received and not been given to the client yet: what changes
    /// log-ins must be known before the client knows.
    ahead: Option<ProtocolTracker>,
    observer: RelayObserver<'a>,
    asked: u64,
    /// What was last noted of the tracker.
    activity: Option<Activity>,
    up_is_first: bool,
    /// How the client's end was seen: by reading all that it said, or by an error.
    client_end: Option<Option<io::Error>>,
    /// Runs once the client has gone for certain.
    gone: Option<Pin<Box<Sleep>>>,
}

/// Who is told of what passes.
#[derive(Clone, Copy)]
pub(crate) struct RelayObserver<'a> {
    /// Bytes of the session.
    pub(crate) counters: &'a Counters,
    /// Bytes and state of the connection.
    pub(super) live: &'a Live,
    /// That a command has changed what log-ins begin with.
    pub(crate) on_changed_log_ins: &'a (dyn Fn() + Send + Sync),
}

/// Why a relay stopped.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// The client has gone, or its connection broke.
    Client(Option<io::Error>),
    /// The database's side has ended, and all that it said has been passed on.
    Database(Option<io::Error>),
    /// Nothing is asked and no transaction is open.
    Idle,
}

/// What to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    End,
    Idle,
}

// === impl Relay ===

impl<'a, C, D> Relay<'a, C, D>
where
    C: AsyncRead + AsyncWrite + Unpin,
    D: AsyncRead + AsyncWrite + Unpin,
{
    /// Joins two streams; without a tracker the bytes aren't looked at.
    pub(crate) fn new(
        client: &'a mut C,
        database: D,
        tracker: Option<ProtocolTracker>,
        observer: RelayObserver<'a>,
    ) -> Self {
        if tracker.is_none() {
            observer.live.enter(State::Passthrough);
        }
        let mut this = Self {
            client,
            database,
            up: Pipe::new(UP),
            down: Pipe::new(DOWN),
            ahead: tracker.clone(),
            tracker,
            observer,
            asked: 0,
            activity: None,
            up_is_first: false,
            client_end: None,
            gone: None,
        };
        this.note_activity();
        this
    }

    /// Copies until a side ends. However the client ends, what it sent before is passed on, and
    /// where it half-closes it still gets its answer. Can be dropped and called again without
    /// loss.
    pub(crate) async fn run(&mut self) -> Stopped {
        poll_fn(|context| self.poll(context, Until::End)).await
    }

    /// Copies until a side ends, or the connection is idle. Never idle without a tracker.
    pub(crate) async fn run_until_idle(&mut self) -> Stopped {
        poll_fn(|context| self.poll(context, Until::Idle)).await
    }

    /// Whether nothing is asked and no transaction is open.
    pub(crate) fn is_idle(&self) -> bool {
        let waiting = !self.up.is_empty() || !self.down.is_empty();
        self.pause() == Boundary::Idle && !waiting
    }

    /// Whether the database has been asked for something that isn't done, or has a transaction
    /// open. Of bytes that aren't looked at that isn't known.
    pub(crate) fn is_at_work(&self) -> bool {
        self.tracker.is_some() && !self.is_idle()
    }

    /// Whether the server works for the client, or is about to. Of bytes that aren't looked at
    /// that isn't known.
    pub(crate) fn is_active(&self) -> bool {
        let tracker = self.tracker.as_ref();
        tracker.is_some_and(|tracker| tracker.activity() == Activity::Active)
    }

    /// Bytes that the client has sent: the same number means that it has been silent.
    pub(crate) fn asked(&self) -> u64 {
        self.asked
    }

    /// Whether the end was to be expected: the client asked for it, or the server said why.
    /// Of bytes that aren't looked at nothing else is expected.
    pub(crate) fn was_announced(&self) -> bool {
        self.tracker
            .as_ref()
            .is_none_or(ProtocolTracker::is_parting)
    }

    /// Passes on what has been received, says why this is the end where the protocol allows
    /// it at this moment, and closes both sides. Takes some seconds at most.
    pub(crate) async fn close_with_error(mut self, error_response: &[u8]) {
        let was_at_rest = self.is_at_rest();
        let passing = timeout(REST_LIMIT, poll_fn(|context| self.poll_down_rest(context)));
        if !matches!(passing.await, Ok(Ok(()))) {
            return;
        }
        let last = match self.pause() {
            Boundary::WithinMessage => &[],
            Boundary::Idle | Boundary::BetweenMessages => error_response,
        };
        if was_at_rest {
            let telling = last_words::say(self.client, last);
            let _ = tokio::join!(telling, last_words::terminate(&mut self.database));
        } else {
            drop(self.database);
            last_words::say_and_linger(self.client, last).await;
        }
    }

    /// Closes the client's side after the database has closed its own. Takes some seconds at
    /// most.
    pub(crate) async fn close(self) {
        let was_idle = self.is_idle();
        drop(self.database);
        if was_idle {
            let _ = last_words::say(self.client, &[]).await;
        } else {
            last_words::say_and_linger(self.client, &[]).await;
        }
    }

    /// Whether nothing is under way, be it within a transaction: the server takes a Terminate.
    fn is_at_rest(&self) -> bool {
        let waiting = !self.up.is_empty() || !self.down.is_empty();
        let tracker = self.tracker.as_ref();
        !waiting && tracker.is_some_and(ProtocolTracker::is_at_rest)
    }

    /// Notes where the tracker has come to, where that is something else than before.
    fn note_activity(&mut self) {
        let activity = self.tracker.as_ref().map(ProtocolTracker::activity);
        if self.activity != activity {
            self.activity = activity;
            if let Some(activity) = activity {
                self.observer.live.enter(activity.into());
            }
        }
    }

    fn pause(&self) -> Boundary {
        self.tracker
            .as_ref()
            .map_or(Boundary::WithinMessage, ProtocolTracker::pause)
    }

    fn poll(&mut self, context: &mut Context<'_>, until: Until) -> Poll<Stopped> {
        self.up_is_first = !self.up_is_first;
        let (up, down) = if self.up_is_first {
            let up = self.poll_up(context);
            (up, self.poll_down(context))
        } else {
            let down = self.poll_down(context);
            (self.poll_up(context), down)
        };
        self.note_activity();
        match down {
            // What the database still has to say comes first: it may say why it closes.
            Poll::Ready(Err(error)) => Poll::Ready(Stopped::Database(Some(error))),
            Poll::Ready(Ok(())) => Poll::Ready(match self.client_end.take() {
                Some(error) if up.is_ready() => Stopped::Client(error),
                _ => Stopped::Database(None),
            }),
            Poll::Pending if self.poll_gone(context).is_ready() => {
                Poll::Ready(Stopped::Client(self.client_end.take().flatten()))
            }
            Poll::Pending if until == Until::Idle && self.is_idle() => Poll::Ready(Stopped::Idle),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Ready once a client that has gone has been gone for long enough. One that has only said
    /// all that it has to say may still listen.
    fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let has_gone = self.down.is_sink || matches!(self.client_end, Some(Some(_)));
        if !has_gone {
            return Poll::Pending;
        }
        let gone = self.gone.get_or_insert_with(|| Box::pin(sleep(GONE_LIMIT)));
        gone.as_mut().poll(context)
    }

    /// From the client to the database, half-closing at the end, which an error of the client's
    /// is too: TLS without close_notify, a reset. That the database takes no more isn't the
    /// end: the other direction says why.
    fn poll_up(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Self {
            client,
            database,
            up,
            tracker,
            observer,
            asked,
            client_end,
            ..
        } = self;
        let mut heard = |bytes: &[u8]| {
            *asked += bytes.len() as u64;
            if let Some(tracker) = tracker {
                tracker.client_said(bytes);
            }
        };
        let mut passed = |bytes: &[u8]| {
            count(&observer.counters.sent, bytes);
            observer.live.sent(bytes.len());
        };
        loop {
            match ready!(up.poll_copy(context, client, database, &mut heard, &mut passed)) {
                Err(Broken::Writer) => up.give_up(),
                Err(Broken::Reader(error)) => {
                    // Listening goes on: half of a connection may have ended.
                    *client_end = Some(Some(error));
                    up.has_ended = true;
                    continue;
                }
                // Unless the database takes no more, all has been read.
                Ok(()) if !up.is_sink => {
                    client_end.get_or_insert(None);
                }
                Ok(()) => {}
            }
            break;
        }
        if !up.shut {
            // An error means that it is closed already.
            let _ = ready!(Pin::new(database).poll_shutdown(context));
            up.shut = true;
        }
        Poll::Ready(())
    }

    /// From the database to the client. A client that takes no more isn't the end: what it
    /// sent is still to be passed on.
    fn poll_down(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self {
            client,
            database,
            down,
            tracker,
            ahead,
            observer,
            ..
        } = self;
        let mut said = |bytes: &[u8]| {
            if let Some(tracker) = tracker {
                tracker.server_said(bytes);
            }
        };
        let mut received = |bytes: &[u8]| {
            count(&observer.counters.received, bytes);
            observer.live.received(bytes.len());
            if let Some(ahead) = ahead {
                ahead.server_said(bytes);
                if ahead.take_changed_log_ins() {
                    (observer.on_changed_log_ins)();
                }
            }
        };
        loop {
            match ready!(down.poll_copy(context, database, client, &mut received, &mut said)) {
                Ok(()) => return Poll::Ready(Ok(())),
                Err(Broken::Writer) => down.drop_all(),
                Err(Broken::Reader(error)) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Writes what has been read from the database, and reads no more.
    fn poll_down_rest(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self {
            client,
            down,
            tracker,
            ..
        } = self;
        let mut said = |bytes: &[u8]| {
            if let Some(tracker) = tracker {
                tracker.server_said(bytes);
            }
        };
        down.poll_drain(context, client, &mut said)
    }
}

thread_local! {
    /// Where bytes are read to, by all connections that a thread serves: one that is idle
    /// needs no buffer of its own.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; UP.max(DOWN)].into_boxed_slice());
}

/// One direction.
struct Pipe {
    /// What the writer has not taken yet.
    waiting: BytesMut,
    /// How much that may be.
    limit: usize,
    /// The reader has said all.
    has_ended: bool,
    needs_flush: bool,
    shut: bool,
    /// The writer takes no more, and what is read is dropped.
    is_sink: bool,
}

/// Which side of a direction failed.
enum Broken {
    Reader(io::Error),
    Writer,
}

// === impl Pipe ===

impl Pipe {
    fn new(limit: usize) -> Self {
        Self {
            waiting: BytesMut::new(),
            limit,
            has_ended: false,
            needs_flush: false,
            shut: false,
            is_sink: false,
        }
    }

    fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Nobody takes what is left, and no more is read.
    fn give_up(&mut self) {
        self.drop_all();
        self.has_ended = true;
    }

    /// Nobody takes what is left, nor what will be read.
    fn drop_all(&mut self) {
        self.waiting = BytesMut::new();
        self.needs_flush = false;
        self.is_sink = true;
    }

    /// Copies until the reader has ended and all is written; lets others have their turn now
    /// and then.
    fn poll_copy<R, W>(
        &mut self,
        context: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
        on_read: &mut impl FnMut(&[u8]),
        on_written: &mut impl FnMut(&[u8]),
    ) -> Poll<Result<(), Broken>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        for _ in 0..ROUNDS {
            let filled = SCRATCH.with_borrow_mut(|scratch| {
                let read =
                    ready!(self.poll_fill(context, reader, scratch)).map_err(Broken::Reader)?;
                on_read(read);
                self.poll_pass(context, writer, read, on_written)
                    .map_err(|_| Broken::Writer)?;
                Poll::Ready(Ok(()))
            });
            match filled {
                Poll::Ready(Err(broken)) => return Poll::Ready(Err(broken)),
                // Small answers wait in a TLS stream or a channel until they are flushed.
                Poll::Pending => {
                    ready!(self.poll_drain(context, writer, on_written))
                        .map_err(|_| Broken::Writer)?;
                    return Poll::Pending;
                }
                Poll::Ready(Ok(())) => {}
            }
            if self.has_ended {
                return self
                    .poll_drain(context, writer, on_written)
                    .map_err(|_| Broken::Writer);
            }
            // More is read while the writer is slow, until there is enough.
            if self.waiting.len() >= self.limit {
                ready!(self.poll_write(context, writer, on_written)).map_err(|_| Broken::Writer)?;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Writes what there is, and flushes.
    fn poll_drain<W: AsyncWrite + Unpin>(
        &mut self,
        context: &mut Context<'_>,
        writer: &mut W,
        on_written: &mut impl FnMut(&[u8]),
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_write(context, writer, on_written))?;
        if self.needs_flush {
            ready!(Pin::new(writer).poll_flush(context))?;
            self.needs_flush = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads as much as there may be, of which nothing is the end.
    fn poll_fill<'s, R: AsyncRead + Unpin>(
        &mut self,
        context: &mut Context<'_>,
        reader: &mut R,
        scratch: &'s mut [u8],
    ) -> Poll<io::Result<&'s [u8]>> {
        let room = self.limit.saturating_sub(self.waiting.len());
        if self.has_ended || room == 0 {
            return Poll::Ready(Ok(&[]));
        }
        let mut buffer = ReadBuf::new(&mut scratch[..room]);
        ready!(Pin::new(reader).poll_read(context, &mut buffer))?;
        let read = buffer.filled().len();
        self.has_ended = read == 0;
        Poll::Ready(Ok(&scratch[..read]))
    }

    /// Writes what was read, after what is waiting; what isn't taken waits as well.
    fn poll_pass<W: AsyncWrite + Unpin>(
        &mut self,
        context: &mut Context<'_>,
        writer: &mut W,
        mut read: &[u8],
        on_written: &mut impl FnMut(&[u8]),
    ) -> io::Result<()> {
        if self.is_sink {
            return Ok(());
        }
        if self.poll_write(context, writer, on_written)?.is_ready() {
            while !read.is_empty() {
                match Pin::new(&mut *writer).poll_write(context, read)? {
                    Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Poll::Ready(written) => {
                        on_written(&read[..written]);
                        self.needs_flush = true;
                        read = &read[written..];
                    }
                    Poll::Pending => break,
                }
            }
        }
        self.waiting.extend_from_slice(read);
        Ok(())
    }

    /// Writes what is waiting.
    fn poll_write<W: AsyncWrite + Unpin>(
        &mut self,
        context: &mut Context<'_>,
        writer: &mut W,
        on_written: &mut impl FnMut(&[u8]),
    ) -> Poll<io::Result<()>> {
        while !self.waiting.is_empty() {
            let written = ready!(Pin::new(&mut *writer).poll_write(context, &self.waiting))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            on_written(&self.waiting[..written]);
            self.waiting.advance(written);
            self.needs_flush = true;
        }
        // Kept for as long as the writer is slow, and no longer.
        self.waiting = BytesMut::new();
        Poll::Ready(Ok(()))
    }
}

fn count(counter: &AtomicU64, bytes: &[u8]) {
    counter.fetch_add(bytes.len() as u64, Ordering::Relaxed);
}

#[cfg(test)]
mod tests;
