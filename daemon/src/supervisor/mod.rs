//! Owns the set of sessions: names, ports, what is declared, what is remembered.
//!
//! What is decided is decided in [`set`], a value without IO. The actor around it takes
//! commands and events, one at a time, and does what the set says: on tasks of their own
//! where that waits for a disk, `/proc`, a password's derivation or the network. Every event
//! says which session it is about; one about a session that has gone is dropped.

mod actor;
mod binding;
mod client_entries;
mod event;
mod find;
mod handle;
mod live;
mod opening;
mod parts;
mod pending;
mod perform;
mod prepare;
mod rotation;
mod set;
mod snapshot;

use std::time::Duration;

use tokio::{sync::oneshot, time::Instant};
use tokio_util::sync::CancellationToken;

pub use actor::{Setup, spawn};
pub use handle::{Handle, Use};
pub use live::LiveSettings;
pub use set::{Choices, SessionId};
pub use snapshot::{Address, SessionSnapshot, Snapshot};

use crate::{
    config::Config,
    model::{Cause, Expiry, SessionName, Target},
};

/// A session that somebody wants.
#[derive(Debug, Clone)]
pub struct OpenRequest {
    /// What to reach.
    pub target: Target,
    /// What it is to be, as far as that was said.
    pub choices: Choices,
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
    /// This one, if it is still there.
    Session(SessionId),
}

/// What came of the renewal of one session's credentials.
#[derive(Debug, Clone)]
pub struct Rotated {
    /// The session after it.
    pub view: SessionSnapshot,
    /// Why it has none.
    pub outcome: Result<(), Cause>,
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
    /// A sentence for each change that does not reach everything that runs.
    pub later: Vec<String>,
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
        reply: Reply<Vec<Rotated>>,
    },
    Find {
        target: Target,
        reply: Reply<SessionSnapshot>,
    },
    Refresh {
        id: SessionId,
        reply: oneshot::Sender<()>,
    },
    Ping {
        reply: Reply<()>,
    },
    /// Answered once libpq's files say what was published.
    Flush {
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

#[cfg(test)]
mod tests;
