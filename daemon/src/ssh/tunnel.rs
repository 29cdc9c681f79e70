//! One authenticated connection to the bastion.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use russh::{ChannelOpenFailure, client};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;

use super::dial::Handler;
use crate::model::{Cause, Generation, HostPort};

/// An SSH connection with its channels. It ends when the last of its handles and channels
/// is dropped, or when the line or the server ends it.
#[derive(Clone)]
pub struct Tunnel(Arc<Inner>);

struct Inner {
    handle: client::Handle<Handler>,
    bastion: HostPort,
    generation: Generation,
    closed: CancellationToken,
    loss: Loss,
    channels: AtomicUsize,
}

/// A channel to the database, as a stream of bytes. Dropping it closes the channel.
pub struct ChannelStream {
    stream: russh::ChannelStream<client::Msg>,
    count: Counted,
}

/// Sees a tunnel's end without keeping it alive.
#[derive(Clone)]
pub struct Closing {
    closed: CancellationToken,
    loss: Loss,
}

/// A channel of a tunnel that is about to be opened.
pub struct Reserved(Counted);

/// Why a connection ended; the first to say it is believed.
#[derive(Clone, Default)]
pub(super) struct Loss(Arc<OnceLock<String>>);

/// Counts one channel of a tunnel while it lives, and keeps the tunnel alive.
struct Counted(Tunnel);

// === impl Loss ===

impl Loss {
    pub(super) fn note(&self, detail: String) {
        // A later report is only an echo of the first.
        let _ = self.0.set(detail);
    }

    fn cause(&self) -> Cause {
        let detail = self
            .0
            .get()
            .cloned()
            .unwrap_or_else(|| "the connection ended".into());
        Cause::TunnelLost { detail }
    }
}

// === impl Closing ===

impl Closing {
    /// Completes when the connection has ended, with the reason.
    pub async fn closed(&self) -> Cause {
        self.closed.cancelled().await;
        self.loss.cause()
    }
}

// === impl Tunnel ===

impl Tunnel {
    pub(super) fn new(
        handle: client::Handle<Handler>,
        bastion: HostPort,
        generation: Generation,
        closed: CancellationToken,
        loss: Loss,
    ) -> Self {
        Self(Arc::new(Inner {
            handle,
            bastion,
            generation,
            closed,
            loss,
            channels: AtomicUsize::new(0),
        }))
    }

    /// Counts a channel that is about to be opened, so that nobody else takes the tunnel for
    /// an idle one.
    pub fn reserve(&self) -> Reserved {
        Reserved(Counted::new(self))
    }

    fn open_failure(&self, error: &russh::Error, server: HostPort) -> Cause {
        let detail = match error {
            russh::Error::ChannelOpenFailure(ChannelOpenFailure::ConnectFailed) => {
                "connection refused"
            }
            russh::Error::ChannelOpenFailure(ChannelOpenFailure::AdministrativelyProhibited) => {
                "forwarding there is not allowed"
            }
            russh::Error::ChannelOpenFailure(ChannelOpenFailure::ResourceShortage) => {
                "it has no resources left"
            }
            russh::Error::ChannelOpenFailure(_) => "the channel was refused",
            _ => return self.loss(),
        };
        Cause::DatabaseUnreachable {
            server,
            detail: detail.to_owned(),
        }
    }

    /// A watch on the connection's end that doesn't keep it alive.
    pub fn closing(&self) -> Closing {
        Closing {
            closed: self.0.closed.clone(),
            loss: self.0.loss.clone(),
        }
    }

    /// Whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.0.closed.is_cancelled() || self.0.handle.is_closed()
    }

    /// Why the connection ended.
    pub fn loss(&self) -> Cause {
        self.0.loss.cause()
    }

    /// How many channels are open or being opened.
    pub fn channels(&self) -> usize {
        self.0.channels.load(Ordering::Relaxed)
    }

    /// The generation of the key that it was authenticated with.
    pub fn generation(&self) -> Generation {
        self.0.generation
    }

    /// Where it leads.
    pub fn bastion(&self) -> &HostPort {
        &self.0.bastion
    }
}

// === impl Reserved ===

impl Reserved {
    /// Opens a channel to a server behind the bastion.
    ///
    /// # Errors
    /// `DatabaseUnreachable` where the bastion says no, `TunnelLost` where the connection has
    /// ended. Dropping the future abandons the channel; the bastion is told.
    pub async fn open(self, server: &HostPort) -> Result<ChannelStream, Cause> {
        let count = self.0;
        let server = server.clone();
        // On a task of its own: russh has no way to give up a channel that is being opened,
        // so one whose user has gone is closed as soon as it is there.
        let opening = tokio::spawn(async move {
            let tunnel = &count.0.0;
            let opened = tunnel
                .handle
                .channel_open_direct_tcpip(
                    server.host.as_str(),
                    u32::from(server.port),
                    "127.0.0.1",
                    0,
                )
                .await;
            match opened {
                Ok(channel) => Ok(ChannelStream {
                    stream: channel.into_stream(),
                    count,
                }),
                Err(error) => Err(count.0.open_failure(&error, server)),
            }
        });
        opening.await.unwrap_or_else(|error| {
            Err(Cause::Internal {
                detail: error.to_string(),
            })
        })
    }
}

// === impl Counted ===

impl Counted {
    fn new(tunnel: &Tunnel) -> Self {
        tunnel.0.channels.fetch_add(1, Ordering::Relaxed);
        Self(tunnel.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.channels.fetch_sub(1, Ordering::Relaxed);
    }
}

// === impl ChannelStream ===

impl ChannelStream {
    /// The tunnel that the channel is in.
    pub fn tunnel(&self) -> &Tunnel {
        &self.count.0
    }
}

impl AsyncRead for ChannelStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for ChannelStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        // russh takes an empty write for an error.
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
