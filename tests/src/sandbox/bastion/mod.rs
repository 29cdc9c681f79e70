//! The SSH bastion in its two kinds, behind one face: which keys it takes, which host key
//! it shows and which one the provider's API claims, and what can be done to it.

mod embedded;
mod keyring;
mod line;
mod sshd;

use std::{
    path::Path,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use russh::keys::{PrivateKey, PublicKey};
use serde::{Deserialize, Serialize};

pub use self::sshd::{SshdSetting, SshdSettings};
use self::{embedded::EmbeddedBastion, keyring::KeyRing, sshd::SshdBastion};
use super::{Options, SandboxError, issue, pulse::Pulse};

/// Which program is the bastion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BastionKind {
    /// A small server inside the sandbox.
    #[default]
    Embedded,
    /// The system's OpenSSH server (Debian: package openssh-server).
    Sshd,
}

/// What can be done to the bastion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BastionAction {
    /// Closes the listener and every connection.
    Stop,
    /// Listens again, on the port it had.
    Start,
    /// Closes every connection, and takes new ones.
    Cut,
    /// Resets every connection (RST), and takes new ones. With sshd the same as `Cut`.
    Reset,
    /// Goes silent: connections stay, new ones are accepted, nothing is said or heard.
    Freeze,
    /// The connections that there are go silent; new ones are served.
    FreezeConnections,
    /// Ends the silence.
    Thaw,
    /// Opens channels of every kind to each client that is connected, as no bastion has reason
    /// to. Without effect on sshd.
    OpenChannels,
    /// Leaves requests for a channel unanswered, as sshd does for two minutes where the
    /// database's host drops packets. Without effect on sshd.
    HoldChannels,
    /// Answers them, those that wait first.
    ReleaseChannels,
    /// Shows another host key to new connections; the API still claims the old one.
    ChangeHostKey,
    /// Makes the API claim the key that is really shown.
    PublishHostKey,
    /// Shows the first host key again, and claims it.
    RestoreHostKey,
    /// Refuses every user's key.
    RefuseKeys,
    /// Takes issued keys again.
    AcceptKeys,
}

/// What the bastion has seen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BastionStats {
    /// Connections accepted since the start.
    pub connections: u64,
    /// Connections open now.
    pub open_connections: Option<u64>,
    /// Connections closed at once because too many hadn't logged in (`MaxStartups`); none with
    /// the embedded bastion.
    pub dropped: u64,
    /// Log-ins that succeeded.
    pub logins: u64,
    /// Exchanges of session keys, of which each connection has one at its beginning; known of
    /// an sshd with `LogLevel DEBUG1`.
    pub key_exchanges: u64,
    /// Keys that were refused; unknown with sshd.
    pub refused_keys: Option<u64>,
    /// Channels to the database opened since the start; unknown with sshd.
    pub channels: Option<u64>,
    /// Channels open now; unknown with sshd.
    pub open_channels: Option<u64>,
    /// Requests for anything but the database; unknown with sshd.
    pub refused_channels: Option<u64>,
    /// Channels that it opened to its clients and that they took; unknown with sshd.
    pub taken_by_clients: Option<u64>,
    /// Channels that it opened to its clients and that they refused; unknown with sshd.
    pub refused_by_clients: Option<u64>,
}

/// The bastion.
#[derive(Debug)]
pub(crate) struct Bastion {
    server: Server,
    keys: KeyRing,
    /// Held while the file of the keys is written.
    writing: Mutex<()>,
    host_keys: Mutex<HostKeys>,
    /// Actions come one after the other.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
enum Server {
    Embedded(EmbeddedBastion),
    Sshd(Box<SshdBastion>),
}

/// Public host keys as OpenSSH writes them, and the private one of the beginning.
#[derive(Debug)]
struct HostKeys {
    first: PrivateKey,
    shown: String,
    claimed: String,
}

// === impl Bastion ===

impl Bastion {
    /// Starts a bastion that forwards to the database's port on 127.0.0.1 only.
    ///
    /// # Errors
    /// When the port is taken, or sshd is missing or doesn't start.
    pub(crate) async fn start(
        options: &Options,
        home: &Path,
        database_port: u16,
        pulse: Pulse,
    ) -> Result<Self, SandboxError> {
        let address = options.address;
        let first = issue::key().map_err(SandboxError::failed)?;
        let shown = public_text(first.public_key())?;
        let keys = KeyRing::new();
        let server = match options.bastion {
            BastionKind::Embedded => Server::Embedded(
                EmbeddedBastion::start(first.clone(), keys.clone(), address, database_port, pulse)
                    .await?,
            ),
            BastionKind::Sshd => Server::Sshd(Box::new(
                SshdBastion::start(home, &first, address, database_port, options.sshd.clone())
                    .await?,
            )),
        };
        Ok(Self {
            server,
            keys,
            writing: Mutex::default(),
            host_keys: Mutex::new(HostKeys {
                first,
                claimed: shown.clone(),
                shown,
            }),
            turn: tokio::sync::Mutex::new(()),
        })
    }

    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        match &self.server {
            Server::Embedded(server) => server.port(),
            Server::Sshd(server) => server.port(),
        }
    }

