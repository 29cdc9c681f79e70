//! What others see of the sessions: plain values, published whole.

use std::{path::PathBuf, sync::Arc};

use jiff::Timestamp;
use secrecy::SecretString;

use crate::{
    model::{Access, Cause, Mode, Role, SessionName, Target},
    proxy::Counters,
    session::Status,
    session::machine::Phase,
};

pub use crate::proxy::Address;

/// All sessions at one time.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Grows with each change.
    pub revision: u64,
    /// Ordered by name.
    pub sessions: Vec<SessionSnapshot>,
    /// What the daemon's user should know beside the sessions' own errors.
    pub problems: Vec<Cause>,
}

/// One session at one time. Counters are live.
#[derive(Debug, Clone)]
pub struct SessionSnapshot {
    /// Its name.
    pub name: SessionName,
    /// What was typed.
    pub target: Target,
    /// Whose database user.
    pub role: Role,
    /// What it may do.
    pub access: Access,
    /// Who logs in.
    pub mode: Mode,
    /// Where clients find it; `None` while its port is somebody else's.
    pub address: Option<Address>,
    /// The port it has or wants.
    pub port: u16,
    /// Where its socket is or would be.
    pub socket_dir: PathBuf,
    /// What it is doing.
    pub status: Status,
    /// When it closes by itself.
    pub expires_at: Option<Timestamp>,
    /// Declared in the config file.
    pub declared: bool,
    /// Ends with its last user.
    pub transient: bool,
    /// What passed through it.
    pub counters: Arc<Counters>,
    /// What a client logs in with; `None` where that is not known yet.
    pub password: Option<SecretString>,
}

// === impl SessionSnapshot ===

impl SessionSnapshot {
    /// The user that a client logs in as; `None` where that is not known yet.
    pub fn user(&self) -> Option<&str> {
        match self.mode {
            Mode::Managed => Some(self.name.as_str()),
            Mode::Passthrough => self
                .status
                .credential
                .as_ref()
                .map(|held| held.username.as_str()),
        }
    }

    /// Whether it has come to where waiting changes nothing soon: up, failed, or refused for
    /// what waiting does not change.
    pub fn is_settled(&self) -> bool {
        match self.status.phase {
            Phase::Up => true,
            Phase::Failed | Phase::Closing => true,
            Phase::Opening | Phase::Reconnecting => self
                .status
                .last_error
                .as_ref()
                .is_some_and(Cause::is_for_good),
        }
    }
}
