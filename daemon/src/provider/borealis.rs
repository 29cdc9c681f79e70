//! The Borealis add-on API, below `/heroku/resources/{add-on}`: one function for each call.
//!
//! Every function fails with a [`Failure`]; dropping its future abandons the call, which
//! the API may still carry out.

use reqwest::Method;
use secrecy::SecretString;
use serde_json::{Value, json};

use super::{
    failure::Failure,
    http::{Call, Http},
    patience::Waiting,
    wire::{DatabaseUser, SshUser},
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
