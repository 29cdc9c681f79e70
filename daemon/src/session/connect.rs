//! One attempt to bring a session up, or to give it new credentials: look-up, leases, SSH, and
//! a log-in that proves the whole way to the database, where that isn't left for afterwards.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt as _, future::BoxFuture};
use tokio::{sync::watch, time::timeout};
use tokio_util::task::AbortOnDropHandle;

use super::Spec;
use crate::{
    credential::{Broker, DatabaseKey, DatabaseLease},
    model::{Access, Cause, Generation, HostPort, Resolved, Retry, Role, Target},
    platform::{clock::BootInstant, network},
    postgres::UpstreamTls,
    proxy,
    ssh::Tunnel,
    tunnels::{Level, Pools, SharedPool},
};

/// How long an attempt that has come through waits to hear whether the target still leads
/// there. A provider that is slow, or away, keeps nobody from a way that works.
const LOOK_UP_GRACE: Duration = Duration::from_secs(1);

/// How long the renewal that a user asks for may take, until it is in use: the provider's own
/// limit for a call, and some time for the way.
const ROTATION_LIMIT: Duration = Duration::from_secs(55);

/// What an attempt needs to know of its session.
#[derive(Clone)]
pub(super) struct Attempt {
    pub(super) broker: Arc<Broker>,
    pub(super) pools: Arc<Pools>,
    pub(super) spec: Spec,
    pub(super) upstream_tls: UpstreamTls,
    /// Whether a lease that the database has let in before needs no proof before the session
    /// is up.
    pub(super) skip_verification: bool,
    /// Whether the target was looked up just now.
    pub(super) is_looked_up: bool,
    /// Whether the user asks for it: credentials are renewed also where those before were
    /// refused one after the other.
    pub(super) is_asked_for: bool,
    /// Tells the user what it is at.
    pub(super) step: watch::Sender<String>,
}

/// What a successful attempt found.
pub(super) struct Found {
    pub(super) pool: SharedPool,
    /// Whether the pool has a tunnel.
    pub(super) level: watch::Receiver<Level>,
    pub(super) bastion: HostPort,
    pub(super) resolved: Resolved,
    pub(super) lease: DatabaseLease,
    /// The log-in that proves the way, where it was left for later.
    pub(super) proof: Option<BoxFuture<'static, Result<(), Cause>>>,
    /// Whether it is known that the target leads there now.
    pub(super) is_looked_up: bool,
}

/// Makes attempts: the edge at which tests of the driver say how each ends.
pub(super) trait MakeAttempts: Send + Sync + 'static {
    /// As [`Attempt::run`].
    fn attempt(&self, attempt: Attempt) -> BoxFuture<'static, Result<Found, Cause>>;

    /// As [`Attempt::rotate`].
    fn rotation(
        &self,
        attempt: Attempt,
        asked: BootInstant,
    ) -> BoxFuture<'static, Result<Found, Cause>>;
}

/// Makes them with the provider, the bastion and the database.
pub(super) struct Attempts;

/// A tunnel to where a target led last time, for when it still leads there: dialled while that
/// is looked up again, or there already. Dropped, it is given up, unless a session uses it.
pub(crate) struct EarlyDial {
    _pool: SharedPool,
    _dialling: AbortOnDropHandle<()>,
}

/// Key of the database lease of a session.
pub(crate) fn database_key(spec: &Spec, resolved: &Resolved) -> DatabaseKey {
    key_of(spec.role, spec.access, resolved)
}

/// Key of the database lease for a role and an access.
pub(crate) fn key_of(role: Role, access: Access, resolved: &Resolved) -> DatabaseKey {
    match role {
        Role::Personal => DatabaseKey::Personal {
            addon: resolved.addon.clone(),
            access,
        },
        Role::App => DatabaseKey::App {
            app: resolved.app.clone(),
            attachment: resolved.attachment.clone(),
            access,
        },
    }
}

// === impl EarlyDial ===