    /// What the provider's API says the host key is: `<format> <base64>`.
    pub(crate) fn claimed_host_key(&self) -> String {
        self.host_keys().claimed.clone()
    }

    /// The SSH user for somebody whom the provider would call `wanted`: OpenSSH's server
    /// knows only users of the system.
    pub(crate) fn login_name(&self, wanted: &str) -> String {
        match &self.server {
            Server::Embedded(_) => wanted.to_owned(),
            Server::Sshd(server) => server.login_name().to_owned(),
        }
    }

    /// Takes `key` for `login` from now on; of the keys of the same `scope` only the newest
    /// `keep` stay valid.
    ///
    /// # Errors
    /// When sshd's file of keys can't be written.
    pub(crate) fn authorize(
        &self,
        login: &str,
        scope: &str,
        key: PublicKey,
        keep: usize,
    ) -> Result<(), SandboxError> {
        self.keys.add(login, scope, key, keep);
        self.keys_changed()
    }

    /// Forgets every key of the scope.
    ///
    /// # Errors
    /// When sshd's file of keys can't be written.
    pub(crate) fn forget(&self, scope: &str) -> Result<(), SandboxError> {
        self.keys.remove(scope);
        self.keys_changed()
    }

    /// Makes the line to it so long, round trip; without effect on sshd.
    pub(crate) fn lengthen(&self, round_trip: Duration) {
        match &self.server {
            Server::Embedded(server) => server.lengthen(round_trip),
            Server::Sshd(_) => {}
        }
    }

    /// Does it, and returns when it is done.
    ///
    /// # Errors
    /// When a stopped bastion can't come back.
    pub(crate) async fn act(&self, action: BastionAction) -> Result<(), SandboxError> {
        let _turn = self.turn.lock().await;
        match action {
            BastionAction::ChangeHostKey => {
                let key = issue::key().map_err(SandboxError::failed)?;
                self.show(&key).await
            }
            BastionAction::RestoreHostKey => {
                let first = self.host_keys().first.clone();
                if self.host_keys().shown != public_text(first.public_key())? {
                    self.show(&first).await?;
                }
                let mut keys = self.host_keys();
                keys.claimed = keys.shown.clone();
                Ok(())
            }
            BastionAction::PublishHostKey => {
                let mut keys = self.host_keys();
                keys.claimed = keys.shown.clone();
                Ok(())
            }
            BastionAction::RefuseKeys => {
                self.keys.refuse(true);
                self.keys_changed()
            }
            BastionAction::AcceptKeys => {
                self.keys.refuse(false);
                self.keys_changed()
            }
            action => match &self.server {
                Server::Embedded(server) => server.act(action).await,
                Server::Sshd(server) => server.act(action).await,
            },
        }
    }

    /// What it has seen.
    pub(crate) fn stats(&self) -> BastionStats {
        match &self.server {
            Server::Embedded(server) => server.stats(),
            Server::Sshd(server) => server.stats(),
        }
    }

    /// Ends it for good.
    pub(crate) fn end(&self) {
        match &self.server {
            Server::Embedded(server) => server.end(),
            Server::Sshd(server) => server.end(),
        }
    }

    async fn show(&self, key: &PrivateKey) -> Result<(), SandboxError> {
        match &self.server {
            Server::Embedded(server) => server.show(key.clone()),
            Server::Sshd(server) => server.show(key).await?,
        }
        self.host_keys().shown = public_text(key.public_key())?;
        Ok(())
    }

    fn keys_changed(&self) -> Result<(), SandboxError> {
        // One after the other: a file written meanwhile would lack the newest key.
        let _turn = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        match &self.server {
            Server::Embedded(_) => Ok(()),
            Server::Sshd(server) => server.write_keys(&self.keys.accepted()),
        }
    }

    fn host_keys(&self) -> std::sync::MutexGuard<'_, HostKeys> {
        self.host_keys
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// `<format> <base64>`, without a comment.
fn public_text(key: &PublicKey) -> Result<String, SandboxError> {
    let mut key = key.clone();
    key.set_comment("");
    Ok(key
        .to_openssh()
        .map_err(SandboxError::failed)?
        .trim()
        .to_owned())
}
