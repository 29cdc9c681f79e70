//! Bytes both ways between a client and the database, after the log-ins: counted, never
//! parsed, each direction half-closed on its own.

use std::{
    io,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes};

use super::Counters;

/// Buffer from the client: one SSH packet's worth.
const UP: usize = 32 * 1024;
/// Buffer to the client: two of the bastion's packets.
const DOWN: usize = 64 * 1024;

/// Copies until both directions have ended, or one breaks.
///
/// # Errors
/// The first error of either side. Dropping the future closes both.
pub(super) async fn splice<C, D>(
    client: &mut C,
    database: D,
    counters: &Arc<Counters>,
) -> io::Result<()>
where
    C: AsyncRead + AsyncWrite + Unpin,
    D: AsyncRead + AsyncWrite + Unpin,
{
    let mut database = Counted {
        inner: database,
        counters,
    };
    copy_bidirectional_with_sizes(client, &mut database, UP, DOWN).await?;
    Ok(())
}

/// A stream whose bytes are counted as they pass.
struct Counted<'a, S> {
    inner: S,
    counters: &'a Counters,
}

// === impl Counted ===

impl<S: AsyncRead + Unpin> AsyncRead for Counted<'_, S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(context, buffer);
        let read = buffer.filled().len() - before;
        self.counters
            .received
            .fetch_add(read as u64, Ordering::Relaxed);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<'_, S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(context, bytes);
        if let Poll::Ready(Ok(written)) = polled {
            self.counters
                .sent
                .fetch_add(written as u64, Ordering::Relaxed);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
