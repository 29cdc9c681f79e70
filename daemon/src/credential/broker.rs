//! What sessions ask for credentials: targets resolved, leases held, renewed and shared.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::warn;

use super::{
    api_client::ApiClient,
    database_key::DatabaseKey,
    grants::{Grant, YOUNG},
    leases::{DueCheck, Leases, Renewals, RotationInterval, Wanted},
    rotation_conflict::RotationConflict,
    single_flight::locked,
    targets::Targets,
    token::TokenSources,
};
use crate::{
    model::{Cause, DatabaseCredential, Generation, Lease, SshCredential},
    platform::clock::{self, BootInstant},
    provider::{Failure, Provider},
};

mod issue;
mod targets;
mod token;
mod verdicts;

/// A lease of the personal SSH user.
pub type SshLease = Arc<Lease<SshCredential>>;
/// A lease of a database user.
pub type DatabaseLease = Arc<Lease<DatabaseCredential>>;

/// What the broker takes from the configuration and the environment.
#[derive(Debug, Clone, Default)]
pub struct BrokerSettings {
    /// Where the user's token may be.
    pub tokens: TokenSources,
    /// How often personal credentials are renewed by the timer.
    pub rotation: RotationInterval,
}

/// Owns the leases, the grants and the token, and renewal: each lease has one timer, whoever is
/// refused says so with the generation, and a provider whose fresh credentials are refused is
/// asked ever more rarely. Nothing of it is ever on disk.
pub struct Broker {
    client: Arc<ApiClient>,
    ssh: Leases<String, SshCredential>,
    database: Leases<DatabaseKey, DatabaseCredential>,
    conflicts: Mutex<HashMap<DatabaseKey, RotationConflict>>,
    targets: Arc<Targets>,
    rotation: Mutex<RotationInterval>,
    tracker: TaskTracker,
    stop: CancellationToken,
}

// === impl Broker ===

impl Broker {
    /// Asks nobody before it is asked. To be called within the runtime that it is to work in.
    pub fn new(provider: Provider, settings: BrokerSettings) -> Arc<Self> {
        let tracker = TaskTracker::new();
        Arc::new(Self {
            client: Arc::new(ApiClient::new(
                Arc::new(provider),
                settings.tokens,
                tracker.clone(),
                YOUNG,
            )),
            ssh: Leases::new(tracker.clone()),
            database: Leases::new(tracker.clone()),
            conflicts: Mutex::default(),
            targets: Arc::default(),
            rotation: Mutex::new(settings.rotation),
            tracker,
            stop: CancellationToken::new(),
        })
    }

    /// A grant that the calls of the next moments share, so that none of them waits for one.
    ///
    /// # Errors
    /// Why there is none, which those calls will be told too.
    pub async fn grant_ahead(&self) -> Result<Grant, Cause> {
        self.client.grant().await
    }

    /// A lease of the personal SSH user that is newer than `after`; with `None` whatever is
    /// held and was not refused. Renewals are shared by all who ask, and go on when the future
    /// is dropped. A failure is the answer of all who wait and is forgotten with it.
    ///
    /// # Errors
    /// Why the provider issues none; at once, where the bastion refuses each that it issues.
    pub async fn ssh(&self, addon: &str, after: Option<Generation>) -> Result<SshLease, Cause> {
        self.ssh_lease(addon, after.map_or(Wanted::Any, Wanted::After))
            .await
    }

    /// A lease of a database user that is newer than `after`, as [`Broker::ssh`].
    ///
    /// # Errors
    /// Why the provider issues none; at once, where the database refuses each that it issues.
    pub async fn database(
        &self,
        key: &DatabaseKey,
        after: Option<Generation>,
    ) -> Result<DatabaseLease, Cause> {
        self.database_lease(key, after.map_or(Wanted::Any, Wanted::After))
            .await
    }

