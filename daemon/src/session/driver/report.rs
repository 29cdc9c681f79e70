//! What a driver publishes of its session.

use jiff::Timestamp;

use super::Driver;
use crate::{
    credential::DatabaseLease,
    model::Cause,
    platform::clock::{self, Clock},
    session::{CredentialStatus, Status, machine::Phase},
};

impl Driver {
    pub(super) fn publish(&self) {
        let phase = self.life.phase();
        let lease = self.current_lease();
        let is_taken_away = self.is_taken_away();
        let step = match self.life.retry_at() {
            Some(_) if self.life.last_error() == Some(&Cause::NoNetwork) => {
                "waiting for a network".to_owned()
            }
            Some(_) if !self.life.is_attempting() => "waiting for the next attempt".to_owned(),
            Some(_) | None => self.step.borrow().clone(),
        };
        let next_attempt = self.life.retry_at().filter(|_| !self.life.is_attempting());
        let next_attempt = next_attempt.map(|at| clock::timestamp() + at.since(Clock::now()));
        self.status.send_if_modified(|status| {
            let since = if status.phase == phase {
                status.since
            } else {
                clock::timestamp()
            };
            let next = Status {
                phase,
                since,
                step: if phase == Phase::Up {
                    String::new()
                } else {
                    step
                },
                last_error: self.life.last_error().cloned(),
                resolved: self.spec.resolved.clone(),
                credential: lease.as_ref().map(|lease| CredentialStatus {
                    generation: lease.generation,
                    issued_at: lease.issued_at,
                    rotates_at: lease.rotates_at.filter(|_| !is_taken_away),
                    username: lease.credential.username.clone(),
                }),
                database: lease
                    .as_ref()
                    .map(|lease| lease.credential.database.clone())
                    .or_else(|| self.spec.database.clone()),
                next_attempt_at: next_attempt.map(|at| steady(status.next_attempt_at, at)),
                concluded: self.concluded,
            };
            let changed = *status != next;
            *status = next;
            changed
        });
    }

    pub(super) fn current_lease(&self) -> Option<DatabaseLease> {
        let credential = self.inputs.credential.as_ref()?;
        credential.lease.borrow().clone()
    }

    pub(super) fn is_taken_away(&self) -> bool {
        let key = self.key.borrow();
        let taken_away = |key| self.environment.broker.taken_away(key);
        key.as_ref().and_then(taken_away).is_some()
    }
}

/// The same time as before, where two readings of two clocks differ by less than anybody sees.
fn steady(before: Option<Timestamp>, now: Timestamp) -> Timestamp {
    let near = |before: &Timestamp| now.duration_since(*before).abs().as_secs() < 1;
    before.filter(near).unwrap_or(now)
}
