//! What the connections of one session share.

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::{
    Counters,
    admission::Admission,
    cancel_keys::{CancelKeyGuard, CancelKeys, CancelTarget},
    connector::{Channel, Connect, Reached},
    drain::Drain,
    leftovers::Leftovers,
    pending_logins::PendingLogins,
    record::ConnectionRecord,
    slots::Slots,
    upstream::Upstream,
};
use crate::{
    journal::{Journal, Kind},
    model::{Cause, Mode, SessionName},
    postgres::CancelRequest,
};

/// A cancel request is answered by closing; a server that doesn't isn't waited for.
const CANCEL_LIMIT: Duration = Duration::from_secs(10);

/// What the connections of one session share.
pub(crate) struct Clients<C: Connect> {
    pub(crate) name: SessionName,
    pub(crate) mode: Mode,
    pub(crate) admission: Admission,
    pub(crate) pending: Arc<PendingLogins>,
    pub(crate) slots: Slots,
    pub(crate) upstream: Arc<Upstream<C>>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) cancel_keys: CancelKeys<Closing<C>>,
    pub(crate) leftovers: Arc<Leftovers>,
    pub(crate) journal: Journal,
    pub(crate) drain: Drain,
    /// One task for each client.
    pub(crate) tasks: TaskTracker,
    /// Clients that have spoken and haven't reached their database.
    pub(crate) arriving: TaskTracker,
}

pub(super) type Closing<C> = <<C as Connect>::Channel as Channel>::Closing;

// === impl Clients ===

impl<C: Connect> Clients<C> {
    /// Says why a client is refused, beside saying so to the client.
    pub(super) fn tell(&self, cause: &Cause) {
        if matches!(cause, Cause::ConnectionEnded { .. }) {
            // That is an event of its own.
            return;
        }
        // Those that retry in an outage would fill the log.
        if self
            .journal
            .failure(Some(&self.name), Kind::ConnectionRefused, cause)
        {
            tracing::info!(session = %self.name, %cause, "a client was refused");
        } else {
            tracing::debug!(session = %self.name, %cause, "a client was refused");
        }
    }

    /// Passes a cancel request on, where a client of this session was given its key; others are
    /// closed without a word, as PostgreSQL does.
    pub(super) async fn cancel(&self, request: &CancelRequest) {
        match self.cancel_keys.find(request) {
            Some(target) => {
                self.forward_cancel(&target).await;
            }
            None => {
                self.journal
                    .counted(&self.name, Kind::CancelRefused, String::new());
            }
        }
    }

    /// Passes a cancel request on; `None` where it isn't known to have arrived.
    async fn forward_cancel(&self, target: &CancelTarget<Closing<C>>) -> Option<()> {
        let forwarding = self.upstream.forward_cancel(target);
        let forwarded = timeout(CANCEL_LIMIT, forwarding).await.ok().flatten();
        if forwarded.is_none() {
            tracing::info!(session = %self.name, "a cancel request could not be passed on");
        }
        forwarded
    }

    /// Has cancel requests of the client that is about to hear of the connection lead there,
    /// and those that others make for it.
    pub(super) fn give_cancel_key(
        self: &Arc<Self>,
        reached: &Reached<C::Channel>,
        record: &ConnectionRecord,
    ) -> Option<CancelKeyGuard<Closing<C>>> {
        let target = reached.cancel_target()?;
        let (clients, key, id) = (Arc::downgrade(self), target.key.clone(), record.id);
        record.set_cancel(Box::new(move || {
            let clients = clients.upgrade();
            let found = clients.and_then(|clients| {
                let target = clients.cancel_keys.find(&key)?;
                Some((clients, target))
            });
            async move {
                let (clients, target) = found.ok_or(Cause::NoSuchConnection { id })?;
                let forwarded = clients.forward_cancel(&target).await;
                forwarded.ok_or(Cause::CancelNotPassedOn { id })
            }
            .boxed()
        }));
        Some(self.cancel_keys.give(target.key.clone(), target))
    }
}
