//! What the provider does when it is asked: each operation changes the `world` and brings
//! PostgreSQL and the bastion in line with it. The HTTP APIs, the fault controls and
//! "another machine of the same user" all go through here.

use std::{
    process::Stdio,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use russh::keys::PublicKey;

use super::{
    SandboxError,
    bastion::Bastion,
    catalog::AddonState,
    database::{Access, AddonDatabase, Login},
    issue,
    postgres::Postgres,
    pulse::Pulse,
    world::{Addon, Borealis, Integration, World},
};

/// Reads and restores dumps, and owns nothing for long.
const RESTORER: &str = "sandbox_restorer";

/// The provider's operations.
#[derive(Debug)]
pub(crate) struct Provider {
    world: Mutex<World>,
    pub(crate) postgres: Arc<Postgres>,
    pub(crate) bastion: Arc<Bastion>,
    pub(crate) pulse: Pulse,
    bastion_seen_at: (String, u16),
    keys_kept: usize,
    provisioning_time: Duration,
}

/// An SSH user with a fresh key.
pub(crate) struct SshUser {
    pub(crate) username: String,
    pub(crate) private_key: String,
}

/// A data integration that was asked for.
#[derive(Debug)]
pub(crate) struct IntegrationRequest {
    pub(crate) name: String,
    pub(crate) key: PublicKey,
    pub(crate) access: Access,
}

/// A new add-on that was asked for.
#[derive(Debug)]
pub(crate) struct AddonRequest {
    pub(crate) app: String,
    pub(crate) plan: String,
    pub(crate) attachment: String,
    pub(crate) source: Option<String>,
}

// === impl Provider ===

impl Provider {
    pub(crate) fn new(
        world: World,
        postgres: Arc<Postgres>,
        bastion: Arc<Bastion>,
        pulse: Pulse,
        bastion_seen_at: (String, u16),
        keys_kept: usize,
        provisioning_time: Duration,
    ) -> Self {
        Self {
            world: Mutex::new(world),
            postgres,
            bastion,
            pulse,
            bastion_seen_at,
            keys_kept,
            provisioning_time,
        }
    }

    /// Where persons are told that the bastion is.
    pub(crate) fn bastion_address(&self) -> (String, u16) {
        self.bastion_seen_at.clone()
    }

    /// The state. Not to be held across anything that waits.
    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The add-on's database, made if it is needed for the first time.
    ///
    /// # Errors
    /// When there is no such add-on, or the server isn't running.
    pub(crate) async fn database(&self, addon: &str) -> Result<Arc<AddonDatabase>, SandboxError> {
        let (database, logins) = self.with(addon, |b| (b.database.clone(), b.app_logins()))?;
        database.ensure(&self.postgres, &logins).await?;
        Ok(database)
    }

    /// Gives the user's personal role a new password, and lets it log in. The old password
    /// stops working for new connections.
    ///
    /// # Errors
    /// When there is no such add-on, or the server isn't running.
    pub(crate) async fn personal_db_user(
        &self,
        addon: &str,
        email: &str,
        access: Access,
    ) -> Result<Login, SandboxError> {
        let database = self.database(addon).await?;
        let _turn = database.turn.lock().await;
        let login = {
            let mut world = self.world();
            let personal = world.personal(addon, email).ok_or_else(|| unknown(addon))?;
            Login {
                username: personal.role(access).to_owned(),
                password: world.new_password("personal database password"),
                access,
            }
        };
        database.enable(&self.postgres, &login).await?;
        self.with_mut(addon, |b| b.personal_passwords_issued += 1)?;
        Ok(login)
    }

    /// Makes a new key for the user's personal SSH user.
    ///
    /// # Errors
    /// When there is no such add-on.
    pub(crate) fn personal_ssh_user(
        &self,
        addon: &str,
        email: &str,
    ) -> Result<SshUser, SandboxError> {
        let personal = self
            .world()
            .personal(addon, email)
            .ok_or_else(|| unknown(addon))?;
        let scope = format!("personal {addon} {email}");
        let user = self.issue_key(&personal.ssh, &scope, self.keys_kept)?;
        self.with_mut(addon, |b| b.personal_keys_issued += 1)?;
        Ok(user)
    }

    /// The app's own SSH user, with the key that it keeps.
    ///
    /// # Errors
    /// When there is no such add-on.
    pub(crate) fn app_ssh_user(&self, addon: &str) -> Result<SshUser, SandboxError> {
        let ssh = self.with(addon, |b| b.app_ssh.clone())?;
        if let Some(private_key) = ssh.private_key {
            return Ok(SshUser {
                username: self.bastion.login_name(&ssh.username),
                private_key,
            });
        }
        let user = self.issue_key(&ssh.username, &format!("app {addon}"), 1)?;
        self.with_mut(addon, |b| {
            b.app_ssh.private_key = Some(user.private_key.clone())
        })?;
        Ok(user)
    }

    /// An admin's reset: new users for the app, personal roles disabled and cut off.
    ///
    /// # Errors
    /// When there is no such add-on, or the server isn't running.
    pub(crate) async fn reset_users(&self, addon: &str) -> Result<(), SandboxError> {
        let database = self.database(addon).await?;
        let _turn = database.turn.lock().await;
        let old = self.with(addon, Borealis::app_logins)?;
        let new = self.world().new_app_users();
        for login in [&new.read_only, &new.read_write] {
            database.enable(&self.postgres, login).await?;
        }
        let personal = self.with_mut(addon, |b| {
            b.app_users = new;
            b.resets += 1;
            b.personal_roles()
        })?;
        database
            .remove(&self.postgres, &old.map(|l| l.username))
            .await?;
        database.disable(&self.postgres, &personal).await
    }

    /// Changes what the add-on is doing. Revoking locks personal users out.
    ///
    /// # Errors
    /// When there is no such add-on, or the server isn't running.
    pub(crate) async fn set_state(
        &self,
        addon: &str,
        state: AddonState,
    ) -> Result<(), SandboxError> {
        let roles = self.with_mut(addon, |b| {
            b.state = state;
            b.personal_roles()
        })?;
        if state == AddonState::Revoked && !roles.is_empty() {
            let database = self.database(addon).await?;
            let _turn = database.turn.lock().await;
            database.disable(&self.postgres, &roles).await?;
        }
        Ok(())
    }

    /// Registers a data integration; the caller has seen that the name is free.
    ///
    /// # Errors
    /// When there is no such add-on, or the server isn't running.
    pub(crate) async fn add_integration(
        &self,
        addon: &str,
        request: IntegrationRequest,
    ) -> Result<(Integration, Login), SandboxError> {
        let database = self.database(addon).await?;
        let _turn = database.turn.lock().await;
        let login = Login {
            username: issue::role_name(),
            password: self.world().new_password("integration database password"),
            access: request.access,
        };
        let integration = Integration {
            ssh_username: self.bastion.login_name(&issue::role_name()),
            db_username: login.username.clone(),
            name: request.name,
            access: request.access,
            created_at: issue::now(),
        };
        database.enable(&self.postgres, &login).await?;
        self.bastion.authorize(
            &integration.ssh_username,
            &integration_scope(addon, &integration.name),
            request.key,
            1,
        )?;
        self.with_mut(addon, |b| b.integrations.push(integration.clone()))?;
        Ok((integration, login))
    }

    /// Removes a data integration; whether there was one.
    ///
    /// # Errors
    /// When there is no such add-on, or the server isn't running.
    pub(crate) async fn remove_integration(
        &self,
        addon: &str,
        name: &str,
    ) -> Result<bool, SandboxError> {
        let database = self.database(addon).await?;
        let _turn = database.turn.lock().await;
        let found = self.with(addon, |b| {
            b.integrations.iter().find(|i| i.name == name).cloned()
        })?;
        let Some(integration) = found else {
            return Ok(false);
        };
        database
            .remove(&self.postgres, &[integration.db_username])
            .await?;
        self.bastion.forget(&integration_scope(addon, name))?;
        self.with_mut(addon, |b| b.integrations.retain(|i| i.name != name))?;
        Ok(true)
    }

    /// Makes a new add-on, which is provisioning for a while and then available, with a
    /// copy of the source's data where there is a source.
    pub(crate) fn create_addon(self: &Arc<Self>, request: AddonRequest) -> Addon {
        let addon = self.world().add_borealis(
            &request.app,
            &request.plan,
            &request.attachment,
            request.source.clone(),
        );
        let provider = Arc::clone(self);
        let name = addon.name.clone();
        tokio::spawn(async move {
            tokio::time::sleep(provider.provisioning_time).await;
            match provider.provision(&name, request.source.as_deref()).await {
                Ok(()) => tracing::info!(addon = name, "provisioned"),
                Err(error) => {
                    // As the provider does it: what can't be provisioned goes away.
                    tracing::error!(addon = name, %error, "provisioning was cancelled");
                    provider.world().remove_addon(&name);
                }
            }
            provider.pulse.beat();
        });
        addon
    }

    async fn provision(&self, addon: &str, source: Option<&str>) -> Result<(), SandboxError> {
        let database = self.database(addon).await?;
        if let Some(source) = source {
            let source = self.database(source).await?;
            self.copy_data(source.name(), database.name()).await?;
            database.adopt(&self.postgres, RESTORER).await?;
        }
        self.with_mut(addon, |b| b.state = AddonState::Available)
    }

    async fn copy_data(&self, from: &str, to: &str) -> Result<(), SandboxError> {
        self.postgres
            .admin("postgres")
            .await?
            .batch_execute(&format!(
                "do $$ begin create role {RESTORER} superuser login; \
                 exception when duplicate_object then null; end $$"
            ))
            .await
            .map_err(SandboxError::sql("making a role for the restore"))?;
        let mut dump = self.postgres.client_program("pg_dump", RESTORER);
        dump.args(["--no-owner", "--no-privileges", "--dbname", from])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut load = self.postgres.client_program("psql", RESTORER);
        load.args(["--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1"])
            .args(["--single-transaction", "--dbname", to])
            .stdout(Stdio::null());
        tokio::task::spawn_blocking(move || {
            let mut dumping = dump.spawn().map_err(SandboxError::io("starting pg_dump"))?;
            if let Some(output) = dumping.stdout.take() {
                load.stdin(output);
            }
            let loaded = load.output().map_err(SandboxError::io("running psql"));
            let dumped = dumping
                .wait()
                .map_err(SandboxError::io("running pg_dump"))?;
            let loaded = loaded?;
            if dumped.success() && loaded.status.success() {
                return Ok(());
            }
            Err(SandboxError::failed(format!(
                "copying the data failed: {}",
                String::from_utf8_lossy(&loaded.stderr).trim()
            )))
        })
        .await
        .map_err(SandboxError::failed)?
    }

    fn issue_key(&self, username: &str, scope: &str, keep: usize) -> Result<SshUser, SandboxError> {
        let username = self.bastion.login_name(username);
        let key = issue::key().map_err(SandboxError::failed)?;
        let private_key = issue::key_text(&key).map_err(SandboxError::failed)?;
        self.world().note_secret("SSH private key", &private_key);
        self.bastion
            .authorize(&username, scope, key.public_key().clone(), keep)?;
        Ok(SshUser {
            username,
            private_key,
        })
    }

    /// Reads an add-on of ours.
    ///
    /// # Errors
    /// When there is no such add-on.
    pub(crate) fn with<T>(
        &self,
        addon: &str,
        read: impl FnOnce(&Borealis) -> T,
    ) -> Result<T, SandboxError> {
        self.world()
            .borealis(addon)
            .map(read)
            .ok_or_else(|| unknown(addon))
    }

    /// Changes an add-on of ours.
    ///
    /// # Errors
    /// When there is no such add-on.
    pub(crate) fn with_mut<T>(
        &self,
        addon: &str,
        change: impl FnOnce(&mut Borealis) -> T,
    ) -> Result<T, SandboxError> {
        let changed = self
            .world()
            .borealis_mut(addon)
            .map(change)
            .ok_or_else(|| unknown(addon));
        self.pulse.beat();
        changed
    }
}

fn integration_scope(addon: &str, name: &str) -> String {
    format!("integration {addon} {name}")
}

fn unknown(addon: &str) -> SandboxError {
    SandboxError::Unknown {
        what: "add-on of ours",
        name: addon.to_owned(),
    }
}
