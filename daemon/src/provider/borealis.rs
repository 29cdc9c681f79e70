//! The Borealis add-on API, below `/heroku/resources/{add-on}`: one function for each call.
//!
//! Every function fails with a [`Failure`]; dropping its future abandons the call, which
//! the API may still carry out.

use reqwest::Method;
use secrecy::SecretString;
use serde_json::{Value, json};

use super::{
    failure::Failure,
    http::{Call, Http, Repeat},
    retry_policy::Waiting,
    wire::{
        DatabaseUser, SshUser,
        addon::{
            AddonInfo, DatabaseUsers, Extension, Extensions, InstalledExtension, Integration,
            IntegrationCredentials, Integrations, NewIntegration, RestoreCapabilities,
            RestoreToken, StartedUpgrade, Upgrade, Users,
        },
    },
};
use crate::model::{Access, DatabaseCredential, HostPort, SshCredential};

const SSH_PORT: u16 = 22;
const POSTGRES_PORT: u16 = 5432;

/// The API, for one add-on and with a short-lived authorization.
#[derive(Clone, Copy)]
pub struct Borealis<'a> {
    pub(super) http: &'a Http,
    pub(super) bearer: &'a SecretString,
    pub(super) addon: &'a str,
    pub(super) waiting: Waiting,
}

// === impl Borealis ===

impl Borealis<'_> {
    /// `POST …/personal-ssh-users`: a new key for the personal SSH user.
    pub async fn personal_ssh_user(&self) -> Result<SshCredential, Failure> {
        let call = self.call(Method::POST, &["personal-ssh-users"], None);
        let user: SshUser = self.http.json(&call).await?;
        Ok(user.into())
    }

    /// `POST …/personal-db-users`: a new password for the personal role, which ends the one
    /// before at once. Doing it twice does no harm: the last one holds.
    pub async fn personal_database_user(
        &self,
        access: Access,
    ) -> Result<DatabaseCredential, Failure> {
        let body = json!({ "enableWriteAccess": access == Access::ReadWrite });
        let call = self.call(Method::POST, &["personal-db-users"], Some(body));
        let user: DatabaseUser = self.http.json(&call).await?;
        Ok(user.into())
    }

    /// `GET …`: what the add-on is like.
    pub async fn info(&self) -> Result<AddonInfo, Failure> {
        self.http.json(&self.get(&[])).await
    }

    /// `GET …/pg-extensions`: those that are installed.
    pub async fn extensions(&self) -> Result<Vec<Extension>, Failure> {
        let list: Extensions = self.http.json(&self.get(&["pg-extensions"])).await?;
        Ok(list.extensions)
    }

    /// `POST …/pg-extensions`.
    pub async fn install_extension(&self, name: &str) -> Result<InstalledExtension, Failure> {
        let body = json!({ "pgExtensionName": name });
        let call = self.call(Method::POST, &["pg-extensions"], Some(body));
        self.http.json(&call.once()).await
    }

    /// `DELETE …/pg-extensions/{name}`.
    pub async fn remove_extension(&self, name: &str) -> Result<(), Failure> {
        let call = self.call(Method::DELETE, &["pg-extensions", name], None);
        self.http.done(&call.once()).await
    }

    /// `GET …/db-users`.
    pub async fn users(&self) -> Result<Vec<DatabaseUsers>, Failure> {
        let list: Users = self.http.json(&self.get(&["db-users"])).await?;
        Ok(list.users)
    }

    /// `DELETE …/db-users/credentials`: new names and passwords for the app's users, an end
    /// to the personal ones. Twice would cut connections twice.
    pub async fn reset_users(&self) -> Result<(), Failure> {
        let call = self.call(Method::DELETE, &["db-users", "credentials"], None);
        self.http.done(&call.once()).await
    }

    /// `GET …/data-integrations`.
    pub async fn integrations(&self) -> Result<Vec<Integration>, Failure> {
        let list: Integrations = self.http.json(&self.get(&["data-integrations"])).await?;
        Ok(list.integrations)
    }

    /// `POST …/data-integrations`.
    pub async fn register_integration(
        &self,
        new: &NewIntegration<'_>,
    ) -> Result<IntegrationCredentials, Failure> {
        let body = json!({
            "integrationName": new.name,
            "sshPublicKey": new.ssh_public_key,
            "enableWriteAccess": new.access == Access::ReadWrite,
        });
        let call = self.call(Method::POST, &["data-integrations"], Some(body));
        self.http.json(&call.once()).await
    }

    /// `DELETE …/data-integrations/{name}`.
    pub async fn remove_integration(&self, name: &str) -> Result<(), Failure> {
        let call = self.call(Method::DELETE, &["data-integrations", name], None);
        self.http.done(&call.once()).await
    }

    /// `GET …/restore-capabilities`.
    pub async fn restore_capabilities(&self) -> Result<RestoreCapabilities, Failure> {
        self.http.json(&self.get(&["restore-capabilities"])).await
    }

    /// `POST …/restore-tokens`: the right to make an add-on from this one.
    pub async fn restore_token(&self) -> Result<SecretString, Failure> {
        let call = self.call(Method::POST, &["restore-tokens"], None);
        let token: RestoreToken = self.http.json(&call).await?;
        Ok(token.restore_token)
    }

    /// `GET …/pg-version-upgrades`.
    pub async fn upgrade(&self) -> Result<Upgrade, Failure> {
        self.http.json(&self.get(&["pg-version-upgrades"])).await
    }

    /// `POST …/pg-version-upgrades`: starts the upgrade to the next major version.
    pub async fn start_upgrade(&self) -> Result<StartedUpgrade, Failure> {
        let call = self.call(Method::POST, &["pg-version-upgrades"], None);
        self.http.json(&call.once()).await
    }

    /// `DELETE …/pg-version-upgrades/current`.
    pub async fn cancel_upgrade(&self) -> Result<(), Failure> {
        let call = self.call(Method::DELETE, &["pg-version-upgrades", "current"], None);
        self.http.done(&call.once()).await
    }

    fn get<'b>(&'b self, path: &[&'b str]) -> Call<'b> {
        self.call(Method::GET, path, None)
    }

    fn call<'b>(&'b self, method: Method, path: &[&'b str], body: Option<Value>) -> Call<'b> {
        let mut whole = vec!["heroku", "resources", self.addon];
        whole.extend(path);
        Call {
            method,
            path: whole,
            bearer: self.bearer,
            body,
            waiting: self.waiting,
            leaves: None,
            repeat: Repeat::Freely,
        }
    }
}

impl From<SshUser> for SshCredential {
    fn from(user: SshUser) -> Self {
        Self {
            bastion: HostPort {
                host: user.ssh_host,
                port: user.ssh_port.unwrap_or(SSH_PORT),
            },
            username: user.ssh_username,
            private_key: user.ssh_private_key,
            host_key: user.public_ssh_host_key,
        }
    }
}

impl From<DatabaseUser> for DatabaseCredential {
    fn from(user: DatabaseUser) -> Self {
        Self {
            server: HostPort {
                host: user.db_host,
                port: user.db_port.unwrap_or(POSTGRES_PORT),
            },
            database: user.db_name,
            username: user.db_username,
            password: user.db_password,
        }
    }
}
