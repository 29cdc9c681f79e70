//! One session in the supervisor's set.

use std::{path::Path, sync::Arc};

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::{OpenRequest, Opened, Reply, SessionSnapshot};
use crate::{
    config::DeclaredSession,
    credential::Broker,
    model::{Cause, Mode},
    proxy::{Counters, LocalLogin, sockets},
    session::machine::Phase,
    session::{Session, Spec, Status, database_key},
    state::{Openness, Origin, SavedSession},
};

/// A session that is open.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) spec: Spec,
    pub(super) port: u16,
    pub(super) declared: bool,
    pub(super) keeping: Keeping,
    pub(super) login: LocalLogin,
    pub(super) running: Running,
    /// What follows its end.
    pub(super) on_closed: OnClosed,
    /// Who waits for its end.
    pub(super) closing: Vec<CancellationToken>,
}

/// What is to be done once a session has ended.
#[derive(Debug, Default)]
pub(super) struct OnClosed {
    /// Opened again, as it is declared now.
    pub(super) declared: Option<DeclaredSession>,
    /// Opens that came while it was ending.
    pub(super) opens: Vec<(OpenRequest, Reply<Opened>)>,
}

/// Why a session stays open.
#[derive(Debug)]
pub(super) enum Keeping {
    /// Somebody opened it, or the config declares it.
    Kept,
    /// For as long as this many use it.
    Transient(usize),
}

/// Whether its listeners are bound.
#[derive(Debug)]
pub(super) enum Running {
    Bound(Session),
    /// Its port is somebody else's; tried again.
    Unbound {
        cause: Cause,
        since: Timestamp,
        counters: Arc<Counters>,
    },
}

// === impl Entry ===

impl Entry {
    /// `broker` has the password of passthrough sessions.
    pub(super) fn view(&self, runtime_dir: &Path, broker: &Broker) -> SessionSnapshot {
        let (address, status, counters) = match &self.running {
            Running::Bound(session) => (
                Some(session.address.clone()),
                session.status.borrow().clone(),
                Arc::clone(&session.counters),
            ),
            Running::Unbound {
                cause,
                since,
                counters,
            } => (
                None,
                self.unbound_status(cause, *since),
                Arc::clone(counters),
            ),
        };
        let password = match (self.spec.mode, &status.resolved) {
            (Mode::Managed, _) => Some(self.login.password.clone()),
            (Mode::Passthrough, Some(resolved)) => broker
                .current_database(&database_key(&self.spec, resolved))
                .map(|lease| lease.credential.password.clone()),
            (Mode::Passthrough, None) => None,
        };
        SessionSnapshot {
            name: self.spec.name.clone(),
            target: self.spec.target.clone(),
            role: self.spec.role,
            access: self.spec.access,
            mode: self.spec.mode,
            port: self.port,
            socket_dir: address.as_ref().map_or_else(
                || sockets(runtime_dir).join(self.spec.name.as_str()),
                |address| address.socket_dir.clone(),
            ),
            address,
            status,
            expires_at: self.spec.expiry.map(|expiry| expiry.at),
            declared: self.declared,
            transient: matches!(self.keeping, Keeping::Transient(_)),
            counters,
            password,
        }
    }

    /// What is written down of it; nothing of a session that isn't to survive.
    pub(super) fn saved(&self) -> Option<SavedSession> {
        let Keeping::Kept = self.keeping else {
            return None;
        };
        let (resolved, database) = match &self.running {
            Running::Bound(session) => {
                let status = session.status.borrow();
                (status.resolved.clone(), status.database.clone())
            }
            _ => (self.spec.resolved.clone(), self.spec.database.clone()),
        };
        Some(SavedSession {
            name: self.spec.name.clone(),
            target: self.spec.target.clone(),
            resolved,
            role: self.spec.role,
            access: self.spec.access,
            mode: self.spec.mode,
            port: self.port,
            database,
            openness: Openness::Open,
            origin: if self.declared {
                Origin::Declared
            } else {
                Origin::User
            },
            expiry: self.spec.expiry,
        })
    }

    /// What is remembered of it once it is closed.
    pub(super) fn remembered(&self, at: Timestamp) -> Option<SavedSession> {
        let saved = self.saved()?;
        Some(SavedSession {
            openness: Openness::Closed { at },
            origin: Origin::User,
            expiry: None,
            ..saved
        })
    }

    /// Whether it is ending.
    pub(super) fn is_closing(&self) -> bool {
        !self.closing.is_empty()
    }

    /// Tells its driver something, where it has one. A full queue means that it has plenty
    /// to do already.
    pub(super) fn tell(&self, command: crate::session::Command) {
        if let Running::Bound(session) = &self.running {
            let _ = session.commands.try_send(command);
        }
    }

    fn unbound_status(&self, cause: &Cause, since: Timestamp) -> Status {
        Status {
            phase: Phase::Failed,
            since,
            step: String::new(),
            last_error: Some(cause.clone()),
            resolved: self.spec.resolved.clone(),
            credential: None,
            database: self.spec.database.clone(),
            concluded: 0,
        }
    }
}
