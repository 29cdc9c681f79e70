//! What bastions and databases say about leases, and what follows from it: nobody knocks with a
//! refused one again, and who is refused by turns with another machine is told.

use std::time::Duration;

use rand::RngExt as _;
use tokio::sync::watch;
use tracing::warn;

use super::Broker;
use crate::{
    credential::{
        DatabaseKey, DatabaseLease, rotation_conflict,
        single_flight::locked,
        standing::{Refusal, Standing},
    },
    model::{Cause, Generation},
    platform::clock::Clock,
};

impl Broker {
    /// Takes note that the database refused a lease, before its successor is asked for; answers
    /// what that comes to: `cause`, or that fresh credentials are refused one after the other.
    /// More than one refusal of a generation counts once.
    pub fn database_refused(
        &self,
        key: &DatabaseKey,
        generation: Generation,
        cause: &Cause,
    ) -> Cause {
        let trouble = match cause {
            Cause::DatabaseRefusedLogin { sqlstate, message } => Cause::FreshCredentialsRefused {
                sqlstate: sqlstate.clone(),
                message: message.clone(),
            },
            other => other.clone(),
        };
        let refusal = self.database.refused(key, generation, &trouble);
        // The app's password is changed by nobody's renewal.
        if let (Refusal::TakenAway, DatabaseKey::Personal { addon, .. }) = (refusal, key) {
            self.note_conflict(key, addon, generation);
        }
        let is_broken = |standing: &Standing| standing.is_broken();
        if self.database.with_standing(key, is_broken) {
            trouble
        } else {
            cause.clone()
        }
    }

    fn note_conflict(&self, key: &DatabaseKey, addon: &str, generation: Generation) {
        let begins = locked(&self.conflicts)
            .entry(key.clone())
            .or_default()
            .refused(generation, Clock::now());
        if begins {
            warn!(
                addon,
                "the personal credentials are replaced from elsewhere again and again; another machine may use this add-on too"
            );
        }
    }

    /// Takes note that the database let a lease in.
    pub fn database_took(&self, key: &DatabaseKey, generation: Generation) {
        self.database.accepted(key, generation);
    }

    /// Whether a database has let this very lease in before.
    pub fn is_proven(&self, key: &DatabaseKey, generation: Generation) -> bool {
        self.database
            .with_standing(key, |standing| standing.is_accepted(generation))
    }

    /// The database lease that is held, where somebody has taken it away: the database let it in
    /// once, and refuses it now. It is renewed when a client or the user asks for it, and by
    /// nothing else.
    pub fn taken_away(&self, key: &DatabaseKey) -> Option<DatabaseLease> {
        let held = self.current_database(key)?;
        let is_taken_away = self.database.with_standing(key, |standing| {
            standing.is_refused(held.generation) && standing.is_accepted(held.generation)
        });
        is_taken_away.then_some(held)
    }

    /// Why nobody is let in with the credentials that the provider issues, now and whenever
    /// that changes.
    pub fn watch_trouble(&self, key: &DatabaseKey) -> watch::Receiver<Option<Cause>> {
        self.database.watch_trouble(key)
    }

    /// Why the provider isn't asked for another database user for now.
    pub fn held_back(&self, key: &DatabaseKey) -> Option<Cause> {
        self.database.held_back(key)
    }

    /// Takes note that the bastion refused a key: nobody knocks with it again.
    pub fn ssh_refused(&self, addon: &str, generation: Generation, cause: &Cause) {
        self.ssh.refused(&addon.to_owned(), generation, cause);
    }

    /// Takes note that the bastion let a key in.
    pub fn ssh_took(&self, addon: &str, generation: Generation) {
        self.ssh.accepted(&addon.to_owned(), generation);
    }

    /// What another machine of the user seems to fight over with this one: a
    /// [`Cause::CredentialsContested`] for each add-on.
    pub fn contested(&self) -> Vec<Cause> {
        let now = Clock::now();
        let mut contested: Vec<(String, usize)> = locked(&self.conflicts)
            .iter()
            .filter_map(|(key, contest)| match key {
                DatabaseKey::Personal { addon, .. } => {
                    Some((addon.clone(), contest.contested(now)?))
                }
                DatabaseKey::App { .. } => None,
            })
            .collect();
        contested.sort();
        contested.dedup_by(|later, first| {
            let same = later.0 == first.0;
            if same {
                first.1 += later.1;
            }
            same
        });
        contested
            .into_iter()
            .map(|(addon, times)| Cause::CredentialsContested {
                addon,
                times,
                within: rotation_conflict::WINDOW,
            })
            .collect()
    }

    /// How long another machine is left its turn before the successor of `after` is asked for.
    pub(super) fn conflict_delay(&self, key: &DatabaseKey, after: Generation) -> Duration {
        let jitter = rand::rng().random_range(0.0..1.0);
        locked(&self.conflicts)
            .get(key)
            .map_or(Duration::ZERO, |contest| {
                contest.pause(after, Clock::now(), jitter)
            })
    }
}
