//! A channel as something to read from and to write to.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use russh::{Channel, ChannelWriteHalf, client::Msg};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    super::{Closing, Tunnel, tunnel::Counted},
    reader::ChannelReader,
};

/// A channel to the database, as a stream of bytes. Dropping it closes the channel. It
/// breaks with an error, and not an end, where its tunnel ends before the channel.
pub struct ChannelStream {
    reader: Arc<ChannelReader>,
    /// Of the last message, what has not been read.
    rest: Bytes,
    ended: bool,
    writer: Pin<Box<dyn AsyncWrite + Send + Sync>>,
    closer: Option<ChannelWriteHalf<Msg>>,
    closing: Closing,
    count: Counted,
}

// === impl ChannelStream ===

impl ChannelStream {
    pub(in crate::ssh) fn new(channel: Channel<Msg>, count: Counted) -> Self {
        let writer = Box::pin(channel.make_writer());
        let id = channel.id();
        let (half, closer) = channel.split();
        let tunnel = count.tunnel();
        let closing = tunnel.closing().of_channel();
        let reader = ChannelReader::new(id, half, &tunnel.parts().intake, closing.clone());
        Self {
            reader,
            rest: Bytes::new(),
            ended: false,
            writer,
            closer: Some(closer),
            closing,
            count,
        }
    }

    /// A watch on the channel's end, by its tunnel's end or because its client doesn't
    /// read.
    pub fn closing(&self) -> Closing {
        self.closing.clone()
    }

    /// The tunnel that the channel is in.
    pub fn tunnel(&self) -> &Tunnel {
        self.count.tunnel()
    }
}

impl AsyncRead for ChannelStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.rest.is_empty() && !self.ended {
            self.rest = ready!(self.reader.poll_next(context))?;
            self.ended = self.rest.is_empty();
        }
        let length = self.rest.len().min(buffer.remaining());
        buffer.put_slice(&self.rest[..length]);
        self.rest.advance(length);
        Poll::Ready(Ok(()))
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
        self.writer.as_mut().poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer.as_mut().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer.as_mut().poll_shutdown(context)
    }
}

impl Drop for ChannelStream {
    fn drop(&mut self) {
        let (Some(closer), Ok(runtime)) =
            (self.closer.take(), tokio::runtime::Handle::try_current())
        else {
            return;
        };
        // An error means that the tunnel has ended, and the channel with it.
        runtime.spawn(async move { closer.close().await });
    }
}