    /// A lease of a database user that was not refused, for a user who waits: also where those
    /// before were refused one after the other.
    ///
    /// # Errors
    /// Why the provider issues none.
    pub async fn database_for_user(&self, key: &DatabaseKey) -> Result<DatabaseLease, Cause> {
        self.database_lease(key, Wanted::Insisted).await
    }

    /// Both leases of a session, issued since the user `asked` for new ones: whoever asks at
    /// the same time shares them.
    ///
    /// # Errors
    /// Why the provider issues none.
    pub async fn rotate(
        &self,
        addon: &str,
        key: &DatabaseKey,
        asked: BootInstant,
    ) -> Result<(SshLease, DatabaseLease), Cause> {
        let wanted = Wanted::Since(asked);
        tokio::try_join!(
            self.ssh_lease(addon, wanted),
            self.database_lease(key, wanted)
        )
    }

    async fn ssh_lease(&self, addon: &str, wanted: Wanted) -> Result<SshLease, Cause> {
        let renew = || {
            let (client, addon) = (Arc::clone(&self.client), addon.to_owned());
            until_stopped(self.stop.clone(), async move {
                issue::ssh(&client, &addon).await
            })
        };
        let rotation = self.rotation().beside();
        self.ssh
            .get(&addon.to_owned(), wanted, rotation, renew)
            .await
    }

    async fn database_lease(
        &self,
        key: &DatabaseKey,
        wanted: Wanted,
    ) -> Result<DatabaseLease, Cause> {
        let rotation = match key {
            DatabaseKey::Personal { .. } => self.rotation(),
            // Reading it again wouldn't change it.
            DatabaseKey::App { .. } => RotationInterval::Never,
        };
        let renew = || {
            let (client, key) = (Arc::clone(&self.client), key.clone());
            let turn = match wanted {
                Wanted::After(after) => self.conflict_delay(&key, after),
                Wanted::Any | Wanted::Insisted | Wanted::Since(_) => Duration::ZERO,
            };
            until_stopped(self.stop.clone(), async move {
                // Even a sleep of nothing takes long enough to miss the grant of the key that is
                // asked for beside it.
                if !turn.is_zero() {
                    tokio::time::sleep(turn).await;
                }
                issue::database(&client, &key).await
            })
        };
        self.database.get(key, wanted, rotation, renew).await
    }

    /// The generation of a database lease that its timer says is due, now and whenever that
    /// changes.
    pub fn watch_due_database(&self, key: &DatabaseKey) -> watch::Receiver<Option<Generation>> {
        self.database.watch_due(key)
    }

    /// The same for an SSH lease.
    pub fn watch_due_ssh(&self, addon: &str) -> watch::Receiver<Option<Generation>> {
        self.ssh.watch_due(&addon.to_owned())
    }

    /// The right to check what is due, for one of those who could.
    pub fn begin_check_database(&self, key: &DatabaseKey) -> Option<DueCheck> {
        self.database.begin_check(key)
    }

    /// The same for an SSH lease.
    pub fn begin_check_ssh(&self, addon: &str) -> Option<DueCheck> {
        self.ssh.begin_check(&addon.to_owned())
    }

    /// Renews a database lease that is due and was found to work, and beside it the SSH lease
    /// of the add-on, where that will be due soon: with one grant.
    ///
    /// # Errors
    /// Why the provider issues none; it is due again later.
    pub async fn renew_due_database(
        &self,
        key: &DatabaseKey,
        addon: &str,
        due: DueCheck,
    ) -> Result<DatabaseLease, Cause> {
        let ssh = async {
            let held = self.current_ssh(addon)?;
            let near = |at| self.rotation().is_near(at, clock::timestamp());
            if !held.rotates_at.is_some_and(near) {
                return None;
            }
            // Its own timer tries again.
            self.ssh(addon, Some(held.generation)).await.ok()
        };
        let (lease, _) = tokio::join!(self.database(key, Some(due.generation)), ssh);
        if lease.is_ok() {
            due.settle();
        }
        lease
    }

