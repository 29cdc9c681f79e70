//! Dials the tunnels of a pool, and sees to it that no bastion is asked too much at once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, SemaphorePermit, watch},
    time::Instant,
};

use super::Link;
use crate::{
    credential::Broker,
    model::{Cause, HostPort},
    ssh::{self, Keepalive, Route, Tunnel},
};

/// Handshakes with one bastion at a time, of all pools. sshd begins to refuse connections at
/// random where ten have not logged in yet (`MaxStartups 10:30:100`).
const HANDSHAKES: usize = 8;
/// Those among them for tunnels beyond a pool's first: where these hang, a pool that has none
/// gets through.
const FURTHER_HANDSHAKES: usize = 6;

/// Which tunnel of its pool is dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialled {
    /// One that sessions wait for.
    First,
    /// One more, beside so many others.
    Further { others: usize },
}

/// Makes the tunnels of a pool.
pub(crate) trait Dial: Send + Sync + 'static {
    /// What is made.
    type Link: Link;

    /// Connects to the bastion and logs in; answers how long that took, without what came
    /// before it. Dropping the future closes the connection.
    fn dial(
        &self,
        which: Dialled,
    ) -> impl Future<Output = Result<(Self::Link, Duration), Cause>> + Send;
}

/// Dials with the SSH lease that the broker holds.
pub(crate) struct Dialer {
    pub(super) broker: Arc<Broker>,
    /// For tunnels that are made from now on.
    pub(super) keepalive: watch::Receiver<Keepalive>,
    pub(super) addon: String,
    pub(super) handshakes: Arc<Handshakes>,
}

/// The handshakes under way and the tunnels, by bastion.
#[derive(Default)]
pub(super) struct Handshakes(Mutex<HashMap<HostPort, Arc<Places>>>);

/// The places for handshakes with one bastion, and the way there.
struct Places {
    all: Semaphore,
    further: Semaphore,
    route: Route,
}

// === impl Dialer ===

impl Dial for Dialer {
    type Link = Tunnel;

    async fn dial(&self, which: Dialled) -> Result<(Tunnel, Duration), Cause> {
        let lease = self.broker.ssh(&self.addon, None).await?;
        let keepalive = *self.keepalive.borrow();
        let places = self.handshakes.with(&lease.credential.bastion);
        let _place = places.take(which).await;
        let began = Instant::now();
        let others = match which {
            Dialled::First => 0,
            Dialled::Further { others } => others,
        };
        match ssh::dial(&lease, keepalive, others, places.route.clone()).await {
            Ok(tunnel) => {
                self.broker.ssh_took(&self.addon, lease.generation);
                Ok((tunnel, began.elapsed()))
            }
            Err(cause) => {
                if let Cause::BastionRefusedKey { .. } = cause {
                    self.broker
                        .ssh_refused(&self.addon, lease.generation, &cause);
                }
                Err(cause)
            }
        }
    }
}

// === impl Handshakes ===

impl Handshakes {
    fn with(&self, bastion: &HostPort) -> Arc<Places> {
        let mut hosts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(places) = hosts.get(bastion) {
            return Arc::clone(places);
        }
        hosts.retain(|_, places| Arc::strong_count(places) > 1 || places.route.is_used());
        let places = Arc::new(Places {
            all: Semaphore::new(HANDSHAKES),
            further: Semaphore::new(FURTHER_HANDSHAKES),
            route: Route::default(),
        });
        hosts.insert(bastion.clone(), Arc::clone(&places));
        places
    }
}

// === impl Places ===

impl Places {
    /// Waits for a place, in the order in which they were asked for. Semaphores that are never
    /// closed give one each.
    async fn take(
        &self,
        which: Dialled,
    ) -> (Option<SemaphorePermit<'_>>, Option<SemaphorePermit<'_>>) {
        let further = match which {
            Dialled::First => None,
            Dialled::Further { .. } => self.further.acquire().await.ok(),
        };
        (further, self.all.acquire().await.ok())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn a_bastion_never_has_ten_that_have_not_logged_in() {
        let handshakes = Handshakes::default();
        let bastion = HostPort {
            host: "bastion".into(),
            port: 22,
        };
        let places = handshakes.with(&bastion);
        let take = |which| places.take(which).now_or_never();
        let further: Vec<_> = (0..20)
            .filter_map(|others| take(Dialled::Further { others }))
            .collect();
        assert_eq!(further.len(), FURTHER_HANDSHAKES);
        let first: Vec<_> = (0..20).filter_map(|_| take(Dialled::First)).collect();
        assert_eq!(further.len() + first.len(), HANDSHAKES);
        const { assert!(HANDSHAKES < 10) };
        // Another pool's are counted with them.
        assert!(
            handshakes
                .with(&bastion)
                .take(Dialled::First)
                .now_or_never()
                .is_none()
        );
        drop(first);
        assert!(take(Dialled::First).is_some());
    }
}
