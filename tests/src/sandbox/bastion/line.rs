//! A TCP connection that can be cut, made silent or made long from outside, whoever serves it.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::{Buf as _, Bytes};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep_until},
};

/// What may be under way on a line that is long.
const UNDER_WAY: usize = 4 * 1024 * 1024;

/// All lines of a listener.
#[derive(Debug, Default)]
pub(super) struct Lines {
    inner: Mutex<AllLines>,
    /// Of all lines, in microseconds.
    round_trip: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct AllLines {
    frozen: bool,
    lines: Vec<Weak<Switch>>,
}

/// A connection under control.
#[derive(Debug)]
pub(super) struct Line {
    stream: TcpStream,
    switch: Arc<Switch>,
    round_trip: Arc<AtomicU64>,
    /// What is under way, with the moment that it arrives at. Nothing is the end.
    under_way: VecDeque<(Instant, Bytes)>,
    arrival: Option<Pin<Box<Sleep>>>,
}

#[derive(Debug)]
struct Switch(Mutex<Position>);

#[derive(Debug)]
struct Position {
    state: LineState,
    wakers: Vec<Waker>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LineState {
    Open,
    Frozen,
    Cut(Cut),
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// With a FIN.
    Close,
    /// With an RST.
    Reset,
}

// === impl Lines ===

impl Lines {
    /// Takes a connection under control.
    pub(super) fn control(&self, stream: TcpStream) -> Line {
        let mut all = lock(&self.inner);
        all.lines.retain(|line| line.strong_count() > 0);
        let state = if all.frozen {
            LineState::Frozen
        } else {
            LineState::Open
        };
        let switch = Arc::new(Switch(Mutex::new(Position {
            state,
            wakers: Vec::new(),
        })));
        all.lines.push(Arc::downgrade(&switch));
        Line {
            stream,
            switch,
            round_trip: Arc::clone(&self.round_trip),
            under_way: VecDeque::new(),
            arrival: None,
        }
    }

    /// How long what is sent and its answer take together, on all lines from now on. All of it
    /// is spent on the way here.
    pub(super) fn lengthen(&self, round_trip: Duration) {
        let micros = u64::try_from(round_trip.as_micros()).unwrap_or(u64::MAX);
        self.round_trip.store(micros, Ordering::Relaxed);
    }

    /// Ends every connection there is.
    pub(super) fn cut(&self, how: Cut) {
        self.set_all(&mut lock(&self.inner), LineState::Cut(how));
    }

    /// Makes all connections silent, those to come included.
    pub(super) fn freeze(&self) {
        let mut all = lock(&self.inner);
        all.frozen = true;
        self.set_all(&mut all, LineState::Frozen);
    }

    /// Makes the connections that there are silent.
    pub(super) fn freeze_those_there(&self) {
        self.set_all(&mut lock(&self.inner), LineState::Frozen);
    }

    /// Ends the silence.
    pub(super) fn thaw(&self) {
        let mut all = lock(&self.inner);
        all.frozen = false;
        self.set_all(&mut all, LineState::Open);
    }

    fn set_all(&self, all: &mut AllLines, state: LineState) {
        for switch in all.lines.iter().filter_map(Weak::upgrade) {
            let mut position = lock(&switch.0);
            if !matches!(position.state, LineState::Cut(_)) {
                position.state = state;
            }
            position.wakers.drain(..).for_each(Waker::wake);
        }
    }
}

// === impl Line ===

impl Line {
    /// Ready when bytes may flow.
    fn poll_open(&self, context: &Context<'_>) -> Poll<io::Result<()>> {
        let mut position = lock(&self.switch.0);
        let how = match position.state {
            LineState::Cut(how) => how,
            LineState::Open => {
                // A cut must reach a task that waits for the socket.
                position.remember(context.waker());
                return Poll::Ready(Ok(()));
            }
            LineState::Frozen => {
                position.remember(context.waker());
                return Poll::Pending;
            }
        };
        drop(position);
        if how == Cut::Reset {
            let _ = self.stream.set_zero_linger();
        }
        Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
    }
}

// === impl Line: its length ===

impl Line {
    /// Takes what has been sent; it is under way from now on.
    fn take_in(&mut self, context: &mut Context<'_>, round_trip: Duration) -> io::Result<()> {
        let total =
            |line: &Self| -> usize { line.under_way.iter().map(|(_, bytes)| bytes.len()).sum() };
        let ended = |line: &Self| {
            line.under_way
                .back()
                .is_some_and(|(_, last)| last.is_empty())
        };
        let mut piece = vec![0; 64 * 1024];
        while !ended(self) && total(self) < UNDER_WAY {
            let mut read = ReadBuf::new(&mut piece);
            match Pin::new(&mut self.stream).poll_read(context, &mut read) {
                Poll::Pending => break,
                Poll::Ready(taken) => taken?,
            }
            let bytes = Bytes::copy_from_slice(read.filled());
            self.under_way
                .push_back((Instant::now() + round_trip, bytes));
        }
        Ok(())
    }

    fn poll_arrived(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some((at, bytes)) = self.under_way.front_mut() else {
            return Poll::Pending;
        };
        if *at > Instant::now() {
            let arrival = self.arrival.insert(Box::pin(sleep_until(*at)));
            ready!(arrival.as_mut().poll(context));
        }
        let taken = bytes.len().min(buffer.remaining());
        buffer.put_slice(&bytes[..taken]);
        bytes.advance(taken);
        // The end stays where it is.
        if taken > 0 && bytes.is_empty() {
            self.under_way.pop_front();
        }
        Poll::Ready(Ok(()))
    }
}

impl Position {
    fn remember(&mut self, waker: &Waker) {
        if !self.wakers.iter().any(|known| known.will_wake(waker)) {
            // One for each task that reads or writes; a task that moved leaves an old one.
            if self.wakers.len() >= 8 {
                self.wakers.drain(..).for_each(Waker::wake);
            }
            self.wakers.push(waker.clone());
        }
    }
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_open(context))?;
        let round_trip = Duration::from_micros(self.round_trip.load(Ordering::Relaxed));
        if round_trip.is_zero() && self.under_way.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        self.take_in(context, round_trip)?;
        self.poll_arrived(context, buffer)
    }
}

impl AsyncWrite for Line {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_open(context))?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