impl EarlyDial {
    /// Begins where the provider need not be asked for any credential; else there is nothing
    /// to be gained.
    pub(crate) fn begin(
        broker: &Broker,
        pools: &Pools,
        target: &Target,
        role: Role,
        access: Access,
    ) -> Option<Self> {
        let resolved = broker.last_resolved(target)?;
        broker.current_database(&key_of(role, access, &resolved))?;
        broker.current_ssh(&resolved.addon)?;
        let pool = pools.of(&resolved.addon);
        let dialling = Arc::clone(&pool);
        let dialling = tokio::spawn(async move {
            // The session asks again, and is told why there is none.
            let _ = dialling.connect(None).await;
        });
        Some(Self {
            _pool: pool,
            _dialling: AbortOnDropHandle::new(dialling),
        })
    }
}

// === impl Attempts ===

impl MakeAttempts for Attempts {
    fn attempt(&self, attempt: Attempt) -> BoxFuture<'static, Result<Found, Cause>> {
        attempt.run().boxed()
    }

    fn rotation(
        &self,
        attempt: Attempt,
        asked: BootInstant,
    ) -> BoxFuture<'static, Result<Found, Cause>> {
        attempt.rotate(asked).boxed()
    }
}

// === impl Found ===

impl Found {
    fn new(pool: SharedPool, tunnel: &Tunnel, resolved: Resolved, lease: DatabaseLease) -> Self {
        Self {
            level: pool.level(),
            pool,
            bastion: tunnel.bastion().clone(),
            resolved,
            lease,
            proof: None,
            is_looked_up: false,
        }
    }
}

// === impl Attempt ===

impl Attempt {
    /// Brings the session up. Dropping the future abandons it; requests to the provider that
    /// are under way end by themselves, and their answers are kept.
    ///
    /// # Errors
    /// The cause of the first step that failed; `NoNetwork`, with nothing tried, where there
    /// is none.
    pub(super) async fn run(self) -> Result<Found, Cause> {
        if let Some(host) = self.first_host()
            && !network::leads_to(&host).await
        {
            return Err(Cause::NoNetwork);
        }
        let Some(known) = self.spec.resolved.clone() else {
            self.at("looking up the add-on");
            let resolved = self.broker.resolve(&self.spec.target).await?;
            return self.way(resolved, true).await;
        };
        if self.is_looked_up {
            return self.way(known, true).await;
        }
        // Nothing would come of it, and it would cost calls.
        if !self.is_asked_for
            && let Some(cause) = self.broker.held_back(&database_key(&self.spec, &known))
        {
            return Err(cause);
        }
        self.way_of_known(known).await
    }

    /// Goes the way that is known while it is looked up whether the target still leads there;
    /// where it doesn't, the other one.
    async fn way_of_known(&self, known: Resolved) -> Result<Found, Cause> {
        let looking = self.broker.look_again(&self.spec.target, &known);
        let going = self.way(known.clone(), false);
        tokio::pin!(looking, going);
        let went = tokio::select! {
            looked = &mut looking => {
                let resolved = looked?;
                if resolved != known {
                    return self.way(resolved, true).await;
                }
                let mut found = going.await?;
                found.is_looked_up = true;
                return Ok(found);
            }
            went = &mut going => went,
        };
        match timeout(LOOK_UP_GRACE, looking).await {
            Ok(looked) => {
                let resolved = looked?;
                if resolved != known {
                    return self.way(resolved, true).await;
                }
                let mut found = went?;
                found.is_looked_up = true;
                Ok(found)
            }
            Err(_) => went,
        }
    }

    async fn way(&self, resolved: Resolved, is_looked_up: bool) -> Result<Found, Cause> {
        let key = database_key(&self.spec, &resolved);
        self.at("asking for credentials");
        let pool = self.pools.of(&resolved.addon);
        // Side by side: the bastion is dialled while the database user is still being asked for.
        let tunnel = async {
            if self.broker.current_ssh(&resolved.addon).is_some() {
                self.at("connecting to the bastion");
            }
            pool.connect(None).await
        };
        let lease = async {
            match self.broker.taken_away(&key) {
                Some(lease) => Ok(lease),
                None if self.is_asked_for => self.broker.database_for_user(&key).await,
                None => self.broker.database(&key, None).await,
            }
        };
        let (tunnel, lease) = tokio::try_join!(tunnel, lease)?;
        let is_proven = self.broker.is_proven(&key, lease.generation);
        let proof = if self.skip_verification && is_proven {
            let (broker, tls) = (Arc::clone(&self.broker), self.upstream_tls.clone());
            let (tunnel, lease) = (tunnel.clone(), Arc::clone(&lease));
            let proof = async move { verify(&broker, &key, &tunnel, &lease, &tls).await };
            Some(proof.boxed())
        } else {
            match self.verify(&key, &tunnel, &lease).await {
                // Somebody has taken it away. A client that connects asks for the next, the
                // clock does not.
                Err(_) if self.broker.taken_away(&key).is_some() => {}
                outcome => outcome?,
            }
            None
        };
        Ok(Found {
            proof,
            is_looked_up,
            ..Found::new(pool, &tunnel, resolved, lease)
        })
    }

