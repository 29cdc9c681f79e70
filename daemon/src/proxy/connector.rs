//! What a log-in to the database needs: leases, channels, and the log-in itself.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::sync::watch;

use super::cancel_keys::CancelTarget;
use crate::{
    credential::{Broker, DatabaseKey, DatabaseLease},
    model::{Cause, Generation, HostPort},
    platform::clock::{BootInstant, Clock},
    postgres::{self, CancelRequest, LoginError, MaybeTls, StartupParameters, Stream, UpstreamTls},
    ssh::{ChannelStream, Closing},
    tunnels::{Gate, Tunnels},
};

/// The leases and channels of one session: the edge at which tests put ones of their own.
pub(crate) trait Connect: Send + Sync + 'static {
    /// A way to the database server.
    type Channel: Channel;

    /// Whether connections get through, and each change of it.
    fn gate(&self) -> watch::Receiver<Gate>;

    /// The lease that is held, without asking the provider.
    fn current_lease(&self) -> Option<DatabaseLease>;

    /// The lease that is held, now and whenever that changes; `None` while the add-on isn't
    /// known.
    fn watch_lease(&self) -> Option<watch::Receiver<Option<DatabaseLease>>>;

    /// A lease that was not refused, and that is newer than `after`.
    fn lease(
        &self,
        after: Option<Generation>,
    ) -> impl Future<Output = Result<DatabaseLease, Cause>> + Send;

    /// The database let a lease in.
    fn was_accepted(&self, generation: Generation);

    /// The database refused a lease.
    fn was_refused(&self, generation: Generation, cause: &Cause);

    /// How log-ins that are made now do TLS.
    fn tls(&self) -> UpstreamTls;

    /// Opens a channel. Dropping the future abandons it.
    fn channel(
        &self,
        server: &HostPort,
    ) -> impl Future<Output = Result<Self::Channel, Cause>> + Send;

    /// Opens a channel over a tunnel that is up, first over that of the connection with the end
    /// `prefer`. Never dials.
    fn channel_for_cancel(
        &self,
        server: &HostPort,
        prefer: &<Self::Channel as Channel>::Closing,
    ) -> impl Future<Output = Result<Self::Channel, Cause>> + Send;

    /// Asks the line for a sign of life, in the background. For when it may be dead.
    fn probe(&self);
}

/// A way to the database server.
pub(crate) trait Channel: Stream + 'static {
    /// A watch on its end.
    type Closing: WatchClosing;

    /// A watch on its end, which doesn't keep it.
    fn closing(&self) -> Self::Closing;

    /// How long the line took to answer when it was begun.
    fn round_trip(&self) -> Duration;
}

/// A watch on a channel's end.
pub(crate) trait WatchClosing: Clone + Send + Sync + 'static {
    /// Completes when the channel has ended, with the reason.
    fn closed(&self) -> impl Future<Output = Cause> + Send;

    /// How long the line has been silent.
    fn silent_for(&self) -> Duration;

    /// The number of the tunnel that carries it.
    fn tunnel(&self) -> u64;
}

/// A connection on which the database waits for a query.
pub(crate) struct Reached<C: Channel> {
    pub(crate) stream: MaybeTls<C>,
    pub(crate) greeting: Bytes,
    /// What would cancel a query on it.
    pub(crate) cancel: Option<CancelRequest>,
    pub(crate) closing: C::Closing,
    /// Of its line.
    pub(crate) round_trip: Duration,
    /// When the database was last known to have it: the log-in's end.
    pub(crate) since: BootInstant,
    /// Of the credential that it was logged in with.
    pub(crate) generation: Generation,
}

/// Connects with the leases of the broker, through the tunnels of the session.
pub(crate) struct Connector {
    pub(crate) broker: Arc<Broker>,
    /// Known once the target has been looked up.
    pub(crate) key: watch::Receiver<Option<DatabaseKey>>,
    pub(crate) tunnels: Arc<Tunnels>,
    pub(crate) upstream_tls: watch::Receiver<UpstreamTls>,
}

/// Logs in through a channel, and takes note where the database lets the lease in. The time is
/// the caller's to bound.
///
/// # Errors
/// As [`postgres::log_in`].
pub(crate) async fn log_in<C: Connect>(
    connector: &C,
    channel: C::Channel,
    lease: &DatabaseLease,
    startup: &StartupParameters,
) -> Result<Reached<C::Channel>, LoginError> {
    let (closing, round_trip) = (channel.closing(), channel.round_trip());
    let tls = connector.tls();
    let logged_in = postgres::log_in(channel, &tls, &lease.credential, startup).await?;
    connector.was_accepted(lease.generation);
    Ok(Reached {
        stream: logged_in.stream,
        greeting: logged_in.greeting,
        cancel: logged_in.cancel,
        closing,
        round_trip,
        since: Clock::now(),
        generation: lease.generation,
    })
}

/// Whether the server, or the role, has all the connections that it may have.
pub(super) fn is_full(error: &LoginError) -> bool {
    matches!(error, LoginError::Refused(refusal) if refusal.sqlstate() == "53300")
}

// === impl Reached ===

impl<C: Channel> Reached<C> {
    /// What a cancel request for it does; `None` where it has no key, as with some poolers.
    pub(crate) fn cancel_target(&self) -> Option<CancelTarget<C::Closing>> {
        Some(CancelTarget {
            key: self.cancel.clone()?,
            closing: self.closing.clone(),
        })
    }
}

// === impl Connector ===

impl Connector {
    fn key(&self) -> Option<DatabaseKey> {
        self.key.borrow().clone()
    }
}

impl Connect for Connector {
    type Channel = ChannelStream;

    fn gate(&self) -> watch::Receiver<Gate> {
        self.tunnels.gate()
    }

    fn current_lease(&self) -> Option<DatabaseLease> {
        self.broker.current_database(&self.key()?)
    }

    fn watch_lease(&self) -> Option<watch::Receiver<Option<DatabaseLease>>> {
        Some(self.broker.watch_database(&self.key()?))
    }

    async fn lease(&self, after: Option<Generation>) -> Result<DatabaseLease, Cause> {
        let key = self.key().ok_or(Cause::Internal {
            detail: "a tunnel is up, but the add-on isn't known".into(),
        })?;
        self.broker.database(&key, after).await
    }

    fn was_accepted(&self, generation: Generation) {
        if let Some(key) = self.key() {
            self.broker.database_took(&key, generation);
        }
    }

    fn was_refused(&self, generation: Generation, cause: &Cause) {
        if let Some(key) = self.key() {
            self.broker.database_refused(&key, generation, cause);
        }
    }

    fn tls(&self) -> UpstreamTls {
        self.upstream_tls.borrow().clone()
    }

    async fn channel(&self, server: &HostPort) -> Result<ChannelStream, Cause> {
        self.tunnels.channel(server).await
    }

    async fn channel_for_cancel(
        &self,
        server: &HostPort,
        prefer: &Closing,
    ) -> Result<ChannelStream, Cause> {
        self.tunnels.channel_for_cancel(server, Some(prefer)).await
    }

    fn probe(&self) {
        self.tunnels.probe();
    }
}

impl Channel for ChannelStream {
    type Closing = Closing;

    fn closing(&self) -> Closing {
        self.closing()
    }

    fn round_trip(&self) -> Duration {
        self.tunnel().round_trip()
    }
}

impl WatchClosing for Closing {
    async fn closed(&self) -> Cause {
        self.closed().await
    }

    fn silent_for(&self) -> Duration {
        self.silent_for()
    }

    fn tunnel(&self) -> u64 {
        self.tunnel()
    }
}
