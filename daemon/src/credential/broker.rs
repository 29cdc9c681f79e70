//! What sessions ask for credentials: targets resolved, leases held, renewed and shared.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use rand::RngExt as _;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

use super::{
    api_client::ApiClient,
    app_user,
    grants::{Grant, YOUNG},
    leases::{DueCheck, Leases, Renewals, RotationInterval, Wanted},
    lookup,
    rotation_conflict::{self, RotationConflict},
    single_flight::locked,
    standing::{Refusal, Standing},
    targets::Targets,
    token::{LookupResult, Token, TokenSources},
};
use crate::{
    model::{
        Access, Cause, Class, DatabaseCredential, Generation, Lease, Resolved, SshCredential,
        Target,
    },
    platform::clock::{self, BootInstant, Clock},
    provider::{Failure, Provider, Waiting, wire::Account},
};

/// A lease of the personal SSH user.
pub type SshLease = Arc<Lease<SshCredential>>;
/// A lease of a database user.
pub type DatabaseLease = Arc<Lease<DatabaseCredential>>;

/// Whose database user, of what, with which rights: what a lease is shared by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum DatabaseKey {
    /// The user's own role.
    Personal {
        /// The add-on's name.
        addon: String,
        /// Each of the two has a role of its own.
        access: Access,
    },
    /// The app's user, from its config variable.
    App {
        /// The app's name.
        app: String,
        /// The attachment's name.
        attachment: String,
        /// Reader or writer.
        access: Access,
    },
}

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

    /// What `target` is at the provider. May be dropped at any time.
    ///
    /// # Errors
    /// That nothing or too much fits, that the user isn't logged in, or that the Heroku API
    /// doesn't say.
    pub async fn resolve(&self, target: &Target) -> Result<Resolved, Cause> {
        let known = self.targets.last(target);
        let look_up = async |token: Arc<Token>| {
            lookup::resolve(&self.client.provider, &token, target, known.as_ref()).await
        };
        let resolved = self.client.with_token(look_up).await?;
        self.targets.learn(target, &resolved);
        Ok(resolved)
    }

    /// Where `target` leads now that led to `known`, as far as the Heroku API can be asked:
    /// `known` itself, where it can't, or where there were too many look-ups lately. Who asks
    /// for the same meanwhile shares the look-up, and it goes on when the future is dropped.
    ///
    /// # Errors
    /// That it leads nowhere, or no longer to one place.
    pub async fn look_again(&self, target: &Target, known: &Resolved) -> Result<Resolved, Cause> {
        if !self.targets.may_look() {
            return Ok(known.clone());
        }
        self.look_again_for_user(target, known).await
    }

    /// The same, however often: the user asks.
    ///
    /// # Errors
    /// As [`Broker::look_again`].
    pub async fn look_again_for_user(
        &self,
        target: &Target,
        known: &Resolved,
    ) -> Result<Resolved, Cause> {
        let look_up = || {
            let (client, targets) = (Arc::clone(&self.client), Arc::clone(&self.targets));
            let (target, known) = (target.clone(), known.clone());
            until_stopped(self.stop.clone(), async move {
                let ask = async |token: Arc<Token>| {
                    lookup::look_again(&client.provider, &token, &target, &known).await
                };
                let resolved = client.with_token(ask).await?;
                targets.learn(&target, &resolved);
                Ok(resolved)
            })
        };
        match self.targets.join(target, &self.tracker, look_up).await {
            Err(cause) if cause.kind().class == Class::NotFound => Err(cause),
            Err(cause) => {
                debug!(%target, %cause, "it isn't known whether the target leads elsewhere now");
                Ok(known.clone())
            }
            outcome => outcome,
        }
    }

    /// Takes note of what `target` led to under the daemon before.
    pub fn remember(&self, target: &Target, resolved: &Resolved) {
        self.targets.remember(target, resolved);
    }

    /// When `target` was last looked up.
    pub fn looked_up_at(&self, target: &Target) -> Option<BootInstant> {
        self.targets.looked_up_at(target)
    }

    /// What `target` was when this daemon last looked it up: good for getting ready, and no
    /// more, since it may be something else by now.
    pub fn last_resolved(&self, target: &Target) -> Option<Resolved> {
        self.targets.last(target)
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
                issue_ssh(&client, &addon).await
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
                issue_database(&client, &key).await
            })
        };
        self.database.get(key, wanted, rotation, renew).await
    }

    /// Takes note that the database refused a lease, before its successor is asked for; answers
    /// what that comes to: `cause`, or that fresh credentials are refused one after the other.
    /// More than one refusal of a generation counts once.
    pub fn database_refused(
        &self,
        key: &DatabaseKey,
        generation: Generation,
        cause: &Cause,
    ) -> Cause {
        let trouble = match cause {
            Cause::DatabaseRefusedLogin { sqlstate, message } => Cause::FreshCredentialsRefused {
                sqlstate: sqlstate.clone(),
                message: message.clone(),
            },
            other => other.clone(),
        };
        let refusal = self.database.refused(key, generation, &trouble);
        // The app's password is changed by nobody's renewal.
        if let (Refusal::TakenAway, DatabaseKey::Personal { addon, .. }) = (refusal, key) {
            self.note_conflict(key, addon, generation);
        }
        let is_broken = |standing: &Standing| standing.is_broken();
        if self.database.with_standing(key, is_broken) {
            trouble
        } else {
            cause.clone()
        }
    }

    fn note_conflict(&self, key: &DatabaseKey, addon: &str, generation: Generation) {
        let begins = locked(&self.conflicts)
            .entry(key.clone())
            .or_default()
            .refused(generation, Clock::now());
        if begins {
            warn!(
                addon,
                "the personal credentials are replaced from elsewhere again and again; another machine may use this add-on too"
            );
        }
    }

    /// Takes note that the database let a lease in.
    pub fn database_took(&self, key: &DatabaseKey, generation: Generation) {
        self.database.accepted(key, generation);
    }

    /// Whether a database has let this very lease in before.
    pub fn is_proven(&self, key: &DatabaseKey, generation: Generation) -> bool {
        self.database
            .with_standing(key, |standing| standing.is_accepted(generation))
    }

    /// The database lease that is held, where somebody has taken it away: the database let it in
    /// once, and refuses it now. It is renewed when a client or the user asks for it, and by
    /// nothing else.
    pub fn taken_away(&self, key: &DatabaseKey) -> Option<DatabaseLease> {
        let held = self.current_database(key)?;
        let is_taken_away = self.database.with_standing(key, |standing| {
            standing.is_refused(held.generation) && standing.is_accepted(held.generation)
        });
        is_taken_away.then_some(held)
    }

    /// Why nobody is let in with the credentials that the provider issues, now and whenever
    /// that changes.
    pub fn watch_trouble(&self, key: &DatabaseKey) -> watch::Receiver<Option<Cause>> {
        self.database.watch_trouble(key)
    }

    /// Why the provider isn't asked for another database user for now.
    pub fn held_back(&self, key: &DatabaseKey) -> Option<Cause> {
        self.database.held_back(key)
    }

    /// Takes note that the bastion refused a key: nobody knocks with it again.
    pub fn ssh_refused(&self, addon: &str, generation: Generation, cause: &Cause) {
        self.ssh.refused(&addon.to_owned(), generation, cause);
    }

    /// Takes note that the bastion let a key in.
    pub fn ssh_took(&self, addon: &str, generation: Generation) {
        self.ssh.accepted(&addon.to_owned(), generation);
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

    /// What another machine of the user seems to fight over with this one: a
    /// [`Cause::CredentialsContested`] for each add-on.
    pub fn contested(&self) -> Vec<Cause> {
        let now = Clock::now();
        let mut contested: Vec<(String, usize)> = locked(&self.conflicts)
            .iter()
            .filter_map(|(key, contest)| match key {
                DatabaseKey::Personal { addon, .. } => {
                    Some((addon.clone(), contest.contested(now)?))
                }
                DatabaseKey::App { .. } => None,
            })
            .collect();
        contested.sort();
        contested.dedup_by(|later, first| {
            let same = later.0 == first.0;
            if same {
                first.1 += later.1;
            }
            same
        });
        contested
            .into_iter()
            .map(|(addon, times)| Cause::CredentialsContested {
                addon,
                times,
                within: rotation_conflict::WINDOW,
            })
            .collect()
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

    /// Whose token it is, and where that was found.
    ///
    /// # Errors
    /// That there is none, that it was refused, or that the Heroku API doesn't say.
    pub async fn account(&self) -> Result<(Account, String), Cause> {
        let provider = &self.client.provider;
        self.client
            .with_token(async |token| {
                let account = provider
                    .heroku(&token.value, Waiting::Somebody)
                    .account()
                    .await
                    .map_err(|failure| failure.heroku_cause(&token.source))?;
                Ok((account, token.source.clone()))
            })
            .await
    }

    /// Whose token `token` is, whatever the places hold. `named` is what a refusal calls it.
    ///
    /// # Errors
    /// That it was refused, or that the Heroku API doesn't say.
    pub async fn account_of(&self, token: &SecretString, named: &str) -> Result<Account, Cause> {
        self.client
            .provider
            .heroku(token, Waiting::Somebody)
            .account()
            .await
            .map_err(|failure| failure.heroku_cause(named))
    }

    /// Reads the token again, since it may have changed where that leaves no trace. Who waits
    /// for another one is told.
    ///
    /// # Errors
    /// [`Cause::NotLoggedIn`] where there is none.
    pub async fn look_for_token(&self) -> Result<(), Cause> {
        self.client.tokens.look_again().await.map(drop)
    }

    /// Where the token of the moment was found, or why there is none; `None` while nobody has
    /// asked for one. Asks nobody itself.
    pub fn known_token(&self) -> Option<Result<String, Cause>> {
        self.client.tokens.known()
    }

    /// What every place where a token may be holds.
    pub async fn survey_tokens(&self) -> Vec<LookupResult> {
        self.client.tokens.survey().await
    }

    /// Grows when another token is found, and at each reload.
    pub fn token_changed(&self) -> watch::Receiver<u64> {
        self.client.tokens.changed()
    }

    /// Looks every few seconds whether a file that may hold the token has changed, so that
    /// who waits for a log-in is told by [`Broker::token_changed`]. Ends when it is dropped.
    pub async fn follow_token(&self) -> Infallible {
        self.client.tokens.follow().await
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

    /// Runs an operation of the Heroku API with the user's token, and once more where it is
    /// refused and another one can be read.
    ///
    /// # Errors
    /// The call's, or that there is no token.
    pub async fn with_token<T, F>(&self, call: impl Fn(Arc<Token>) -> F) -> Result<T, Cause>
    where
        F: Future<Output = Result<T, Cause>>,
    {
        self.client.with_token(call).await
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

    /// How long another machine is left its turn before the successor of `after` is asked for.
    fn conflict_delay(&self, key: &DatabaseKey, after: Generation) -> Duration {
        let jitter = rand::rng().random_range(0.0..1.0);
        locked(&self.conflicts)
            .get(key)
            .map_or(Duration::ZERO, |contest| {
                contest.pause(after, Clock::now(), jitter)
            })
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

async fn issue_ssh(client: &ApiClient, addon: &str) -> Result<SshCredential, Cause> {
    let call = async |grant: Grant| {
        let provider = &client.provider;
        let borealis = provider.borealis(grant.bearer(), addon, Waiting::Somebody);
        borealis.personal_ssh_user().await
    };
    client
        .with_grant(call, |failure| failure.addon_cause(addon))
        .await
}

async fn issue_database(
    client: &ApiClient,
    key: &DatabaseKey,
) -> Result<DatabaseCredential, Cause> {
    match key {
        DatabaseKey::Personal { addon, access } => {
            let call = async |grant: Grant| {
                let provider = &client.provider;
                let borealis = provider.borealis(grant.bearer(), addon, Waiting::Somebody);
                borealis.personal_database_user(*access).await
            };
            client
                .with_grant(call, |failure| failure.addon_cause(addon))
                .await
        }
        DatabaseKey::App {
            app,
            attachment,
            access,
        } => read_app_user(client, app, attachment, *access).await,
    }
}

async fn read_app_user(
    client: &ApiClient,
    app: &str,
    attachment: &str,
    access: Access,
) -> Result<DatabaseCredential, Cause> {
    let vars = client
        .with_token(async |token| {
            let heroku = client.provider.heroku(&token.value, Waiting::Somebody);
            heroku
                .config_vars(app)
                .await
                .map_err(|failure| match failure.status() {
                    Some(404) => Cause::AppNotFound {
                        app: app.to_owned(),
                    },
                    _ => failure.heroku_cause(&token.source),
                })
        })
        .await?;
    let names = app_user::variables(attachment);
    let (variable, value) = names
        .iter()
        .find_map(|name| Some((name, Some(vars.get(name)?))))
        .unwrap_or((&names[0], None));
    value
        .and_then(|value| app_user::parse(value.expose_secret(), access))
        .ok_or_else(|| Cause::ConfigVariableInvalid {
            app: app.to_owned(),
            variable: variable.clone(),
        })
}
