//! One connection to a session's Unix socket: messages in, bytes out.

use std::{io, path::Path};

use bytes::BytesMut;
use postgres_protocol::message::{backend::Message, frontend};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
};

use crate::failure::{Failure, reason};

/// What a cancel request names a connection by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CancelKey {
    pub(super) process: i32,
    pub(super) secret: i32,
}

/// A connection, its two directions apart so that a COPY can use both at once.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) incoming: Incoming,
    pub(super) outgoing: OwnedWriteHalf,
}

/// What the database sends.
#[derive(Debug)]
pub(super) struct Incoming {
    stream: OwnedReadHalf,
    buffer: BytesMut,
}

/// Read at once where that much is there.
const CHUNK: usize = 64 * 1024;

// === impl Connection ===

impl Connection {
    pub(super) async fn open(socket: &Path) -> Result<Self, Failure> {
        let stream = UnixStream::connect(socket).await.map_err(|error| {
            Failure::failed(format!(
                "can't connect to the session's socket {}: {}",
                socket.display(),
                reason(&error)
            ))
            .with_hint("see `borealisctl list`")
        })?;
        let (incoming, outgoing) = stream.into_split();
        Ok(Self {
            incoming: Incoming::of(incoming),
            outgoing,
        })
    }

    /// Sends the bytes that `write` makes.
    pub(super) async fn send(
        &mut self,
        write: impl FnOnce(&mut BytesMut) -> io::Result<()>,
    ) -> Result<(), Failure> {
        let mut bytes = BytesMut::new();
        write(&mut bytes).map_err(|error| {
            Failure::usage(format!("this can't be sent to the database: {error}"))
        })?;
        self.outgoing
            .write_all(&bytes)
            .await
            .map_err(|error| lost(&error))
    }
}

// === impl Incoming ===

impl Incoming {
    pub(super) fn of(stream: OwnedReadHalf) -> Self {
        Self {
            stream,
            buffer: BytesMut::with_capacity(CHUNK),
        }
    }

    /// What has arrived and wasn't read yet.
    pub(super) fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Waits until that many bytes have arrived. Dropping the future loses nothing.
    pub(super) async fn fill(&mut self, count: usize) -> Result<(), Failure> {
        while self.buffer.len() < count {
            self.receive().await?;
        }
        Ok(())
    }

    /// A message that has arrived already.
    pub(super) fn buffered(&mut self) -> Result<Option<Message>, Failure> {
        Message::parse(&mut self.buffer).map_err(|error| {
            Failure::failed(format!(
                "the session's socket doesn't speak Postgres' protocol: {error}"
            ))
        })
    }

    /// The next message. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Result<Message, Failure> {
        loop {
            if let Some(message) = self.buffered()? {
                return Ok(message);
            }
            self.receive().await?;
        }
    }

    async fn receive(&mut self) -> Result<(), Failure> {
        self.buffer.reserve(CHUNK);
        match self.stream.read_buf(&mut self.buffer).await {
            Ok(0) => Err(lost(&io::ErrorKind::UnexpectedEof.into())),
            Ok(_) => Ok(()),
            Err(error) => Err(lost(&error)),
        }
    }
}

/// Asks for a query to be cancelled; returns when the request has been dealt with.
pub(super) async fn cancel(socket: &Path, key: CancelKey) -> io::Result<()> {
    let mut stream = UnixStream::connect(socket).await?;
    let mut request = BytesMut::new();
    frontend::cancel_request(key.process, key.secret, &mut request);
    stream.write_all(&request).await?;
    // The server answers with the end of the stream.
    let mut nothing = [0; 1];
    stream.read(&mut nothing).await.map(drop)
}

pub(super) fn lost(error: &io::Error) -> Failure {
    let why = match error.kind() {
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::ConnectionReset => "it was closed from the other side".to_owned(),
        _ => reason(error),
    };
    Failure::failed(format!("the connection to the database was lost: {why}"))
        .with_hint("see `borealisctl list` for the session's state; statements that were under way may or may not have been done")
}