    /// Asks the provider for new credentials in place of those that were held when the user
    /// `asked`, and brings them into use.
    ///
    /// # Errors
    /// Why they are not in use, within [`ROTATION_LIMIT`].
    pub(super) async fn rotate(self, asked: BootInstant) -> Result<Found, Cause> {
        let Ok(outcome) = timeout(ROTATION_LIMIT, self.rotate_unbounded(asked)).await else {
            return Err(Cause::RotationTimedOut {
                waited: ROTATION_LIMIT,
                step: self.step.borrow().clone(),
            });
        };
        outcome
    }

    async fn rotate_unbounded(&self, asked: BootInstant) -> Result<Found, Cause> {
        self.at("looking up the add-on");
        let target = &self.spec.target;
        let resolved = match &self.spec.resolved {
            Some(known) => self.broker.look_again_for_user(target, known).await?,
            None => self.broker.resolve(target).await?,
        };
        let key = database_key(&self.spec, &resolved);
        self.at("asking for credentials");
        let (ssh, lease) = self.broker.rotate(&resolved.addon, &key, asked).await?;
        match self.take_into_use(&resolved, ssh.generation, lease).await {
            // Another machine may have been quicker: once more, as an attempt does.
            Err(cause) if cause.retry() == Retry::NewLease => {
                self.at("asking for credentials");
                let lease = self.broker.database(&key, None).await?;
                self.take_into_use(&resolved, ssh.generation, lease).await
            }
            outcome => outcome,
        }
    }

    async fn take_into_use(
        &self,
        resolved: &Resolved,
        ssh: Generation,
        lease: DatabaseLease,
    ) -> Result<Found, Cause> {
        let pool = self.pools.of(&resolved.addon);
        self.at("connecting to the bastion");
        let tunnel = pool.connect(Some(ssh)).await?;
        let key = database_key(&self.spec, resolved);
        self.verify(&key, &tunnel, &lease).await?;
        Ok(Found {
            is_looked_up: true,
            ..Found::new(pool, &tunnel, resolved.clone(), lease)
        })
    }

    /// Logs in once, and tells the broker what came of it.
    async fn verify(
        &self,
        key: &DatabaseKey,
        tunnel: &Tunnel,
        lease: &DatabaseLease,
    ) -> Result<(), Cause> {
        self.at("logging in to the database");
        verify(&self.broker, key, tunnel, lease, &self.upstream_tls).await
    }

    /// Whom it needs first: the bastion, where the key to it is held. Nobody, where a proxy
    /// stands before the API.
    fn first_host(&self) -> Option<String> {
        let held = self.spec.resolved.as_ref();
        let held = held.and_then(|resolved| self.broker.current_ssh(&resolved.addon));
        match held {
            Some(lease) => Some(lease.credential.bastion.host.clone()),
            None if network::has_proxy() => None,
            None => {
                let api = self.broker.provider().endpoints().heroku();
                api.host_str().map(str::to_owned)
            }
        }
    }

    fn at(&self, step: &str) {
        self.step.send_replace(step.to_owned());
    }
}

/// Logs in once with a lease, and tells the broker what came of it.
///
/// # Errors
/// Why nobody gets in, in the broker's words where the credential is refused.
pub(super) async fn verify(
    broker: &Broker,
    key: &DatabaseKey,
    tunnel: &Tunnel,
    lease: &DatabaseLease,
    upstream_tls: &UpstreamTls,
) -> Result<(), Cause> {
    match proxy::probe(tunnel, lease, upstream_tls).await {
        Ok(()) => {
            broker.database_took(key, lease.generation);
            Ok(())
        }
        Err(cause @ Cause::DatabaseRefusedLogin { .. }) => {
            Err(broker.database_refused(key, lease.generation, &cause))
        }
        Err(cause) => Err(cause),
    }
}
