//! Sessions that must exist: those that were open, and those that the config declares.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;

use super::{Action, Entry, Keeping, Set, closing::closing};
use crate::{
    config::DeclaredSession,
    model::SessionName,
    session::Spec,
    state::{Openness, Origin, SavedSession},
};

/// What a reload changed in the declarations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::supervisor) struct Difference {
    pub(in crate::supervisor) opened: Vec<SessionName>,
    pub(in crate::supervisor) closed: Vec<SessionName>,
    pub(in crate::supervisor) changed: Vec<SessionName>,
}

impl Set {
    /// Opens what was open, and what is declared. Of a name that is declared, the
    /// declaration holds.
    pub(in crate::supervisor) fn restore(
        &mut self,
        saved: Vec<SavedSession>,
        declared: BTreeMap<SessionName, DeclaredSession>,
        now: Timestamp,
    ) -> Vec<Action> {
        let mut reopened = Vec::new();
        for saved in saved {
            let expired = saved.expiry.is_some_and(|expiry| expiry.at <= now);
            let wanted = saved.openness == Openness::Open && saved.origin == Origin::User;
            if wanted && !expired && !declared.contains_key(&saved.name) {
                reopened.push(saved);
            } else {
                let remembered = remembered(saved, now);
                self.closed.insert(remembered.name.clone(), remembered);
            }
        }
        self.declared = declared.clone();
        self.forget_shared_ports(&reopened);
        let mut actions = Vec::new();
        for saved in reopened {
            actions.extend(self.reopen(saved, now));
        }
        for (name, declared) in &declared {
            actions.extend(self.declare(name, declared, now));
        }
        actions
    }

    /// A file of an older version may give two sessions one port: it is the open one's.
    fn forget_shared_ports(&mut self, reopened: &[SavedSession]) {
        let mut ports: BTreeSet<_> = reopened.iter().map(|saved| saved.port).collect();
        self.closed.retain(|_, saved| ports.insert(saved.port));
    }

    fn reopen(&mut self, saved: SavedSession, now: Timestamp) -> Vec<Action> {
        let port = saved.port;
        let is_free = !self.entries.values().any(|entry| entry.has_port(port));
        let spec = Spec {
            name: saved.name,
            target: saved.target,
            resolved: saved.resolved,
            role: saved.role,
            access: saved.access,
            mode: saved.mode,
            expiry: saved.expiry,
            database: saved.database,
        };
        let entry = Entry {
            own_port: Some(port).filter(|_| is_free),
            ..self.blank(spec, now)
        };
        let id = self.insert(entry);
        self.bind(id, Duration::ZERO, now)
    }

    /// Makes a session be what the config declares under its name: one that is something
    /// else is closed first.
    pub(super) fn declare(
        &mut self,
        name: &SessionName,
        declared: &DeclaredSession,
        now: Timestamp,
    ) -> Vec<Action> {
        let mut entries = self.entries.values_mut();
        if let Some(entry) = entries.find(|entry| entry.spec.name == *name) {
            if entry.is_closing() {
                entry.then.declared = Some(declared.clone());
                return Vec::new();
            }
            if entry.is_as_declared(declared) {
                entry.declared = true;
                entry.keeping = Keeping::Kept;
                entry.is_tried = false;
                let id = entry.id;
                return self.take_over(id).into_iter().collect();
            }
            entry.then.declared = Some(declared.clone());
            let id = entry.id;
            return self.close(id, closing(Duration::ZERO), None, now);
        }
        let remembered = self.remembered(name);
        let known = remembered.filter(|saved| is_same(declared, saved));
        let spec = Spec {
            name: name.clone(),
            target: declared.target.clone(),
            resolved: known.and_then(|saved| saved.resolved.clone()),
            role: declared.role,
            access: declared.access,
            mode: declared.mode,
            expiry: None,
            database: known.and_then(|saved| saved.database.clone()),
        };
        let own_port = declared.port.or(remembered.map(|saved| saved.port));
        let entry = Entry {
            own_port,
            fixed_port: declared.port,
            declared: true,
            ..self.blank(spec, now)
        };
        let id = self.insert(entry);
        let mut actions = self.bind(id, Duration::ZERO, now);
        actions.extend(self.take_over(id));
        actions
    }

    /// Takes new declarations: opens what is declared now, closes what no longer is, and
    /// opens anew what is declared differently. Sessions that are declared as before are
    /// left alone.
    pub(in crate::supervisor) fn redeclare(
        &mut self,
        declared: BTreeMap<SessionName, DeclaredSession>,
        now: Timestamp,
    ) -> (Difference, Vec<Action>) {
        let before = std::mem::replace(&mut self.declared, declared.clone());
        let mut difference = Difference::default();
        let mut actions = Vec::new();
        for name in before.keys().filter(|name| !declared.contains_key(name)) {
            difference.closed.push(name.clone());
            if let Some(entry) = self.entries.values_mut().find(|e| e.spec.name == *name) {
                entry.then.declared = None;
                let id = entry.id;
                actions.extend(self.close(id, closing(Duration::ZERO), None, now));
            }
        }
        for (name, declared) in declared {
            match before.get(&name) {
                Some(before) if *before == declared => continue,
                Some(_) => difference.changed.push(name.clone()),
                None => difference.opened.push(name.clone()),
            }
            actions.extend(self.declare(&name, &declared, now));
        }
        (difference, actions)
    }
}

// === impl Entry ===

impl Entry {
    /// Whether it is what the config declares, its port included.
    fn is_as_declared(&self, declared: &DeclaredSession) -> bool {
        let spec = &self.spec;
        let is_there = declared.port.is_none_or(|port| self.own_port == Some(port));
        is_there
            && (&spec.target, spec.role, spec.access, spec.mode)
                == (
                    &declared.target,
                    declared.role,
                    declared.access,
                    declared.mode,
                )
    }
}

/// What is remembered of a session that is not opened again.
fn remembered(saved: SavedSession, now: Timestamp) -> SavedSession {
    let openness = match saved.openness {
        Openness::Open => Openness::Closed { at: now },
        closed @ Openness::Closed { .. } => closed,
    };
    SavedSession {
        openness,
        origin: Origin::User,
        expiry: None,
        ..saved
    }
}

/// Whether a saved session is what the config declares.
fn is_same(declared: &DeclaredSession, saved: &SavedSession) -> bool {
    (
        &declared.target,
        declared.role,
        declared.access,
        declared.mode,
    ) == (&saved.target, saved.role, saved.access, saved.mode)
}
