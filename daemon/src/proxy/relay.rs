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
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    time::timeout,
};

use super::Counters;
use crate::postgres::{Boundary, ProtocolTracker};

/// Buffer from the client: one SSH packet's worth.
const UP: usize = 32 * 1024;
/// Buffer to the client: two of the bastion's packets.
const DOWN: usize = 64 * 1024;

/// What saying goodbye may take: a client that doesn't read isn't waited for.
const TELL_LIMIT: Duration = Duration::from_secs(2);
/// How long a client that was still sending is listened to after it was told: closing at
/// once would reset the connection, and a reset can overtake what was said.
const LINGER: Duration = Duration::from_secs(1);
/// How much of that is taken.
const LINGER_BYTES: usize = 1024 * 1024;

/// Terminate, so that the server doesn't take the end for a lost client.
const TERMINATE: &[u8] = b"X\0\0\0\x04";

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
}

/// Who is told of what passes.
#[derive(Clone, Copy)]
pub(crate) struct RelayObserver<'a> {
    /// Bytes.
    pub(crate) counters: &'a Counters,
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
        Self {
            client,
            database,
            up: Pipe::new(UP),
            down: Pipe::new(DOWN),
            ahead: tracker.clone(),
            tracker,
            observer,
            asked: 0,
        }
    }

    /// Copies until a side ends. A client that half-closes still gets its answer. Can be
    /// dropped and called again without loss.
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
    /// it at this moment, and closes both sides. Bounded in time.
    pub(crate) async fn close_with_error(mut self, error_response: &[u8]) {
        let was_idle = self.is_idle();
        let telling = async {
            poll_fn(|context| self.poll_down_rest(context)).await?;
            if self.pause() != Boundary::WithinMessage {
                self.client.write_all(error_response).await?;
            }
            self.client.shutdown().await
        };
        let told = timeout(TELL_LIMIT, telling).await;
        if was_idle {
            let _ = timeout(TELL_LIMIT, async {
                self.database.write_all(TERMINATE).await?;
                self.database.shutdown().await
            })
            .await;
        } else if matches!(told, Ok(Ok(()))) {
            drop(self.database);
            linger(self.client).await;
        }
    }

    /// Closes the client's side after the database has closed its own.
    pub(crate) async fn close(self) {
        let was_idle = self.is_idle();
        drop(self.database);
        let closed = timeout(TELL_LIMIT, self.client.shutdown()).await;
        if !was_idle && matches!(closed, Ok(Ok(()))) {
            linger(self.client).await;
        }
    }

    fn pause(&self) -> Boundary {
        self.tracker
            .as_ref()
            .map_or(Boundary::WithinMessage, ProtocolTracker::pause)
    }

    fn poll(&mut self, context: &mut Context<'_>, until: Until) -> Poll<Stopped> {
        let up = self.poll_up(context);
        let down = self.poll_down(context);
        match (up, down) {
            // What the database still has to say comes first: it may say why it closes.
            (_, Poll::Ready(Err(Broken::Writer(error)))) => {
                Poll::Ready(Stopped::Client(Some(error)))
            }
            (_, Poll::Ready(Err(Broken::Reader(error)))) => {
                Poll::Ready(Stopped::Database(Some(error)))
            }
            (Poll::Ready(Err(Broken::Reader(error))), _) => {
                Poll::Ready(Stopped::Client(Some(error)))
            }
            (up, Poll::Ready(Ok(()))) if up.is_ready() && self.up.has_ended => {
                Poll::Ready(Stopped::Client(None))
            }
            (_, Poll::Ready(Ok(()))) => Poll::Ready(Stopped::Database(None)),
            _ if until == Until::Idle && self.is_idle() => Poll::Ready(Stopped::Idle),
            _ => Poll::Pending,
        }
    }

    /// From the client to the database, half-closing at the end. That the database takes no
    /// more isn't the end: the other direction says why.
    fn poll_up(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let Self {
            client,
            database,
            up,
            tracker,
            observer,
            asked,
            ..
        } = self;
        let heard = |bytes: &[u8]| {
            *asked += bytes.len() as u64;
            if let Some(tracker) = tracker {
                tracker.client_said(bytes);
            }
        };
        let passed = up.poll_copy(context, client, database, heard, |bytes| {
            count(&observer.counters.sent, bytes);
        });
        match ready!(passed) {
            Err(Broken::Writer(_)) => up.give_up(),
            Err(broken) => return Poll::Ready(Err(broken)),
            Ok(()) => {}
        }
        if !up.shut {
            // An error means that it is closed already.
            let _ = ready!(Pin::new(database).poll_shutdown(context));
            up.shut = true;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_down(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let Self {
            client,
            database,
            down,
            tracker,
            ahead,
            observer,
            ..
        } = self;
        let said = |bytes: &[u8]| {
            if let Some(tracker) = tracker {
                tracker.server_said(bytes);
            }
        };
        let received = |bytes: &[u8]| {
            count(&observer.counters.received, bytes);
            if let Some(ahead) = ahead {
                ahead.server_said(bytes);
                if ahead.take_changed_log_ins() {
                    (observer.on_changed_log_ins)();
                }
            }
        };
        down.poll_copy(context, database, client, received, said)
    }

    /// Writes what has been read from the database, and reads no more.
    fn poll_down_rest(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self {
            client,
            down,
            tracker,
            ..
        } = self;
        let said = |bytes: &[u8]| {
            if let Some(tracker) = tracker {
                tracker.server_said(bytes);
            }
        };
        down.poll_drain(context, client, said)
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
}

/// Which side of a direction failed.
enum Broken {
    Reader(io::Error),
    Writer(io::Error),
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
        }
    }

    fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Nobody takes what is left.
    fn give_up(&mut self) {
        self.waiting = BytesMut::new();
        self.has_ended = true;
    }

    /// Copies until the reader has ended and all is written.
    fn poll_copy<R, W>(
        &mut self,
        context: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
        mut on_read: impl FnMut(&[u8]),
        mut on_written: impl FnMut(&[u8]),
    ) -> Poll<Result<(), Broken>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            let filled = SCRATCH.with_borrow_mut(|scratch| {
                let read =
                    ready!(self.poll_fill(context, reader, scratch)).map_err(Broken::Reader)?;
                on_read(read);
                self.poll_pass(context, writer, read, &mut on_written)
                    .map_err(Broken::Writer)?;
                Poll::Ready(Ok(()))
            });
            match filled {
                Poll::Ready(Err(broken)) => return Poll::Ready(Err(broken)),
                // Small answers wait in a TLS stream or a channel until they are flushed.
                Poll::Pending => {
                    ready!(self.poll_drain(context, writer, &mut on_written))
                        .map_err(Broken::Writer)?;
                    return Poll::Pending;
                }
                Poll::Ready(Ok(())) => {}
            }
            if self.has_ended {
                return self
                    .poll_drain(context, writer, on_written)
                    .map_err(Broken::Writer);
            }
            // More is read while the writer is slow, until there is enough.
            if self.waiting.len() >= self.limit {
                ready!(self.poll_write(context, writer, &mut on_written))
                    .map_err(Broken::Writer)?;
            }
        }
    }

    /// Writes what there is, and flushes.
    fn poll_drain<W: AsyncWrite + Unpin>(
        &mut self,
        context: &mut Context<'_>,
        writer: &mut W,
        mut on_written: impl FnMut(&[u8]),
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_write(context, writer, &mut on_written))?;
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

/// Reads and drops what a client still sends, for a moment.
async fn linger<C: AsyncRead + Unpin>(client: &mut C) {
    let dropping = async {
        let mut dropped = vec![0; 16 * 1024];
        let mut left = LINGER_BYTES;
        while left > 0 {
            match client.read(&mut dropped).await {
                Ok(0) | Err(_) => return,
                Ok(read) => left = left.saturating_sub(read),
            }
        }
    };
    let _ = timeout(LINGER, dropping).await;
}

#[cfg(test)]
mod tests;
