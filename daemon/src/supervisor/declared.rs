//! Sessions that must exist: those that were open, and those that the config declares.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;

use super::{
    Reloaded,
    actor::Actor,
    closing::closing,
    entry::{Entry, Keeping, OnClosed, Running},
    find,
    opening::login_of,
};
use crate::{
    config::{Config, DeclaredSession},
    journal::Kind,
    model::SessionName,
    proxy::{self, PortWish},
    session::Spec,
    state::{Openness, Origin, SavedSession},
};

impl Actor {
    /// Opens what was open, and what is declared.
    pub(super) async fn restore(&mut self, saved: Vec<SavedSession>) {
        let now = Timestamp::now();
        let mut declared: BTreeMap<_, _> = self.declared_by_name();
        for saved in saved {
            let expired = saved.expiry.is_some_and(|expiry| expiry.at <= now);
            let still_declared = declared.get(&saved.name).is_some_and(|d| same(d, &saved));
            let wanted = match saved.openness {
                Openness::Open => saved.origin == Origin::User || still_declared,
                Openness::Closed { .. } => still_declared,
            };
            if wanted && !expired {
                let declaration = still_declared
                    .then(|| declared.remove(&saved.name))
                    .flatten();
                self.reopen(saved, declaration.as_ref()).await;
            } else {
                self.remembered.insert(saved.name.clone(), saved);
            }
        }
        for (name, declaration) in declared {
            self.declare(name, &declaration).await;
        }
    }

    pub(super) async fn reopen(
        &mut self,
        saved: SavedSession,
        declaration: Option<&DeclaredSession>,
    ) {
        let port = declaration
            .and_then(|declared| declared.port)
            .unwrap_or(saved.port);
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
        self.bring_back(spec, PortWish::Exactly(port), declaration.is_some())
            .await;
    }

    pub(super) async fn declare(&mut self, name: SessionName, declared: &DeclaredSession) {
        if let Some(entry) = self.entries.get_mut(&name) {
            entry.declared = true;
            entry.keeping = Keeping::Kept;
            return;
        }
        let remembered = self
            .remembered
            .get(&name)
            .filter(|saved| same(declared, saved));
        let spec = Spec {
            name: name.clone(),
            target: declared.target.clone(),
            resolved: remembered.and_then(|saved| saved.resolved.clone()),
            role: declared.role,
            access: declared.access,
            mode: declared.mode,
            expiry: None,
            database: remembered.and_then(|saved| saved.database.clone()),
        };
        let wish = self.port_wish(&name, declared.port);
        self.bring_back(spec, wish, true).await;
    }

    /// Opens a session that must exist, whether or not its port is free.
    pub(super) async fn bring_back(&mut self, spec: Spec, wish: PortWish, declared: bool) {
        let login = match login_of(&self.passwords, &spec.name).await {
            Ok(login) => login,
            Err(cause) => {
                tracing::error!(session = %spec.name, %cause, "session can't be opened");
                return;
            }
        };
        match proxy::bind(&mut self.inherited, &self.runtime_dir, &spec.name, &wish) {
            Ok(endpoint) => {
                self.insert(spec, endpoint, login, Keeping::Kept, declared, None);
            }
            Err(cause) => {
                tracing::warn!(session = %spec.name, %cause, "session has no listener yet");
                self.journal()
                    .failure(Some(&spec.name), Kind::PortTaken, &cause);
                let port = match &wish {
                    PortWish::Exactly(port) => *port,
                    PortWish::Pick {
                        preferred, range, ..
                    } => preferred.unwrap_or(*range.start()),
                };
                let running = Running::Unbound {
                    cause,
                    since: Timestamp::now(),
                    counters: Arc::default(),
                };
                let entry = Entry {
                    spec,
                    port,
                    declared,
                    keeping: Keeping::Kept,
                    login,
                    running,
                    on_closed: OnClosed::default(),
                    closing: Vec::new(),
                };
                self.remembered.remove(&entry.spec.name);
                self.entries.insert(entry.spec.name.clone(), entry);
            }
        }
    }

    pub(super) async fn reload(&mut self, config: Config) -> Reloaded {
        let before = self.declared_by_name();
        self.config = config;
        self.live.set(&self.config);
        let after = self.declared_by_name();
        let mut reloaded = Reloaded::default();
        for (name, declared) in &before {
            match after.get(name) {
                Some(now) if now == declared => continue,
                Some(_) => reloaded.changed.push(name.to_string()),
                None => reloaded.closed.push(name.to_string()),
            }
            self.begin_close(name, closing(Duration::ZERO), None);
        }
        for (name, declared) in after {
            if before.get(&name) == Some(&declared) {
                continue;
            }
            if !before.contains_key(&name) {
                reloaded.opened.push(name.to_string());
            }
            match self.entries.get_mut(&name) {
                // Under the old declaration: opened again as soon as that has ended.
                Some(entry) if entry.is_closing() => {
                    entry.on_closed.declared = Some(declared);
                }
                _ => self.declare(name, &declared).await,
            }
        }
        reloaded
    }

    pub(super) fn declared_by_name(&self) -> BTreeMap<SessionName, DeclaredSession> {
        self.config
            .sessions
            .iter()
            .filter_map(|declared| {
                let name = match &declared.name {
                    Some(name) => name.clone(),
                    None => find::provisional_name(
                        &declared.target,
                        declared.role,
                        declared.access,
                    )
                    .inspect_err(
                        |cause| tracing::error!(%cause, "a declared session has no valid name"),
                    )
                    .ok()?,
                };
                Some((name, declared.clone()))
            })
            .collect()
    }

    /// Tries again for the ports of sessions that have none.
    pub(super) fn rebind(&mut self) {
        let unbound: Vec<_> = self
            .entries
            .values()
            .filter(|entry| matches!(entry.running, Running::Unbound { .. }))
            .map(|entry| (entry.spec.name.clone(), entry.port))
            .collect();
        let mut regained = Vec::new();
        for (name, port) in unbound {
            let bound = proxy::bind(
                &mut self.inherited,
                &self.runtime_dir,
                &name,
                &PortWish::Exactly(port),
            );
            let Some(entry) = self.entries.get(&name) else {
                continue;
            };
            let (spec, login) = (entry.spec.clone(), entry.login.clone());
            let next = bound.map(|endpoint| self.start(&spec, endpoint, &login, None));
            let Some(entry) = self.entries.get_mut(&name) else {
                continue;
            };
            match (next, &mut entry.running) {
                (Ok(session), running) => {
                    tracing::info!(session = %name, port, "session has its port again");
                    regained.push((name, port));
                    *running = Running::Bound(session);
                }
                (Err(now), Running::Unbound { cause, .. }) => *cause = now,
                (Err(_), Running::Bound(_)) => {}
            }
        }
        for (name, port) in regained {
            self.journal()
                .of_session(&name, Kind::PortRegained, format!("({port})"));
        }
    }
}

/// Whether a saved session is what the config declares.
fn same(declared: &DeclaredSession, saved: &SavedSession) -> bool {
    (
        &declared.target,
        declared.role,
        declared.access,
        declared.mode,
    ) == (&saved.target, saved.role, saved.access, saved.mode)
}
