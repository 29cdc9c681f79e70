//! HTTP connections whose answers can be spoilt below HTTP: closed, replaced by garbage, or
//! cut in the middle. Which answer is spoilt is decided by `gate`.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use axum::{
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
};

use super::SandboxError;

const GARBAGE: &[u8] = b"\x16\x03\x01\0\x8fnot HTTP \xff\xfe\r\n\r\n";

/// Accepts connections that can be spoilt.
#[derive(Debug)]
pub(crate) struct WireListener(TcpListener);

/// One connection, as a request's handler sees it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wire(Arc<Mutex<Order>>);

/// What is to happen to the next answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Order {
    /// Nothing.
    #[default]
    Pass,
    /// The connection is closed in its place.
    Close,
    /// Garbage is sent in its place.
    Garbage,
    /// So many bytes of its body are sent, then the connection is closed.
    Truncate {
        /// How many bytes of the body pass.
        body: usize,
        /// The head as far as it has been seen.
        head: Vec<u8>,
    },
}

/// A connection's byte stream.
#[derive(Debug)]
pub(crate) struct WireStream {
    stream: TcpStream,
    wire: Wire,
}

// === impl WireListener ===

impl WireListener {
    /// Listens on a port of the address that the system picks.
    ///
    /// # Errors
    /// When there is none left.
    pub(crate) async fn bind(at: Ipv4Addr) -> Result<(Self, SocketAddr), SandboxError> {
        let doing = "listening for HTTP";
        let listener = TcpListener::bind((at, 0))
            .await
            .map_err(SandboxError::io(doing))?;
        let address = listener.local_addr().map_err(SandboxError::io(doing))?;
        Ok((Self(listener), address))
    }
}

impl Listener for WireListener {
    type Io = WireStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let (stream, address) = Listener::accept(&mut self.0).await;
        let _ = stream.set_nodelay(true);
        let wire = Wire::default();
        (WireStream { stream, wire }, address)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.0.local_addr()
    }
}

// === impl Wire ===

impl Wire {
    /// Says what is to happen to the answer that is about to be sent.
    pub(crate) fn order(&self, order: Order) {
        *self.lock() = order;
    }

    fn lock(&self) -> MutexGuard<'_, Order> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connected<IncomingStream<'_, WireListener>> for Wire {
    fn connect_info(stream: IncomingStream<'_, WireListener>) -> Self {
        stream.io().wire.clone()
    }
}

// === impl WireStream ===

impl AsyncRead for WireStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for WireStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let order = self.wire.lock().clone();
        match order {
            Order::Pass => Pin::new(&mut self.stream).poll_write(context, bytes),
            Order::Close => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            Order::Garbage => {
                let written = ready!(Pin::new(&mut self.stream).poll_write(context, GARBAGE));
                self.wire.order(Order::Close);
                Poll::Ready(written.map(|_| bytes.len()))
            }
            Order::Truncate { body, mut head } => {
                let (pass, seen) = passing(&head, bytes, body);
                if pass == 0 {
                    return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
                }
                let written =
                    ready!(Pin::new(&mut self.stream).poll_write(context, &bytes[..pass]))?;
                let body = match seen {
                    // Still within the head, or at its end.
                    None => body,
                    Some(of_body) => body - written.saturating_sub(pass - of_body),
                };
                head.extend_from_slice(&bytes[..written]);
                self.wire.order(Order::Truncate { body, head });
                Poll::Ready(Ok(written))
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// How many of `bytes` may pass when `body` bytes of the body are left, and how many of
/// those that pass belong to the body.
fn passing(head: &[u8], bytes: &[u8], body: usize) -> (usize, Option<usize>) {
    const END: &[u8] = b"\r\n\r\n";
    if head.windows(END.len()).any(|window| window == END) {
        let pass = body.min(bytes.len());
        return (pass, Some(pass));
    }
    let all: Vec<u8> = head.iter().chain(bytes).copied().collect();
    match all.windows(END.len()).position(|window| window == END) {
        None => (bytes.len(), None),
        Some(end) => {
            let of_head = end + END.len() - head.len();
            let of_body = body.min(bytes.len() - of_head);
            (of_head + of_body, Some(of_body))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_truncated_answer_keeps_its_head() {
        assert_eq!(passing(b"", b"HTTP\r\n\r\n0123456789", 4), (12, Some(4)));
        assert_eq!(passing(b"", b"HTTP\r\n", 4), (6, None));
        assert_eq!(passing(b"HTTP\r\n", b"\r\n0123", 2), (4, Some(2)));
        assert_eq!(passing(b"HTTP\r\n\r\n", b"0123", 2), (2, Some(2)));
        assert_eq!(passing(b"HTTP\r\n\r\n", b"0123", 0), (0, Some(0)));
    }
}
