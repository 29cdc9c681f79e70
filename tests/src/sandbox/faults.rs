//! Everything that can be done to a running sandbox, for tests that embed it; the control
//! API maps onto this.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::runtime::Handle;

use super::{
    Access, AddonState, BastionAction, Fault, FaultId, LoggedRequest, PostgresAction, Running,
    SandboxError, Secret, Stats, provider::Provider,
};

/// A handle to a running sandbox. Its calls work from any runtime.
#[derive(Debug, Clone)]
pub struct Faults {
    running: Arc<Running>,
    runtime: Handle,
}

// === impl Faults ===

impl Faults {
    pub(super) fn new(running: Arc<Running>, runtime: Handle) -> Self {
        Self { running, runtime }
    }

    pub(super) fn running(&self) -> &Running {
        &self.running
    }

    /// Puts a fault of the HTTP APIs in force. Of several that fit a request the oldest
    /// decides; a delay comes on top of any other.
    pub fn add(&self, fault: Fault) -> FaultId {
        self.running.gate.add(fault)
    }

    /// Takes a fault back; whether it was in force. Requests that hang in it go on.
    pub fn remove(&self, id: FaultId) -> bool {
        self.running.gate.remove(id)
    }

    /// The faults in force.
    pub fn in_force(&self) -> BTreeMap<FaultId, Fault> {
        self.running.gate.faults()
    }

    /// Everything works again: faults are taken back, the bastion and PostgreSQL run and let
    /// people in, the first host key is shown and claimed, keys and tokens are accepted. Add-ons keep
    /// their state.
    ///
    /// # Errors
    /// When something stopped can't be started.
    pub async fn clear(&self) -> Result<(), SandboxError> {
        self.running.gate.clear();
        self.restore_token();
        self.postgres(PostgresAction::Start).await?;
        self.postgres(PostgresAction::AcceptLogins).await?;
        for action in [
            BastionAction::Thaw,
            BastionAction::ReleaseChannels,
            BastionAction::AcceptKeys,
            BastionAction::RestoreHostKey,
            BastionAction::Start,
        ] {
            self.bastion(action).await?;
        }
        Ok(())
    }

    /// Does something to the bastion; returns when it is done.
    ///
    /// # Errors
    /// When a stopped bastion can't come back.
    pub async fn bastion(&self, action: BastionAction) -> Result<(), SandboxError> {
        self.run(move |provider| async move {
            let done = provider.bastion.act(action).await;
            provider.pulse.beat();
            done
        })
        .await
    }

    /// Makes the line to the embedded bastion so long, there and back.
    pub fn lengthen_line(&self, round_trip: Duration) {
        self.running.provider.bastion.lengthen(round_trip);
    }

    /// Does something to PostgreSQL; returns when it is done.
    ///
    /// # Errors
    /// When it doesn't start.
    pub async fn postgres(&self, action: PostgresAction) -> Result<(), SandboxError> {
        self.run(move |provider| async move {
            let done = provider.postgres.act(action).await;
            provider.pulse.beat();
            done
        })
        .await
    }

