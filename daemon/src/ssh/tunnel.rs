//! One authenticated connection to the bastion.

use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
    time::Duration,
};

use russh::{ChannelOpenFailure, client};
use tokio::time::{interval, sleep};
use tokio_util::sync::CancellationToken;

use super::{
    channel::{Budget, ChannelReader, ChannelStream},
    dial::{Handler, ReceiveWindow},
    metered_stream::LinkStats,
};
use crate::model::{Cause, Generation, HostPort};

/// What all channels of a tunnel together may keep on disk of what their clients don't take.
/// russh gives the server its window back whether or not a client reads, so this much comes
/// over the line for nobody before it is known that nobody wants it.
const SPILL: u64 = 128 * 1024 * 1024;
/// How often it is looked whether a line was heard.
const LISTEN: Duration = Duration::from_millis(50);

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
    stats: LinkStats,
    window: ReceiveWindow,
    readers: Mutex<Vec<Weak<ChannelReader>>>,
    budget: Arc<Budget>,
}

/// Sees the end of a tunnel, or of a channel, without keeping it alive, and how long its line
/// has been silent.
#[derive(Clone)]
pub struct Closing {
    closed: CancellationToken,
    loss: Loss,
    stats: LinkStats,
    /// Why the channel ended, where it did so alone.
    channel: Loss,
}

/// A channel of a tunnel that is about to be opened.
pub struct Reserved(Counted);

/// Why a connection ended; the first to say it is believed.
#[derive(Clone, Default)]
pub(super) struct Loss(Arc<OnceLock<String>>);

/// Counts one channel of a tunnel while it lives, and keeps the tunnel alive.
pub(super) struct Counted(Tunnel);

/// Whether a line answered when it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Liveness {
    /// The server was heard.
    Alive,
    /// It was not.
    Silent,
}

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
        match self.channel.0.get() {
            Some(_) => self.channel.cause(),
            None => self.loss.cause(),
        }
    }

    /// Whether it is the end of that tunnel, or of a channel in it.
    pub fn is_of(&self, tunnel: &Tunnel) -> bool {
        Arc::ptr_eq(&self.loss.0, &tunnel.0.loss.0)
    }

    /// How long ago the bastion was last heard; time in which the machine slept counts.
    pub fn silent_for(&self) -> Duration {
        self.stats.silent_for()
    }

    /// The same for a channel, which may end alone.
    pub(super) fn of_channel(&self) -> Self {
        Self {
            closed: self.closed.child_token(),
            loss: self.loss.clone(),
            stats: self.stats.clone(),
            channel: Loss::default(),
        }
    }

    /// Ends the channel alone.
    pub(super) fn end(&self, detail: &str) {
        self.channel.note(detail.to_owned());
        self.closed.cancel();
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
        stats: LinkStats,
        window: ReceiveWindow,
    ) -> Self {
        Self(Arc::new(Inner {
            handle,
            bastion,
            generation,
            closed,
            loss,
            stats,
            window,
            readers: Mutex::default(),
            budget: Budget::new(SPILL),
        }))
    }

    /// Asks the server for a sign of life and waits at most `limit` for it. Whatever comes
    /// from the server counts: on a line that is busy with an upload the answer itself
    /// stands in a queue.
    pub async fn probe(&self, limit: Duration) -> Liveness {
        // A channel that isn't read would keep the loop from answering.
        self.decouple();
        let heard = self.0.stats.heard();
        let heard_again = async {
            let mut look = interval(LISTEN);
            while self.0.stats.heard() == heard {
                look.tick().await;
            }
        };
        tokio::select! {
            Ok(()) = self.0.handle.send_ping() => {}
            () = heard_again => {}
            () = sleep(limit) => {}
        }
        let answered = self.0.stats.heard() != heard || self.0.budget.is_jammed();
        if answered && !self.is_closed() {
            Liveness::Alive
        } else {
            Liveness::Silent
        }
    }

    /// Ends the connection at once, whatever it is doing.
    pub fn cut(&self, detail: &str) {
        self.0.loss.note(detail.to_owned());
        self.0.stats.cut();
        self.0.closed.cancel();
    }

    /// Takes a channel's reader in; decoupled, where the channel isn't the only one.
    pub(super) fn admit(&self, reader: &Arc<ChannelReader>) {
        let mut readers = self
            .0
            .readers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        readers.retain(|known| known.strong_count() > 0);
        readers.push(Arc::downgrade(reader));
        if self.channels() > 1 {
            reader.decouple(&self.0.budget);
        }
    }

    /// Makes all channels independent of their readers.
    fn decouple(&self) {
        let readers = self
            .0
            .readers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for reader in readers.iter().filter_map(Weak::upgrade) {
            reader.decouple(&self.0.budget);
        }
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
            stats: self.0.stats.clone(),
            channel: Loss::default(),
        }
    }

    /// Whether it waits for a client that doesn't read, and its channels with it.
    pub fn is_jammed(&self) -> bool {
        self.0.budget.is_jammed()
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
        self.0.budget.channels()
    }

    /// The generation of the key that it was authenticated with.
    pub fn generation(&self) -> Generation {
        self.0.generation
    }

    /// How long the bastion took to answer when the connection was begun.
    pub fn round_trip(&self) -> Duration {
        self.0.window.round_trip
    }

    /// How often its window was halved from what fills the line alone.
    pub fn shift(&self) -> u32 {
        self.0.window.shift
    }

    /// Whether much has come or gone in the last moment: who shares it waits in a queue.
    pub fn is_busy(&self) -> bool {
        self.0.stats.is_busy()
    }

    /// Where it leads.
    pub fn bastion(&self) -> &HostPort {
        &self.0.bastion
    }
}

// === impl Reserved ===

impl Reserved {
    /// The tunnel that it will be in.
    pub fn tunnel(&self) -> &Tunnel {
        &self.0.0
    }

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
                Ok(channel) => Ok(ChannelStream::new(channel, count)),
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
        if tunnel.0.budget.join() > 0 {
            tunnel.decouple();
        }
        Self(tunnel.clone())
    }

    pub(super) fn tunnel(&self) -> &Tunnel {
        &self.0
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.budget.leave();
    }
}
