//! The TCP connection below a tunnel: says when the server was last heard, and can be cut
//! from outside whatever russh's loop is waiting for.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::clock::{Clock, Moment};

/// The connection, as russh reads and writes it.
pub(super) struct Line {
    stream: TcpStream,
    gauge: Gauge,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

/// What is known of a line, and the knife for it.
#[derive(Clone)]
pub(super) struct Gauge {
    /// How often the server was heard.
    heard: Arc<AtomicU64>,
    /// When it was heard last, in milliseconds since `began`.
    heard_at: Arc<AtomicU64>,
    began: Moment,
    cut: CancellationToken,
}

// === impl Line ===

impl Line {
    pub(super) fn new(stream: TcpStream) -> (Self, Gauge) {
        let gauge = Gauge::new();
        let line = Self {
            stream,
            gauge: gauge.clone(),
            cut: Box::pin(gauge.cut.clone().cancelled_owned()),
        };
        (line, gauge)
    }

    /// Has the kernel acknowledge at once what was read, and not only with the next that is
    /// sent: sshd leaves Nagle's algorithm on for a connection that only forwards, and holds
    /// its next small packet back for as long. The kernel forgets it again by itself (tcp(7),
    /// `TCP_QUICKACK`).
    #[cfg(target_os = "linux")]
    fn acknowledge(&self) {
        // Without it things are only slower.
        let _ = rustix::net::sockopt::set_tcp_quickack(&self.stream, true);
    }

    #[cfg(not(target_os = "linux"))]
    fn acknowledge(&self) {}

    fn poll_cut(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.cut.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::ConnectionAborted.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if polled.is_ready() {
            self.gauge.note();
            if buffer.remaining() > 0 {
                self.acknowledge();
            }
        } else {
            self.poll_cut(context)?;
        }
        polled
    }
}

impl AsyncWrite for Line {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        if polled.is_pending() {
            // russh may wait here with the other half: whoever polls last is woken, and
            // both are polled by the one task.
            self.poll_cut(context)?;
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

// === impl Gauge ===

impl Gauge {
    fn new() -> Self {
        Self {
            heard: Arc::default(),
            heard_at: Arc::default(),
            began: Clock::now(),
            cut: CancellationToken::new(),
        }
    }

    fn note(&self) {
        let at = self.began.elapsed().as_millis();
        self.heard_at
            .store(u64::try_from(at).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.heard.fetch_add(1, Ordering::Relaxed);
    }

    /// How long ago the server was last heard, suspend included.
    pub(super) fn silent_for(&self) -> Duration {
        let at = Duration::from_millis(self.heard_at.load(Ordering::Relaxed));
        self.began.elapsed().saturating_sub(at)
    }

    /// A number that is another one once the server has been heard again.
    pub(super) fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    /// Ends the connection: what reads or writes gets an error.
    pub(super) fn cut(&self) {
        self.cut.cancel();
    }
}
