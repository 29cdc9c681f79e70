//! Ending sessions.

use std::time::Duration;

use jiff::Timestamp;

use super::{Action, Actual, CloseTerms, Keeping, SessionId, Set, Ticket, Wanted};
use crate::{
    journal::Kind,
    model::Cause,
    state::{Openness, Origin, SavedSession},
};

impl Set {
    /// Decides that a session ends; `waits` is answered when it has. A further close can only
    /// hurry it, and undoes that it is opened again as it is declared.
    pub(in crate::supervisor) fn close(
        &mut self,
        id: SessionId,
        terms: CloseTerms,
        waits: Option<Ticket>,
        now: Timestamp,
    ) -> Vec<Action> {
        let Some(entry) = self.entries.get_mut(&id) else {
            return waits.map(Action::Closed).into_iter().collect();
        };
        if waits.is_some() {
            entry.then.declared = None;
        }
        entry.closing.extend(waits);
        if !entry.is_closing() {
            entry.wanted = Wanted::Closed { at: now };
        }
        // Who opened it and waits still is told that somebody closed it.
        let opening = std::mem::take(&mut entry.opening);
        let refusals = opening.into_iter();
        let mut actions: Vec<_> = refusals
            .map(|(ticket, _)| Action::Refused(ticket, Cause::SessionClosing))
            .collect();
        match entry.actual {
            Actual::Running => actions.push(Action::End(id, terms)),
            // Its end is the outcome of that.
            Actual::Binding(_) => {}
            Actual::Unbound(..) => actions.extend(self.ended(id, now)),
        }
        actions
    }

    /// A session has ended: takes it out of the set. Its port stays remembered.
    pub(in crate::supervisor) fn ended(&mut self, id: SessionId, now: Timestamp) -> Vec<Action> {
        let Some(entry) = self.entries.remove(&id) else {
            return Vec::new();
        };
        let name = entry.spec.name.clone();
        let mut actions = vec![
            Action::Discard(id),
            Action::Tell(name.clone(), Kind::SessionClosed, Ok(String::new())),
        ];
        if let Some(saved) = entry.saved() {
            let remembered = SavedSession {
                openness: match saved.openness {
                    // A driver that ended by itself was wanted until now.
                    Openness::Open => Openness::Closed { at: now },
                    closed @ Openness::Closed { .. } => closed,
                },
                origin: Origin::User,
                expiry: None,
                ..saved
            };
            self.closed.insert(name.clone(), remembered);
        }
        actions.extend(entry.closing.into_iter().map(Action::Closed));
        if let Some(declared) = entry.then.declared {
            actions.extend(self.declare(&name, &declared, now));
        }
        actions.extend(entry.then.opens.into_iter().map(Action::Reopen));
        actions
    }

    /// The caller of an `open` has gone, who held a session that ends with its last user.
    pub(in crate::supervisor) fn left(
        &mut self,
        id: SessionId,
        user: Ticket,
        now: Timestamp,
    ) -> Vec<Action> {
        let Some(entry) = self.entries.get_mut(&id) else {
            return Vec::new();
        };
        // One that is kept by now needs nobody.
        let Keeping::Transient(users) = &mut entry.keeping else {
            return Vec::new();
        };
        if !users.remove(&user) || !users.is_empty() || entry.is_closing() {
            return Vec::new();
        }
        self.close(id, closing(Duration::ZERO), None, now)
    }

    /// Ends sessions whose time is over.
    pub(in crate::supervisor) fn expire(&mut self, now: Timestamp) -> Vec<Action> {
        let open = self.entries.values().filter(|entry| !entry.is_closing());
        let expired: Vec<_> = open
            .filter_map(|entry| {
                let expiry = entry.spec.expiry.filter(|expiry| expiry.at <= now)?;
                Some((entry.id, entry.spec.name.clone(), expiry.grace))
            })
            .collect();
        let mut actions = Vec::new();
        for (id, name, grace) in expired {
            actions.push(Action::Tell(name, Kind::SessionExpired, Ok(String::new())));
            let terms = CloseTerms {
                cause: Cause::SessionExpired,
                grace,
            };
            actions.extend(self.close(id, terms, None, now));
        }
        actions
    }
}

/// A session that somebody closes.
pub(in crate::supervisor) fn closing(grace: Duration) -> CloseTerms {
    CloseTerms {
        cause: Cause::SessionClosing,
        grace,
    }
}
