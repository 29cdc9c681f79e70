//! One session in the set.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::{
    config::DeclaredSession,
    model::Cause,
    session::Spec,
    state::{Openness, Origin, SavedSession},
};

/// Tells a session from every other since the daemon started, also of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub(super) u64);

#[cfg(test)]
impl SessionId {
    pub(crate) fn for_tests(number: u64) -> Self {
        Self(number)
    }
}

/// Somebody who waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::supervisor) struct Ticket(pub(in crate::supervisor) u64);

/// A session that is open, or on its way there or to its end.
#[derive(Debug, Clone)]
pub(in crate::supervisor) struct Entry {
    /// Tells it from others that had its name before.
    pub(in crate::supervisor) id: SessionId,
    /// What it is; the look-up's and the database's answers are kept current in it.
    pub(in crate::supervisor) spec: Spec,
    /// The port that is the session's, also while another program has it.
    pub(in crate::supervisor) own_port: Option<u16>,
    /// A port that somebody named for this opening.
    pub(super) fixed_port: Option<u16>,
    /// The port that it listens on, or did last.
    pub(in crate::supervisor) port: Option<u16>,
    /// Declared in the config file.
    pub(in crate::supervisor) declared: bool,
    /// Why it stays open.
    pub(in crate::supervisor) keeping: Keeping,
    /// When it was made.
    pub(in crate::supervisor) began: Timestamp,
    /// What is wanted of it; this is what is saved.
    pub(in crate::supervisor) wanted: Wanted,
    /// What is true of it.
    pub(in crate::supervisor) actual: Actual,
    /// Somebody's `open` has made it, and it has not had its listeners yet: nothing of it
    /// stays where it can't have them.
    pub(super) is_tried: bool,
    /// Opens that are answered once it has its listeners, and whether each made it.
    pub(super) opening: Vec<(Ticket, bool)>,
    /// Closes that are answered at its end.
    pub(super) closing: Vec<Ticket>,
    /// What follows its end.
    pub(super) then: Then,
}

/// Why a session stays open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::supervisor) enum Keeping {
    /// Somebody opened it, or the config declares it.
    Kept,
    /// For as long as somebody uses it: the opens whose callers are still there.
    Transient(BTreeSet<Ticket>),
}

/// What is wanted of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::supervisor) enum Wanted {
    /// That it is up.
    Open,
    /// That it ends.
    Closed {
        /// When that was decided.
        at: Timestamp,
    },
}

/// What is true of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::supervisor) enum Actual {
    /// Its listeners are being made; what kept them from it before, and since when.
    Binding(Option<(Cause, Timestamp)>),
    /// It can't have its listeners; this is tried again.
    Unbound(Cause, Timestamp),
    /// It has its listeners, and a driver.
    Running,
}

/// What is to be done once a session has ended.
#[derive(Debug, Clone, Default)]
pub(super) struct Then {
    /// It is opened again as it is declared now.
    pub(super) declared: Option<DeclaredSession>,
    /// Opens that came while it was ending.
    pub(super) opens: Vec<Ticket>,
}

// === impl Entry ===

impl Entry {
    /// The one port that will do for it, where there is one.
    pub(super) fn only_port(&self) -> Option<u16> {
        self.fixed_port.or(self.own_port.filter(|_| self.is_kept()))
    }

    /// Whether it is to end.
    pub(in crate::supervisor) fn is_closing(&self) -> bool {
        matches!(self.wanted, Wanted::Closed { .. })
    }

    /// Why it has no listeners, and since when.
    pub(in crate::supervisor) fn unbound(&self) -> Option<(&Cause, Timestamp)> {
        match &self.actual {
            Actual::Binding(Some((cause, since))) | Actual::Unbound(cause, since) => {
                Some((cause, *since))
            }
            Actual::Binding(None) | Actual::Running => None,
        }
    }

    pub(in crate::supervisor) fn is_kept(&self) -> bool {
        self.keeping == Keeping::Kept
    }

    /// What survives of it; nothing of a session that ends with its last user, that may not
    /// come to be, or that has no port yet.
    pub(super) fn saved(&self) -> Option<SavedSession> {
        if !self.is_kept() || self.is_tried {
            return None;
        }
        let openness = match self.wanted {
            Wanted::Open => Openness::Open,
            Wanted::Closed { at } => Openness::Closed { at },
        };
        let is_open = openness == Openness::Open;
        Some(SavedSession {
            name: self.spec.name.clone(),
            target: self.spec.target.clone(),
            resolved: self.spec.resolved.clone(),
            role: self.spec.role,
            access: self.spec.access,
            mode: self.spec.mode,
            port: self.own_port?,
            database: self.spec.database.clone(),
            openness,
            origin: if self.declared && is_open {
                Origin::Declared
            } else {
                Origin::User
            },
            expiry: self.spec.expiry.filter(|_| is_open),
        })
    }
}
