//! The TCP connection below a tunnel: says when the server was last heard, is read no further
//! while too much waits for its readers, and can be cut from outside whatever russh's loop is
//! waiting for.

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

use super::{greeting::Greeting, intake::Intake};
use crate::platform::clock::{BootInstant, Clock};

/// The connection, as russh reads and writes it.
pub(super) struct MeteredStream {
    stream: TcpStream,
    stats: LinkStats,
    intake: Arc<Intake>,
    /// Whether what is read is still what comes before SSH.
    greets: bool,
    /// Whether there was no room for what was to be written.
    is_full: bool,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

/// What is known of a line, and the knife for it.
#[derive(Clone)]
pub(super) struct LinkStats {
    /// How often the line showed that it is alive.
    signs: Arc<AtomicU64>,
    /// When it was heard last, in milliseconds since `began`.
    heard_at: Arc<AtomicU64>,
    /// What has passed in the present and in the past moment.
    traffic: Arc<Traffic>,
    greeting: Greeting,
    began: BootInstant,
    cut: CancellationToken,
}

/// Bytes that passed, both ways, by moments of [`MOMENT`] milliseconds.
#[derive(Default)]
struct Traffic {
    /// Which moment `present` is of, counted from the line's beginning.
    moment: AtomicU64,
    present: AtomicU64,
    past: AtomicU64,
}

/// Milliseconds.
const MOMENT: u64 = 256;

/// Bytes in one or two moments from which a line counts as busy: half a megabyte a second.
const BUSY: u64 = 128 * 1024;

// === impl MeteredStream ===

impl MeteredStream {
    pub(super) fn new(stream: TcpStream, intake: Arc<Intake>) -> (Self, LinkStats) {
        let stats = LinkStats::new();
        let line = Self {
            stream,
            stats: stats.clone(),
            intake,
            greets: true,
            is_full: false,
            cut: Box::pin(stats.cut.clone().cancelled_owned()),
        };
        (line, stats)
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

impl AsyncRead for MeteredStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.intake.poll_room(context).is_pending() {
            self.poll_cut(context)?;
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if polled.is_ready() {
            self.stats.note(buffer.filled().len() - before);
            if self.greets {
                self.greets = self.stats.greeting.hear(&buffer.filled()[before..]);
            }
            if buffer.remaining() > 0 {
                self.acknowledge();
            }
        } else {
            self.poll_cut(context)?;
        }
        polled
    }
}

impl AsyncWrite for MeteredStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        if let Poll::Ready(Ok(written)) = polled {
            let stats = &self.stats;
            stats.traffic.add(stats.age(), written);
            if self.is_full {
                // Some of what was sent before has arrived.
                stats.signs.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.is_full = polled.is_pending();
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

// === impl LinkStats ===

impl LinkStats {
    fn new() -> Self {
        Self {
            signs: Arc::default(),
            heard_at: Arc::default(),
            traffic: Arc::default(),
            greeting: Greeting::default(),
            began: Clock::now(),
            cut: CancellationToken::new(),
        }
    }

    fn note(&self, read: usize) {
        let at = self.age();
        self.heard_at.store(at, Ordering::Relaxed);
        self.signs.fetch_add(1, Ordering::Relaxed);
        self.traffic.add(at, read);
    }

    /// What the server said before SSH began.
    pub(super) fn greeting(&self) -> Option<String> {
        self.greeting.said()
    }

    /// Milliseconds since the line's beginning.
    fn age(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Whether much has passed in the last moment.
    pub(super) fn is_busy(&self) -> bool {
        self.traffic.of_late(self.age()) > BUSY
    }

    /// How long ago the server was last heard, suspend included.
    pub(super) fn silent_for(&self) -> Duration {
        let at = Duration::from_millis(self.heard_at.load(Ordering::Relaxed));
        self.began.elapsed().saturating_sub(at)
    }

    /// A number that is another one once the server has been heard again, or has taken some of
    /// what there was no room for.
    pub(super) fn signs(&self) -> u64 {
        self.signs.load(Ordering::Relaxed)
    }

    /// Ends the connection: what reads or writes gets an error.
    pub(super) fn cut(&self) {
        self.cut.cancel();
    }
}

// === impl Traffic ===

impl Traffic {
    /// Called by the one task that reads and writes the line.
    fn add(&self, at: u64, bytes: usize) {
        self.go_on_to(at / MOMENT);
        self.present.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Bytes of the present and the past moment.
    fn of_late(&self, at: u64) -> u64 {
        let [present, past] = [&self.present, &self.past].map(|it| it.load(Ordering::Relaxed));
        match (at / MOMENT).saturating_sub(self.moment.load(Ordering::Relaxed)) {
            0 => present + past,
            1 => present,
            _ => 0,
        }
    }

    fn go_on_to(&self, moment: u64) {
        let known = self.moment.load(Ordering::Relaxed);
        if moment == known {
            return;
        }
        let ended = self.present.swap(0, Ordering::Relaxed);
        let past = if moment == known + 1 { ended } else { 0 };
        self.past.store(past, Ordering::Relaxed);
        self.moment.store(moment, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passed_a_moment_ago_counts_and_what_passed_before_does_not() {
        let traffic = Traffic::default();
        traffic.add(10, 100);
        traffic.add(MOMENT - 1, 10);
        assert_eq!(traffic.of_late(MOMENT - 1), 110);
        assert_eq!(traffic.of_late(MOMENT), 110);
        assert_eq!(traffic.of_late(2 * MOMENT), 0);
        traffic.add(MOMENT, 1);
        assert_eq!(traffic.of_late(MOMENT), 111);
        traffic.add(2 * MOMENT, 1);
        assert_eq!(traffic.of_late(2 * MOMENT), 2);
        traffic.add(9 * MOMENT, 1);
        assert_eq!(traffic.of_late(9 * MOMENT), 1);
    }
}