    /// Renews an SSH lease that is due and was found to work.
    ///
    /// # Errors
    /// Why the provider issues none; it is due again later.
    pub async fn renew_due_ssh(&self, addon: &str, due: DueCheck) -> Result<SshLease, Cause> {
        let lease = self.ssh(addon, Some(due.generation)).await;
        if lease.is_ok() {
            due.settle();
        }
        lease
    }

    /// The SSH lease that is held, without asking the provider.
    pub fn current_ssh(&self, addon: &str) -> Option<SshLease> {
        self.ssh.current(&addon.to_owned())
    }

    /// The database lease that is held, without asking the provider.
    pub fn current_database(&self, key: &DatabaseKey) -> Option<DatabaseLease> {
        self.database.current(key)
    }

    /// The SSH lease that is held, now and whenever that changes.
    pub fn watch_ssh(&self, addon: &str) -> watch::Receiver<Option<SshLease>> {
        self.ssh.watch(&addon.to_owned())
    }

    /// The database lease that is held, now and whenever that changes.
    pub fn watch_database(&self, key: &DatabaseKey) -> watch::Receiver<Option<DatabaseLease>> {
        self.database.watch(key)
    }

    /// Drops the SSH lease held; generations go on where they were.
    pub fn forget_ssh(&self, addon: &str) {
        self.ssh.forget(&addon.to_owned());
    }

    /// Drops the database lease held; generations go on where they were.
    pub fn forget_database(&self, key: &DatabaseKey) {
        self.database.forget(key);
    }

    /// Takes new settings and reads the token again.
    ///
    /// # Errors
    /// [`Cause::NotLoggedIn`] where there is none; the settings hold all the same.
    pub async fn reload(&self, settings: BrokerSettings) -> Result<(), Cause> {
        let before = std::mem::replace(&mut *locked(&self.rotation), settings.rotation);
        if before != settings.rotation {
            self.ssh.reschedule(settings.rotation.beside(), |_| true);
            self.database.reschedule(settings.rotation, |key| {
                matches!(key, DatabaseKey::Personal { .. })
            });
        }
        self.client.tokens.reload(settings.tokens).await?;
        Ok(())
    }

    /// Runs an operation of the Borealis API: `call` gets a grant, which is removed when the
    /// last clone of it is dropped, and runs once more where the grant itself is refused.
    ///
    /// # Errors
    /// What `classify` makes of the call's failure, or why there is no grant.
    pub async fn with_grant<T, F>(
        &self,
        call: impl Fn(Grant) -> F,
        classify: impl FnOnce(Failure) -> Cause,
    ) -> Result<T, Cause>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        self.client.with_grant(call, classify).await
    }

    /// How many short-lived authorizations exist at Heroku, by what is known here.
    pub fn grants_outstanding(&self) -> usize {
        self.client.grants_outstanding()
    }

    /// How often the provider was asked for SSH users and for database users.
    pub fn renewals(&self) -> (Renewals, Renewals) {
        (self.ssh.renewals(), self.database.renewals())
    }

    /// The provider's APIs, for calls that need no lease.
    pub fn provider(&self) -> &Provider {
        &self.client.provider
    }

    /// Ends renewals and waits, at most for `limit`, until every grant is removed. Whoever
    /// asks from now on is told that the daemon stops.
    pub async fn drain(&self, limit: Duration) {
        self.stop.cancel();
        self.client.provider.shorten_backoff();
        self.tracker.close();
        if tokio::time::timeout(limit, self.tracker.wait())
            .await
            .is_err()
        {
            warn!(
                calls = self.tracker.len(),
                "stopping with short-lived authorizations not yet removed; they end by themselves within 180 seconds"
            );
        }
    }

    fn rotation(&self) -> RotationInterval {
        *locked(&self.rotation)
    }
}

/// Ends `work` when the daemon stops: what it holds is dropped, grants included.
async fn until_stopped<T>(
    stop: CancellationToken,
    work: impl Future<Output = Result<T, Cause>>,
) -> Result<T, Cause> {
    stop.run_until_cancelled(work)
        .await
        .unwrap_or(Err(Cause::DaemonStopping))
}
