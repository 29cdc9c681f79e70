//! Short-lived authorizations for the Borealis API: one for each operation, shared by the
//! calls that run side by side, removed when the last of them is done.
//!
//! A grant is known from the moment its creation is answered until its removal is: dropping
//! the last [`Grant`] starts the removal, and making one is never cancelled, so neither a
//! failure nor a caller that goes away leaves one behind. What can't be helped is an answer
//! that is lost on its way: that one ends by itself after 180 seconds.

use std::{
    fmt,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use secrecy::SecretString;
use tokio::runtime::Handle;
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};
use tracing::{debug, warn};

use super::{
    single_flight::{SingleFlight, locked},
    token::Token,
    token::cache::same,
};
use crate::{
    model::Cause,
    platform::clock::{BootInstant, Clock},
    provider::{Api, Provider, Waiting},
};

/// Half of a grant's life: a call that begins within it still has time for its retries.
pub(super) const YOUNG: Duration = Duration::from_secs(90);

const DESCRIPTION: &str = "borealisd (removed within minutes)";

/// The right to call the Borealis API; the grant is removed when the last clone is dropped.
#[derive(Clone)]
pub struct Grant(Arc<Live>);

/// Makes grants and sees to it that each is removed.
pub(super) struct Grants {
    shared: Arc<Shared>,
    flight: SingleFlight<Grant>,
}

struct Shared {
    provider: Arc<Provider>,
    tracker: TaskTracker,
    runtime: Handle,
    young: Duration,
    live: Mutex<Weak<Live>>,
    /// Made, and not known to be removed.
    outstanding: AtomicUsize,
}

struct Live {
    bearer: SecretString,
    born: BootInstant,
    spoiled: AtomicBool,
    removal: Removal,
}

/// An authorization that exists at Heroku. Dropping it removes it.
struct Removal {
    id: String,
    token: Arc<Token>,
    shared: Arc<Shared>,
    /// Counted until its removal is, so that a stop waits for whoever still holds it.
    _counted: TaskTrackerToken,
}

// === impl Grant ===

impl Grant {
    /// For the `Authorization` header.
    pub fn bearer(&self) -> &SecretString {
        &self.0.bearer
    }

    /// The Borealis API refused it: nobody else is to try.
    pub fn spoil(&self) {
        self.0.spoiled.store(true, Ordering::Relaxed);
    }

    fn is_good_for(&self, token: &Token, young: Duration) -> bool {
        !self.0.spoiled.load(Ordering::Relaxed)
            && self.0.born.elapsed() < young
            && same(&self.0.removal.token, token)
    }
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant")
            .field("id", &self.0.removal.id)
            .finish_non_exhaustive()
    }
}

// === impl Grants ===

impl Grants {
    /// Removals run as tasks of `tracker`, in the runtime that this is called in.
    pub(super) fn new(provider: Arc<Provider>, tracker: TaskTracker, young: Duration) -> Self {
        Self {
            shared: Arc::new(Shared {
                provider,
                tracker,
                runtime: Handle::current(),
                young,
                live: Mutex::default(),
                outstanding: AtomicUsize::new(0),
            }),
            flight: SingleFlight::default(),
        }
    }

    /// How many exist at Heroku, by what is known here.
    pub(super) fn outstanding(&self) -> usize {
        self.shared.outstanding.load(Ordering::Relaxed)
    }

    /// A grant for `token`: one that a call holds at this moment, if it is young enough,
    /// else a new one. Dropping the future leaves nothing behind.
    pub(super) async fn get(&self, token: Arc<Token>) -> Result<Grant, Cause> {
        let shared = &self.shared;
        let live = || {
            let grant = Grant(locked(&shared.live).upgrade()?);
            grant.is_good_for(&token, shared.young).then_some(grant)
        };
        let make = || Arc::clone(shared).make(Arc::clone(&token));
        self.flight.join(&shared.tracker, live, make).await
    }
}

// === impl Shared ===

impl Shared {
    async fn make(self: Arc<Self>, token: Arc<Token>) -> Result<Grant, Cause> {
        let authorization = self
            .provider
            .heroku(&token.value, Waiting::Somebody)
            .create_authorization(DESCRIPTION)
            .await
            .map_err(|failure| failure.heroku_cause(&token.source))?;
        debug!(grant = authorization.id, "made");
        self.outstanding.fetch_add(1, Ordering::Relaxed);
        let removal = Removal {
            id: authorization.id,
            token,
            shared: Arc::clone(&self),
            _counted: self.tracker.token(),
        };
        let Some(access) = authorization.access_token else {
            return Err(Cause::ProviderUnavailable {
                api: Api::Heroku.as_str(),
                detail: "it made an authorization without a token".into(),
            });
        };
        let live = Arc::new(Live {
            bearer: access.token,
            born: Clock::now(),
            spoiled: AtomicBool::new(false),
            removal,
        });
        *locked(&self.live) = Arc::downgrade(&live);
        Ok(Grant(live))
    }

    async fn remove(self: Arc<Self>, id: String, token: Arc<Token>) {
        let removed = self
            .provider
            .heroku(&token.value, Waiting::Nobody)
            .delete_authorization(&id)
            .await;
        // One that can't be removed ends by itself.
        self.outstanding.fetch_sub(1, Ordering::Relaxed);
        match removed {
            Ok(()) => debug!(grant = id, "removed"),
            Err(failure) if failure.status() == Some(404) => debug!(grant = id, "gone already"),
            Err(failure) => warn!(
                grant = id,
                "can't remove a short-lived authorization, which ends by itself within 180 seconds: {failure}"
            ),
        }
    }
}

// === impl Removal ===

impl Drop for Removal {
    fn drop(&mut self) {
        let removal =
            Arc::clone(&self.shared).remove(std::mem::take(&mut self.id), Arc::clone(&self.token));
        self.shared.tracker.spawn_on(removal, &self.shared.runtime);
    }
}