    /// Terminates the connections to an add-on's database, or to all; how many there were.
    ///
    /// # Errors
    /// When there is no such add-on, or PostgreSQL isn't running.
    pub async fn terminate_connections(&self, what: Option<&str>) -> Result<u64, SandboxError> {
        let what = what.map(str::to_owned);
        self.run(move |provider| async move {
            let database = match what {
                Some(what) => Some(find(&provider, &what)?),
                None => None,
            };
            let database = match database {
                Some(addon) => Some(provider.database(&addon).await?.name().to_owned()),
                None => None,
            };
            provider
                .postgres
                .admin("postgres")
                .await?
                .execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity
                     where backend_type = 'client backend' and pid <> pg_backend_pid()
                       and datname = coalesce($1, datname)",
                    &[&database],
                )
                .await
                .map_err(SandboxError::sql("terminating connections"))
        })
        .await
    }

    /// Another machine of the first user asks for database credentials: the old passwords
    /// stop working for new connections. Both roles where no access is named. Returns the
    /// roles' names.
    ///
    /// # Errors
    /// When there is no such add-on, or PostgreSQL isn't running.
    pub async fn rotate_password_elsewhere(
        &self,
        what: &str,
        access: Option<Access>,
    ) -> Result<Vec<String>, SandboxError> {
        let what = what.to_owned();
        self.run(move |provider| async move {
            let (addon, email) = (find(&provider, &what)?, first_user(&provider));
            let mut roles = Vec::new();
            for each in [Access::ReadOnly, Access::ReadWrite] {
                if access.is_none_or(|wanted| wanted == each) {
                    let login = provider.personal_db_user(&addon, &email, each).await?;
                    roles.push(login.username);
                }
            }
            Ok(roles)
        })
        .await
    }

    /// Another machine of the first user asks for SSH credentials, so many times: keys
    /// beyond the number that is kept stop working.
    ///
    /// # Errors
    /// When there is no such add-on.
    pub async fn rotate_key_elsewhere(&self, what: &str, times: u32) -> Result<(), SandboxError> {
        let what = what.to_owned();
        self.run(move |provider| async move {
            let (addon, email) = (find(&provider, &what)?, first_user(&provider));
            for _ in 0..times {
                provider.personal_ssh_user(&addon, &email)?;
            }
            Ok(())
        })
        .await
    }

    /// An admin resets all users of an add-on.
    ///
    /// # Errors
    /// When there is no such add-on, or PostgreSQL isn't running.
    pub async fn reset_users(&self, what: &str) -> Result<(), SandboxError> {
        let what = what.to_owned();
        self.run(move |provider| async move {
            let addon = find(&provider, &what)?;
            provider.reset_users(&addon).await
        })
        .await
    }

    /// Changes what an add-on is doing.
    ///
    /// # Errors
    /// When there is no such add-on, or PostgreSQL isn't running.
    pub async fn set_state(&self, what: &str, state: AddonState) -> Result<(), SandboxError> {
        let what = what.to_owned();
        self.run(move |provider| async move {
            let addon = find(&provider, &what)?;
            provider.set_state(&addon, state).await
        })
        .await
    }

    /// Somebody detaches `app`'s attachment, and attaches another add-on under its name.
    ///
    /// # Errors
    /// When there is no such attachment, or no such add-on.
    pub fn reattach(&self, app: &str, attachment: &str, addon: &str) -> Result<(), SandboxError> {
        self.running
            .provider
            .world()
            .reattach(app, attachment, addon)
    }

    /// Heroku refuses the first user's token from now on.
    pub fn revoke_token(&self) {
        self.set_token_works(false);
    }

    /// Heroku takes the first user's token again.
    pub fn restore_token(&self) {
        self.set_token_works(true);
    }

    /// All short-lived authorizations are over at once.
    pub fn expire_grants(&self) {
        self.running.provider.world().grants.expire_all();
    }

    /// Forgets the requests seen so far.
    pub fn forget_requests(&self) {
        self.running.gate.forget_log();
    }

    pub(super) fn environment(&self) -> Vec<(String, String)> {
        self.running.environment()
    }

    pub(super) fn stats(&self) -> Stats {
        self.running.stats()
    }

    pub(super) fn requests(&self) -> Vec<LoggedRequest> {
        self.running.gate.log()
    }

    pub(super) fn secrets(&self) -> Vec<Secret> {
        self.running.provider.world().secrets.clone()
    }

    pub(super) async fn admin_config(
        &self,
        what: &str,
    ) -> Result<tokio_postgres::Config, SandboxError> {
        let what = what.to_owned();
        self.run(move |provider| async move {
            let database = provider.database(&find(&provider, &what)?).await?;
            Ok(provider.postgres.admin_config(database.name()))
        })
        .await
    }

    pub(super) async fn wait_for(
        &self,
        patience: Duration,
        wanted: impl Fn(&Stats) -> bool,
    ) -> Result<Stats, SandboxError> {
        let mut beats = self.running.pulse.listen();
        let satisfied = async {
            loop {
                beats.mark_unchanged();
                let stats = self.stats();
                if wanted(&stats) {
                    return stats;
                }
                // Of what sshd does nothing tells but its log: that is looked at again.
                let _ = tokio::time::timeout(Duration::from_millis(100), beats.changed()).await;
            }
        };
        tokio::time::timeout(patience, satisfied)
            .await
            .map_err(|_| {
                SandboxError::failed(format!(
                    "what was waited for did not come within {} s; now it is {:?}",
                    patience.as_secs(),
                    self.stats()
                ))
            })
    }

    fn set_token_works(&self, works: bool) {
        if let Some(user) = self.running.provider.world().users.first_mut() {
            user.token_works = works;
        }
    }

    /// Runs on the sandbox's own runtime: listeners and connections live on the one that
    /// they were made on.
    async fn run<T, F>(
        &self,
        work: impl FnOnce(Arc<Provider>) -> F + Send + 'static,
    ) -> Result<T, SandboxError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, SandboxError>> + Send,
    {
        let provider = Arc::clone(&self.running.provider);
        self.runtime
            .spawn(async move { work(provider).await })
            .await
            .map_err(SandboxError::failed)?
    }
}

fn find(provider: &Provider, what: &str) -> Result<String, SandboxError> {
    provider.world().find_borealis(what)
}

fn first_user(provider: &Provider) -> String {
    let world = provider.world();
    world
        .users
        .first()
        .map(|user| user.email.clone())
        .unwrap_or_default()
}
