//! Owns the set of sessions: names, ports, what is declared, what is remembered. One loop
//! takes commands and events, never waits for network or disk, and publishes the whole
//! snapshot with a revision after each change.

mod actor;
mod closing;
mod declared;
mod entry;
mod find;
mod handle;
mod live;
mod opening;
mod snapshot;

use std::time::Duration;

use tokio::{sync::oneshot, time::Instant};
use tokio_util::sync::CancellationToken;

pub use actor::{Setup, spawn};
pub use handle::{Handle, Use};
pub use live::LiveSettings;
pub use snapshot::{Address, SessionSnapshot, Snapshot};

use crate::{
    config::Config,
    model::{Access, Cause, Expiry, Mode, Role, SessionName, Target},
};

/// A session that somebody wants.
#[derive(Debug, Clone)]
pub struct OpenRequest {
    /// What to reach.
    pub target: Target,
    /// Whose database user.
    pub role: Role,
    /// What it may do.
    pub access: Access,
    /// Who logs in.
    pub mode: Mode,
    /// A port that must be this one.
    pub port: Option<u16>,
    /// A name that must be this one.
    pub name: Option<SessionName>,
    /// When it closes by itself.
    pub expiry: Option<Expiry>,
    /// How long it is to live.
    pub lifetime: Lifetime,
}

/// How long a session is to live.
#[derive(Debug, Clone)]
pub enum Lifetime {
    /// Until it is closed; survives restarts.
    Kept,
    /// Until its last user goes; this one goes when the token is cancelled.
    Transient(CancellationToken),
}

/// A session that was opened, or was open.
#[derive(Debug, Clone)]
pub struct Opened {
    /// As it is now.
    pub view: SessionSnapshot,
    /// Whether it is new.
    pub created: bool,
}

/// Which sessions a command is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// Every one.
    All,
    /// Those that these name.
    Targets(Vec<Target>),
}

/// What a reload of the config changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// Declared now, and not before.
    pub opened: Vec<String>,
    /// No longer declared.
    pub closed: Vec<String>,
    /// Declared differently.
    pub changed: Vec<String>,
}

type Reply<T> = oneshot::Sender<Result<T, Cause>>;

/// What the supervisor can be asked.
#[derive(Debug)]
pub(crate) enum Command {
    Open {
        request: OpenRequest,
        reply: Reply<Opened>,
    },
    Close {
        selection: Selection,
        grace: Duration,
        reply: Reply<Vec<SessionSnapshot>>,
    },
    Rotate {
        selection: Selection,
        reply: Reply<Vec<SessionName>>,
    },
    Find {
        target: Target,
        reply: Reply<SessionSnapshot>,
    },
    Refresh {
        name: SessionName,
        reply: oneshot::Sender<()>,
    },
    Ping {
        reply: Reply<()>,
    },
    Reload {
        config: Box<Config>,
        reply: Reply<Reloaded>,
    },
    Stop {
        deadline: Instant,
        reply: oneshot::Sender<()>,
    },
}
