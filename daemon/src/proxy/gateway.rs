//! The data plane of one session, as its control plane has it.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::{
    Counters, CurrentLimits, Endpoint, LocalLogin,
    admission::Admission,
    cancel_keys::CancelKeys,
    clients::Clients,
    connector::{Connect, Connector},
    drain::{Drain, IdlePolicy},
    listener,
    slots::Slots,
    upstream::Upstream,
    warm::WarmPool,
};
#[cfg(test)]
use super::{admission::Peer, connection};
#[cfg(test)]
use crate::postgres::Stream;
use crate::{
    credential::{Broker, DatabaseKey},
    journal::Journal,
    model::{Cause, Mode, SessionName},
    postgres::{LocalTls, UpstreamTls},
    tunnels::{Gate, Tunnels},
};

/// Serves the clients of a session, and ends them when it is told to.
pub(crate) struct Gateway<C: Connect = Connector> {
    clients: Arc<Clients<C>>,
    tunnels: Arc<Tunnels>,
}

/// What the data plane of a session is made of.
pub(crate) struct Parts<'a> {
    pub(crate) name: &'a SessionName,
    pub(crate) mode: Mode,
    pub(crate) login: &'a LocalLogin,
    pub(crate) limits: &'a CurrentLimits,
    pub(crate) local_tls: &'a Arc<dyn Fn() -> LocalTls + Send + Sync>,
    pub(crate) journal: &'a Journal,
    pub(crate) counters: &'a Arc<Counters>,
    pub(crate) tunnels: &'a Arc<Tunnels>,
    /// Hears of clients that wait for a tunnel.
    pub(crate) client_waits: mpsc::Sender<()>,
}

// === impl Gateway ===

impl Gateway {
    /// Serves nobody yet. `broker` has the leases of `key`, which is known once the target has
    /// been looked up.
    pub(crate) fn new(
        parts: Parts<'_>,
        broker: &Arc<Broker>,
        key: watch::Receiver<Option<DatabaseKey>>,
        upstream_tls: &watch::Receiver<UpstreamTls>,
    ) -> Self {
        let connector = Connector {
            broker: Arc::clone(broker),
            key,
            tunnels: Arc::clone(parts.tunnels),
            upstream_tls: upstream_tls.clone(),
        };
        Self::to(parts, Arc::new(connector))
    }
}

impl<C: Connect> Gateway<C> {
    /// The same, with another way to the database.
    pub(super) fn to(parts: Parts<'_>, connector: Arc<C>) -> Self {
        let name = parts.name;
        let warm = WarmPool::new(
            name.clone(),
            connector,
            parts.limits.clone(),
            Arc::clone(parts.counters),
        );
        let upstream = Upstream::new(
            warm,
            parts.limits.clone(),
            parts.journal.clone(),
            parts.client_waits,
        );
        let admission = Admission {
            name: name.clone(),
            verifier: parts.login.verifier.clone(),
            local_tls: Arc::clone(parts.local_tls),
            gate: parts.tunnels.gate(),
            journal: parts.journal.clone(),
            refusal_pace: Arc::default(),
        };
        let clients = Arc::new(Clients {
            name: name.clone(),
            mode: parts.mode,
            admission,
            pending: Arc::default(),
            slots: Slots::new(parts.limits.clone()),
            upstream: Arc::new(upstream),
            counters: Arc::clone(parts.counters),
            cancel_keys: CancelKeys::new(),
            leftovers: Arc::default(),
            journal: parts.journal.clone(),
            drain: Drain::new(),
            tasks: TaskTracker::new(),
            arriving: TaskTracker::new(),
        });
        Self {
            clients,
            tunnels: Arc::clone(parts.tunnels),
        }
    }

    /// Serves one client of this user's.
    #[cfg(test)]
    pub(crate) fn begin<S: Stream + 'static>(&self, stream: S) {
        let uid = rustix::process::geteuid().as_raw();
        let peer = Peer::Unix {
            uid,
            pid: std::process::id(),
            trusted: true,
        };
        connection::begin(stream, peer, &self.clients);
    }

    /// Takes clients, until the answer is dropped or aborted.
    pub(crate) fn listen(&self, endpoint: Arc<Endpoint>) -> AbortOnDropHandle<()> {
        let clients = Arc::clone(&self.clients);
        AbortOnDropHandle::new(tokio::spawn(async move {
            tokio::join!(
                listener::tcp(&endpoint.tcp, &clients),
                listener::unix(&endpoint.unix, &clients)
            );
        }))
    }

    /// Tells clients whether they get through.
    pub(crate) fn set_gate(&self, gate: Gate) {
        let outage = self.clients.upstream.outage();
        if gate == Gate::Open {
            outage.has_ended();
        } else {
            outage.goes_on();
        }
        self.tunnels.set_gate(gate);
    }

    /// The target leads elsewhere: connections that are kept ready are no client's any more.
    pub(crate) fn has_moved(&self) {
        self.clients.upstream.warm().clear();
    }

    /// Waits until clients that have spoken have reached their database, or were refused.
    pub(crate) async fn arrived(&self) {
        self.clients.arriving.close();
        self.clients.arriving.wait().await;
    }

    /// Takes no more clients and keeps nothing ready.
    pub(crate) fn close(&self) {
        self.clients.upstream.warm().close();
        self.tunnels.close();
        self.clients.tasks.close();
    }

    /// Lets connections end where it does no harm; clients that come are told why they can't
    /// stay.
    pub(crate) fn end_at_idle(&self, which: IdlePolicy, cause: Cause) {
        self.tunnels.set_gate(Gate::Refuse(cause.clone()));
        self.clients.drain.at_idle(which, cause);
    }

    /// Completes once the last connection has ended, after [`Gateway::close`].
    pub(crate) async fn ended(&self) {
        self.clients.tasks.wait().await;
    }

    /// Ends what is left: with a word to each client, and without one where the client takes
    /// none within `limit`.
    pub(crate) async fn cut(&self, cause: Cause, limit: Duration) {
        let Clients { drain, tasks, .. } = &*self.clients;
        drain.now(cause);
        if timeout(limit, tasks.wait()).await.is_err() {
            let left = tasks.len();
            tracing::info!(session = %self.clients.name, left, "clients that don't read are cut off");
            drain.abandon();
            tasks.wait().await;
        }
    }
}
