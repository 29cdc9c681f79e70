//! What others see of the sessions: plain values, published whole.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};

use super::{
    parts::Parts,
    set::{Actual, Entry, SessionId, Wanted},
};
use crate::{
    credential::Broker,
    model::{Access, Cause, Mode, Role, SessionName, Target},
    proxy::{Counters, sockets},
    session::machine::Phase,
    session::{Status, database_key},
};

pub use crate::proxy::Address;

/// All sessions at one time.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Grows with each change, and with nothing else.
    pub revision: u64,
    /// Ordered by name.
    pub sessions: Vec<SessionSnapshot>,
    /// What the daemon's user should know beside the sessions' own errors.
    pub problems: Vec<Cause>,
    /// The daemon ends: nothing that is waited for comes any more.
    pub is_stopping: bool,
}

/// One session at one time. Counters are live, and no part of what makes two equal.
#[derive(Debug, Clone)]
pub struct SessionSnapshot {
    /// Tells it from others of its name, earlier and later.
    pub id: SessionId,
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

/// Where a snapshot gets what the set doesn't have.
pub(super) struct Sources<'a> {
    pub(super) runtime_dir: &'a Path,
    /// Has the password of passthrough sessions.
    pub(super) broker: &'a Broker,
}

/// A session as it is now.
pub(super) fn view(entry: &Entry, parts: Option<&Parts>, sources: &Sources<'_>) -> SessionSnapshot {
    let spec = &entry.spec;
    let session = parts.and_then(|parts| parts.session.as_ref());
    let mut status = match session {
        Some(session) => session.status.borrow().clone(),
        None => status_without_driver(entry),
    };
    if let Wanted::Closed { at } = entry.wanted
        && status.phase != Phase::Closing
    {
        (status.phase, status.since) = (Phase::Closing, at);
    }
    let password = match (spec.mode, &status.resolved) {
        (Mode::Managed, _) => parts
            .and_then(|parts| parts.login.as_ref())
            .map(|login| login.password.clone()),
        (Mode::Passthrough, Some(resolved)) => sources
            .broker
            .current_database(&database_key(spec, resolved))
            .map(|lease| lease.credential.password.clone()),
        (Mode::Passthrough, None) => None,
    };
    SessionSnapshot {
        id: entry.id,
        name: spec.name.clone(),
        target: spec.target.clone(),
        role: spec.role,
        access: spec.access,
        mode: spec.mode,
        address: session.map(|session| session.address.clone()),
        port: entry.port.or(entry.own_port).unwrap_or_default(),
        socket_dir: sockets(sources.runtime_dir).join(spec.name.as_str()),
        status,
        expires_at: spec.expiry.map(|expiry| expiry.at),
        declared: entry.declared,
        transient: !entry.is_kept(),
        counters: session
            .map(|session| Arc::clone(&session.counters))
            .unwrap_or_default(),
        password,
    }
}

/// Of a session that has no listeners yet, or can't have them.
fn status_without_driver(entry: &Entry) -> Status {
    let mut status = Status::opening(&entry.spec);
    match &entry.actual {
        Actual::Binding(None) | Actual::Running => status.since = entry.began,
        Actual::Binding(Some((cause, since))) | Actual::Unbound(cause, since) => {
            status.phase = Phase::Failed;
            status.since = *since;
            status.last_error = Some(cause.clone());
        }
    }
    status
}

// === impl SessionSnapshot ===

#[cfg(test)]
impl SessionSnapshot {
    /// A managed one to look at, that is up.
    pub(crate) fn for_tests(number: u64, name: &str) -> Self {
        let name = SessionName::parse(name).unwrap();
        let now = crate::platform::clock::timestamp();
        Self {
            id: SessionId::for_tests(number),
            target: Target::App(name.as_str().into()),
            name,
            role: Role::Personal,
            access: Access::ReadOnly,
            mode: Mode::Managed,
            address: None,
            port: 15432,
            socket_dir: PathBuf::new(),
            status: Status {
                phase: Phase::Up,
                since: now,
                step: String::new(),
                last_error: None,
                resolved: None,
                credential: None,
                database: None,
                next_attempt_at: None,
                concluded: 0,
            },
            expires_at: None,
            declared: false,
            transient: false,
            counters: Arc::default(),
            password: None,
        }
    }
}

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

impl PartialEq for SessionSnapshot {
    fn eq(&self, other: &Self) -> bool {
        fn all(view: &SessionSnapshot) -> impl PartialEq + '_ {
            (
                (view.id, &view.name, &view.target),
                (view.role, view.access, view.mode),
                (&view.address, view.port, &view.socket_dir),
                (&view.status, view.expires_at, view.declared, view.transient),
                view.password.as_ref().map(|secret| secret.expose_secret()),
            )
        }
        all(self) == all(other)
    }
}
