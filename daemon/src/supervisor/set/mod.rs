//! The set of sessions as a value: which there are, by what names and ports, what is wanted
//! of each and what is true, and what is to be done about the difference. No disk, no
//! network, no clock: what happens is told to it, with the time, and what to do comes back
//! as a list of actions. The actor performs them.
//!
//! A name has one session at a time, a session that is ending included: what is opened
//! under the name meanwhile begins after its end. What is *wanted* is what is saved, from
//! the moment that a command is accepted.

mod closing;
mod declared;
mod entry;
mod opening;
mod ports;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;

pub(super) use closing::closing;
pub use entry::SessionId;
pub(super) use entry::{Actual, Entry, Ticket, Wanted};
pub use opening::Choices;
pub(super) use opening::{Named, Wish};
pub(super) use ports::order;

use entry::Keeping;

use crate::{
    config::{DeclaredSession, PortRange},
    journal::Kind,
    model::{Cause, Resolved, SessionName},
    proxy::PortWish,
    state::SavedSession,
};

/// How often a session tries again for a port that is somebody else's.
pub(super) const RETRY_PAUSE: Duration = Duration::from_secs(2);
/// How long an `open` waits for its session's own port: for a program that ends, or a
/// daemon that is being restarted.
const PORT_PATIENCE: Duration = Duration::from_secs(3);

/// What the actor is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// Make a session's listeners, trying for so long; the outcome goes to [`Set::bound`].
    Bind {
        /// Whose.
        id: SessionId,
        /// At which port.
        wish: PortWish,
        /// How long to try.
        patience: Duration,
    },
    /// Tell a session's driver to end; that it has goes to [`Set::ended`].
    End(SessionId, CloseTerms),
    /// Forget what the actor has of a session.
    Discard(SessionId),
    /// Answer an `open` with its session, and whether it has made it.
    Opened(Ticket, SessionId, bool),
    /// Answer an `open` with why there is none.
    Refused(Ticket, Cause),
    /// Ask again for what an `open` wants: the session before has ended.
    Reopen(Ticket),
    /// One of the sessions that a `close` is about has ended.
    Closed(Ticket),
    /// Something to tell the user, with a cause or a detail.
    Tell(SessionName, Kind, Result<String, Cause>),
}

/// Why a session ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CloseTerms {
    /// What clients are told.
    pub(super) cause: Cause,
    /// What open connections get at most.
    pub(super) grace: Duration,
}

/// All sessions, and what is remembered of closed ones.
#[derive(Debug)]
pub(super) struct Set {
    next: u64,
    entries: BTreeMap<SessionId, Entry>,
    /// Closed sessions, whose port is kept for their next opening. A session that ends with
    /// its last user leaves what is remembered under its name alone.
    closed: BTreeMap<SessionName, SavedSession>,
    declared: BTreeMap<SessionName, DeclaredSession>,
    range: PortRange,
    /// The range's ports, in the order in which they are given out.
    ports: Vec<u16>,
}

// === impl Set ===

impl Set {
    /// No session yet.
    pub(super) fn new(range: PortRange, ports: Vec<u16>) -> Self {
        Self {
            next: 0,
            entries: BTreeMap::new(),
            closed: BTreeMap::new(),
            declared: BTreeMap::new(),
            range,
            ports,
        }
    }

    /// From where sessions get ports from now on.
    pub(super) fn set_ports(&mut self, range: PortRange, ports: Vec<u16>) {
        self.range = range;
        self.ports = ports;
    }

