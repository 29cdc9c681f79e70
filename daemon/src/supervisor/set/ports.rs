//! Which port a session gets: the one that is its own, else one of the range that is
//! nobody's, else that of the session that has been closed for longest.

use std::collections::BTreeSet;

use super::{Action, Entry, SessionId, Set};
use crate::{
    journal::Kind,
    model::Cause,
    proxy::PortWish,
    state::{Openness, SavedSession},
};

/// Two users of one machine begin this far apart in the range, where they can: without that
/// one's port is likely to be what the other's programs remember. Prime to the default
/// range's hundred ports, so that the first hundred users all begin elsewhere.
const APART: usize = 37;

/// The ports of a range, in the order in which this user's sessions get them.
pub(in crate::supervisor) fn order(range: crate::config::PortRange, uid: u32) -> Vec<u16> {
    let mut ports: Vec<_> = range.ports().collect();
    let first = (uid as usize % ports.len()) * APART % ports.len();
    ports.rotate_left(first);
    ports
}

impl Set {
    /// What to bind for a session.
    ///
    /// # Errors
    /// `PortInUse` where its port is another session's.
    pub(super) fn wish(&self, id: SessionId) -> Result<PortWish, Cause> {
        let Some(entry) = self.entries.get(&id) else {
            return Err(Cause::SessionClosing);
        };
        let wish = match entry.only_port() {
            Some(port) => PortWish::Exactly(port),
            // A command that runs for a moment takes another one rather than wait.
            None => PortWish::FirstFree {
                candidates: self.candidates(id, entry.own_port),
                range: self.range.to_string(),
            },
        };
        if let PortWish::Exactly(port) = wish
            && let Some(other) = self.others(id).find(|other| other.has_port(port))
        {
            return Err(Cause::PortInUse {
                port,
                holder: Some(format!("the session {}", other.spec.name)),
            });
        }
        Ok(wish)
    }

    pub(super) fn others(&self, id: SessionId) -> impl Iterator<Item = &Entry> {
        self.entries.values().filter(move |entry| entry.id != id)
    }

    fn candidates(&self, id: SessionId, own: Option<u16>) -> Vec<u16> {
        let open: BTreeSet<u16> = self
            .others(id)
            .flat_map(|entry| [entry.own_port, entry.port])
            .chain(self.declared.values().map(|declared| declared.port))
            .flatten()
            .collect();
        let name = self.entries.get(&id).map(|entry| &entry.spec.name);
        let mut closed: Vec<&SavedSession> = self
            .closed
            .values()
            .filter(|saved| Some(&saved.name) != name)
            .collect();
        closed.sort_by_key(|saved| match saved.openness {
            Openness::Open => None,
            Openness::Closed { at } => Some(at),
        });
        let is_remembered = |port: u16| closed.iter().any(|saved| saved.port == port);
        let free = self.ports.iter().copied();
        let free = free.filter(|port| !is_remembered(*port));
        let reused = closed.iter().map(|saved| saved.port);
        let reused = reused.filter(|port| self.ports.contains(port));
        let own = own.filter(|port| !is_remembered(*port));
        own.into_iter()
            .chain(free)
            .chain(reused)
            .filter(|port| !open.contains(port))
            .collect()
    }

    /// Takes a kept session's port away from a closed one that remembers it, and says so.
    pub(super) fn take_over(&mut self, id: SessionId) -> Option<Action> {
        let entry = self.entries.get(&id).filter(|entry| entry.is_kept())?;
        let (port, name) = (entry.own_port?, entry.spec.name.clone());
        let of = |saved: &&SavedSession| saved.port == port && saved.name != name;
        let loser = self.closed.values().find(of)?.name.clone();
        self.closed.remove(&loser);
        let detail = format!("({port}, which {name} has now)");
        Some(Action::Tell(loser, Kind::PortReused, Ok(detail)))
    }
}

// === impl Entry ===

impl Entry {
    /// Whether a port is the session's, or in its use.
    pub(super) fn has_port(&self, port: u16) -> bool {
        self.own_port == Some(port) || self.port == Some(port)
    }
}
