//! A listener that serves few connections at a time, and each for a short time only: idle
//! ones, which every local process can make, must not use up the process's descriptors.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::serve::Listener;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Sleep, sleep},
};

use crate::platform::{accept::Acceptor, descriptors};

/// Connections at a time. More wait in the kernel, where they take no descriptor of ours.
const MOST: usize = 8;
/// What a connection gets for its request and the answer to be read.
const LIFE: Duration = Duration::from_secs(5);
/// Pause after an accept that took a descriptor that others need more.
const PAUSE: Duration = Duration::from_millis(200);

pub(super) struct BoundedListener {
    listener: TcpListener,
    acceptor: Acceptor,
    places: Arc<Semaphore>,
}

/// A connection that fails once its time is over.
pub(super) struct BoundedStream {
    stream: TcpStream,
    end: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

// === impl BoundedListener ===

impl BoundedListener {
    pub(super) fn new(listener: TcpListener) -> Self {
        Self {
            listener,
            acceptor: Acceptor::new("metrics"),
            places: Arc::new(Semaphore::new(MOST)),
        }
    }
}

impl Listener for BoundedListener {
    type Io = BoundedStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (BoundedStream, SocketAddr) {
        loop {
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else {
                // Nobody closes it.
                return std::future::pending().await;
            };
            let (stream, address) = self.acceptor.next(|| self.listener.accept()).await;
            if descriptors::missing_after(&stream) == 0 {
                let stream = BoundedStream {
                    stream,
                    end: Box::pin(sleep(LIFE)),
                    _place: place,
                };
                return (stream, address);
            }
            tracing::warn!("no metrics for now: too many files are open");
            sleep(PAUSE).await;
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

// === impl BoundedStream ===

impl BoundedStream {
    /// An error once the time is over.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        ready!(self.end.as_mut().poll(context));
        Poll::Ready(io::ErrorKind::TimedOut.into())
    }
}

impl AsyncRead for BoundedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.poll_end(context) {
            Poll::Ready(error) => Poll::Ready(Err(error)),
            Poll::Pending => Pin::new(&mut self.stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for BoundedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.poll_end(context) {
            Poll::Ready(error) => Poll::Ready(Err(error)),
            Poll::Pending => Pin::new(&mut self.stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::{io::AsyncReadExt as _, time::timeout};

    use super::*;

    async fn listening() -> (BoundedListener, SocketAddr) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        (BoundedListener::new(listener), address)
    }

    #[tokio::test]
    async fn few_are_served_at_a_time() {
        let (mut listener, address) = listening().await;
        let mut clients = Vec::new();
        let mut served = Vec::new();
        for _ in 0..MOST {
            clients.push(TcpStream::connect(address).await.unwrap());
            served.push(listener.accept().await.0);
        }
        clients.push(TcpStream::connect(address).await.unwrap());
        let another = timeout(Duration::from_millis(20), listener.accept()).await;
        assert!(another.is_err(), "one more than {MOST}");
        drop(served.pop());
        listener.accept().await;
    }

    #[tokio::test]
    async fn an_idle_connection_ends_by_itself() {
        let (mut listener, address) = listening().await;
        let _client = TcpStream::connect(address).await.unwrap();
        let (mut stream, _) = listener.accept().await;
        tokio::time::pause();
        let error = stream.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
