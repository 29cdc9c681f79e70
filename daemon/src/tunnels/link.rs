//! What a pool needs of a tunnel: the edge at which tests put one of their own.

use std::time::Duration;

use crate::{
    model::{Cause, Generation, HostPort},
    ssh::{ChannelStream, Closing, Liveness, Reserved, Tunnel},
};

/// An authenticated connection to a bastion. Clones are the same connection, which ends when
/// the last of its clones and channels is dropped.
pub(crate) trait Link: Clone + Send + Sync + 'static {
    /// A channel that is about to be opened; counted from then on.
    type Reserved: Send + 'static;
    /// A channel.
    type Channel: Send;
    /// What a connection keeps of the link that it is on.
    type Closing: Send + Sync;

    /// Of the key that it was authenticated with.
    fn generation(&self) -> Generation;
    /// How long the bastion took to answer when the connection was begun.
    fn round_trip(&self) -> Duration;
    /// How often its window was halved from what fills the line alone.
    fn shift(&self) -> u32;
    /// Channels that are open or being opened.
    fn channels(&self) -> usize;
    /// Whether the connection has ended.
    fn is_closed(&self) -> bool;
    /// Whether it waits for a client that doesn't read.
    fn is_jammed(&self) -> bool;
    /// Whether much has come or gone in the last moment.
    fn is_busy(&self) -> bool;
    /// Why the connection ended.
    fn loss(&self) -> Cause;
    /// Counts a channel before it is opened.
    fn reserve(&self) -> Self::Reserved;
    /// Opens a channel to a server behind the bastion.
    fn open(
        reserved: Self::Reserved,
        server: &HostPort,
    ) -> impl Future<Output = Result<Self::Channel, Cause>> + Send;
    /// Completes when the connection has ended; doesn't keep it alive.
    fn ended(&self) -> impl Future<Output = Cause> + Send + 'static;
    /// Asks for a sign of life, and waits at most `limit` for it.
    fn probe(&self, limit: Duration) -> impl Future<Output = Liveness> + Send;
    /// Ends the connection at once.
    fn cut(&self, detail: &str);
    /// Whether the connection with that end is on this link.
    fn carries(&self, closing: &Self::Closing) -> bool;
}

impl Link for Tunnel {
    type Reserved = Reserved;
    type Channel = ChannelStream;
    type Closing = Closing;

    fn generation(&self) -> Generation {
        self.generation()
    }

    fn round_trip(&self) -> Duration {
        self.round_trip()
    }

    fn shift(&self) -> u32 {
        self.shift()
    }

    fn channels(&self) -> usize {
        self.channels()
    }

    fn is_closed(&self) -> bool {
        self.is_closed()
    }

    fn is_jammed(&self) -> bool {
        self.is_jammed()
    }

    fn is_busy(&self) -> bool {
        self.is_busy()
    }

    fn loss(&self) -> Cause {
        self.loss()
    }

    fn reserve(&self) -> Reserved {
        self.reserve()
    }

    async fn open(reserved: Reserved, server: &HostPort) -> Result<ChannelStream, Cause> {
        reserved.open(server).await
    }

    fn ended(&self) -> impl Future<Output = Cause> + Send + 'static {
        let closing = self.closing();
        async move { closing.closed().await }
    }

    async fn probe(&self, limit: Duration) -> Liveness {
        self.probe(limit).await
    }

    fn cut(&self, detail: &str) {
        self.cut(detail);
    }

    fn carries(&self, closing: &Closing) -> bool {
        closing.is_of(self)
    }
}
