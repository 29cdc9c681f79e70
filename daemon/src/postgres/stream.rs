//! The streams that log-ins are made over and that are handed on after them.

use std::{
    future::{Future as _, poll_fn},
    io,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use bytes::{Buf, Bytes};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    task::unconstrained,
};
use tokio_rustls::TlsStream;

use super::Stream;

/// A connection with or without TLS. For splicing: reading, writing and half-closing go
/// through to what is inside, and nothing is buffered but TLS' own records.
#[derive(Debug)]
pub enum MaybeTls<S: Stream> {
    /// As it is.
    Plain(S),
    /// Through TLS.
    Tls(Box<PoliteTls<S>>),
}

/// A TLS stream that says close_notify also where it is dropped, as far as that goes without
/// waiting: without it the other side takes the end for an attack, or for a crash.
#[derive(Debug)]
pub struct PoliteTls<S: Stream>(TlsStream<PrefixedIo<S>>);

/// A stream of which some bytes have been read that are to be read again: those by which a
/// TLS handshake was recognised, or what a client sent before it might begin.
#[derive(Debug)]
pub struct PrefixedIo<S> {
    again: Bytes,
    inner: S,
}

// === impl MaybeTls ===

impl<S: Stream> MaybeTls<S> {
    /// Within TLS, whose handshake is done.
    pub(super) fn within(stream: impl Into<TlsStream<PrefixedIo<S>>>) -> Self {
        Self::Tls(Box::new(PoliteTls(stream.into())))
    }

    /// Whether TLS is on.
    pub fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }
}

impl<S: Stream> AsyncRead for MaybeTls<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(&mut stream.0).poll_read(cx, buf),
        }
    }
}

impl<S: Stream> AsyncWrite for MaybeTls<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(&mut stream.0).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(&mut stream.0).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.0.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(&mut stream.0).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(&mut stream.0).poll_shutdown(cx),
        }
    }
}

// === impl PoliteTls ===

impl<S: Stream> PoliteTls<S> {
    /// The protocol that was agreed on.
    pub(super) fn alpn_protocol(&self) -> Option<&[u8]> {
        self.0.get_ref().1.alpn_protocol()
    }
}

impl<S: Stream> Drop for PoliteTls<S> {
    fn drop(&mut self) {
        // One try: what the other side doesn't take now isn't waited for.
        let mut context = Context::from_waker(Waker::noop());
        let closing = poll_fn(|context| Pin::new(&mut self.0).poll_shutdown(context));
        let _ = pin!(unconstrained(closing)).poll(&mut context);
    }
}

// === impl PrefixedIo ===

impl<S> PrefixedIo<S> {
    /// Has `again` read before what comes from `inner`.
    pub fn new(again: Bytes, inner: S) -> Self {
        Self { again, inner }
    }

    /// The stream inside, for its socket options.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The bytes that are still to be read again, and the stream behind them.
    pub fn into_parts(self) -> (Bytes, S) {
        (self.again, self.inner)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for PrefixedIo<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.again.is_empty() {
            return Pin::new(&mut this.inner).poll_read(cx, buf);
        }
        let taken = this.again.len().min(buf.remaining());
        buf.put_slice(&this.again[..taken]);
        this.again.advance(taken);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PrefixedIo<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn what_was_read_comes_again_and_first() {
        let mut stream = PrefixedIo::new(Bytes::from_static(b"first "), &b"second"[..]);
        let mut small = [0; 2];
        stream.read_exact(&mut small).await.unwrap();
        let mut rest = String::new();
        stream.read_to_string(&mut rest).await.unwrap();
        assert_eq!((&small, rest.as_str()), (b"fi", "rst second"));
    }
}