    /// By name.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        let mut entries: Vec<_> = self.entries.values().collect();
        entries.sort_by(|a, b| a.spec.name.cmp(&b.spec.name));
        entries.into_iter()
    }

    pub(super) fn get(&self, id: SessionId) -> Option<&Entry> {
        self.entries.get(&id)
    }

    pub(super) fn by_name(&self, name: &SessionName) -> Option<&Entry> {
        self.entries.values().find(|entry| entry.spec.name == *name)
    }

    /// What the database of a name was called when it was last open.
    fn remembered(&self, name: &SessionName) -> Option<&SavedSession> {
        self.closed.get(name)
    }

    /// What is to survive: everything that is kept, as it is wanted, by name.
    pub(super) fn saved(&self) -> Vec<SavedSession> {
        let mut saved = self.closed.clone();
        for entry in self.entries.values().filter_map(Entry::saved) {
            saved.insert(entry.name.clone(), entry);
        }
        saved.into_values().collect()
    }

    /// Keeps what a session has learned about its target.
    pub(super) fn learn(
        &mut self,
        id: SessionId,
        resolved: Option<&Resolved>,
        database: Option<&str>,
    ) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        if let Some(resolved) = resolved {
            entry.spec.resolved = Some(resolved.clone());
        }
        if let Some(database) = database {
            entry.spec.database = Some(database.to_owned());
        }
    }

    /// The listeners of a session are there, at this port, or could not be made.
    pub(super) fn bound(
        &mut self,
        id: SessionId,
        outcome: Result<u16, Cause>,
        now: Timestamp,
    ) -> Vec<Action> {
        let Some(entry) = self.entries.get_mut(&id) else {
            return Vec::new();
        };
        if entry.is_closing() {
            return self.ended(id, now);
        }
        match outcome {
            // Meanwhile it has become another one's.
            Ok(port) if !self.accepts(id, port) => self.bind(id, PORT_PATIENCE, now),
            Ok(port) => self.listens(id, port),
            Err(cause) => self.can_not_listen(id, cause, now),
        }
    }

    /// Whether a session that has been bound to this port is to be there.
    pub(super) fn accepts(&self, id: SessionId, port: u16) -> bool {
        let is_wanted = self.get(id).is_some_and(|entry| !entry.is_closing());
        is_wanted && !self.others(id).any(|other| other.own_port == Some(port))
    }

    fn listens(&mut self, id: SessionId, port: u16) -> Vec<Action> {
        let Some(entry) = self.entries.get_mut(&id) else {
            return Vec::new();
        };
        let name = entry.spec.name.clone();
        let mut actions = Vec::new();
        let before = std::mem::replace(&mut entry.actual, Actual::Running);
        entry.port = Some(port);
        entry.is_tried = false;
        let own = *entry.own_port.get_or_insert(port);
        actions.push(match before {
            Actual::Binding(Some(_)) => {
                Action::Tell(name.clone(), Kind::PortRegained, Ok(format!("({port})")))
            }
            _ => Action::Tell(name.clone(), Kind::SessionOpened, Ok(entry.opened(port))),
        });
        if own != port && entry.fixed_port.is_none() {
            let detail = format!("(its own, {own}, is in use; {port} is for this time only)");
            actions.push(Action::Tell(name.clone(), Kind::PortReplaced, Ok(detail)));
        }
        let opening = std::mem::take(&mut entry.opening);
        actions.extend(self.take_over(id));
        let answers = opening.into_iter();
        actions.extend(answers.map(|(ticket, created)| Action::Opened(ticket, id, created)));
        actions
    }

    fn can_not_listen(&mut self, id: SessionId, cause: Cause, now: Timestamp) -> Vec<Action> {
        let Some(entry) = self.entries.get_mut(&id) else {
            return Vec::new();
        };
        if let Cause::PortInUse { port, .. } = cause
            && entry.only_port().is_some_and(|only| only != port)
        {
            // Meanwhile somebody moved it elsewhere.
            return self.bind(id, PORT_PATIENCE, now);
        }
        let opening = std::mem::take(&mut entry.opening);
        let refusals = opening.into_iter();
        let mut actions: Vec<_> = refusals
            .map(|(ticket, _)| Action::Refused(ticket, cause.clone()))
            .collect();
        if entry.is_tried {
            // Nothing stays behind; what was remembered under the name still is.
            self.entries.remove(&id);
            actions.push(Action::Discard(id));
            return actions;
        }
        let since = match &entry.actual {
            Actual::Binding(Some((_, since))) => *since,
            _ => {
                let name = entry.spec.name.clone();
                actions.push(Action::Tell(name, Kind::PortTaken, Err(cause.clone())));
                now
            }
        };
        entry.actual = Actual::Unbound(cause, since);
        actions
    }

    /// Tries again for the ports of sessions that have none.
    pub(super) fn retry(&mut self, now: Timestamp) -> Vec<Action> {
        let is_unbound = |entry: &&Entry| matches!(entry.actual, Actual::Unbound(..));
        let unbound = self.entries.values().filter(is_unbound);
        let ids: Vec<_> = unbound.map(|entry| entry.id).collect();
        ids.into_iter()
            .flat_map(|id| self.bind(id, Duration::ZERO, now))
            .collect()
    }

    /// Whether [`Set::retry`] has something to do.
    pub(super) fn has_unbound(&self) -> bool {
        let mut entries = self.entries.values();
        entries.any(|entry| matches!(entry.actual, Actual::Unbound(..)))
    }

    /// Whether [`Set::bound`] is to come for some session.
    pub(super) fn is_binding(&self) -> bool {
        let mut entries = self.entries.values();
        entries.any(|entry| matches!(entry.actual, Actual::Binding(_)))
    }

    /// When the next session closes by itself.
    pub(super) fn next_expiry(&self) -> Option<Timestamp> {
        let open = self.entries.values().filter(|entry| !entry.is_closing());
        open.filter_map(|entry| Some(entry.spec.expiry?.at)).min()
    }

    /// Begins to make the listeners of a session that has none.
    fn bind(&mut self, id: SessionId, patience: Duration, now: Timestamp) -> Vec<Action> {
        let wish = self.wish(id);
        let Some(entry) = self.entries.get_mut(&id) else {
            return Vec::new();
        };
        match wish {
            Ok(wish) => {
                let before = entry.unbound();
                entry.actual = Actual::Binding(before.map(|(cause, since)| (cause.clone(), since)));
                vec![Action::Bind { id, wish, patience }]
            }
            Err(cause) => self.can_not_listen(id, cause, now),
        }
    }
}

// === impl Entry ===

impl Entry {
    /// What the user is told of it.
    fn opened(&self, port: u16) -> String {
        let until = self.spec.expiry;
        let until = until.map(|expiry| format!(", until {:.0}", expiry.at));
        let until = until.unwrap_or_default();
        format!("for {}, at port {port}{until}", self.spec.target)
    }
}
