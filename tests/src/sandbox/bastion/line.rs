//! A TCP connection that can be cut or made silent from outside, whoever serves it.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll, Waker, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// All lines of a listener.
#[derive(Debug, Default)]
pub(super) struct Lines {
    inner: Mutex<AllLines>,
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
        Line { stream, switch }
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
        Pin::new(&mut self.stream).poll_read(context, buffer)
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
