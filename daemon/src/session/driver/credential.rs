//! What a driver does about its session's credential: proves it, checks it when it is due, and
//! has it renewed when the user asks.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;

use super::Driver;
use crate::{
    credential::{Broker, DatabaseKey, DatabaseLease, DueCheck},
    journal::Kind,
    model::Cause,
    platform::clock::BootInstant,
    postgres::UpstreamTls,
    session::{
        connect::{Found, verify},
        machine::{Event, Phase, RetryTrigger},
    },
    tunnels::SharedPool,
};

/// A credential that is due: whether it still works, and if so its successor.
struct Check {
    broker: Arc<Broker>,
    key: DatabaseKey,
    addon: String,
    pool: SharedPool,
    upstream_tls: UpstreamTls,
}

impl Driver {
    /// A credential that has been taken away is renewed by whoever needs it, and a tunnel that
    /// has ended is missed by itself.
    pub(super) fn learn_proof(&mut self, outcome: Result<(), Cause>) -> Option<Event> {
        match outcome {
            Ok(()) | Err(Cause::DatabaseRefusedLogin { .. } | Cause::TunnelLost { .. }) => None,
            Err(cause) => {
                let name = &self.spec.name;
                tracing::warn!(session = %name, %cause, "the way doesn't lead to the database");
                self.tell_failure(Kind::AttemptFailed, &cause);
                Some(Event::WayLost(cause))
            }
        }
    }

    /// Asks the database whether it still takes the credential before the timer replaces it:
    /// an admin may have taken it away, which no timer undoes. One session does it for all that
    /// share the lease, and one that has a tunnel.
    pub(super) fn check_what_is_due(&mut self) {
        if self.life.phase() != Phase::Up || self.inputs.check.is_some() {
            return;
        }
        let (Some(key), Some(pool)) = (self.key.borrow().clone(), self.tunnels.pool()) else {
            return;
        };
        let Some(resolved) = &self.spec.resolved else {
            return;
        };
        let Some(due) = self.environment.broker.begin_check_database(&key) else {
            return;
        };
        let check = Check {
            broker: Arc::clone(&self.environment.broker),
            key,
            addon: resolved.addon.clone(),
            pool,
            upstream_tls: self.environment.upstream_tls.borrow().clone(),
        };
        self.inputs.check = Some(AbortOnDropHandle::new(tokio::spawn(check.run(due))));
    }

    pub(super) fn learn_check(&self, outcome: Result<(), Cause>) {
        let Err(cause) = outcome else { return };
        let name = &self.spec.name;
        if let Some(key) = &*self.key.borrow()
            && self.environment.broker.taken_away(key).is_some()
        {
            tracing::info!(
                session = %name,
                "the database no longer takes the credential; a new one is asked for when a client connects"
            );
            return;
        }
        tracing::warn!(session = %name, %cause, "the credential could not be renewed");
        self.tell_failure(Kind::AttemptFailed, &cause);
    }

    /// Nobody is let in with what the provider issues, whatever clients come.
    pub(super) fn learn_trouble(&self, trouble: Option<Cause>) -> Option<Event> {
        let cause = trouble.filter(|_| self.life.phase() == Phase::Up)?;
        self.tell_failure(Kind::AttemptFailed, &cause);
        Some(Event::WayLost(cause))
    }

    /// Whoever asks while a rotation is under way shares it.
    pub(super) fn rotate(&mut self, asked: BootInstant, reply: oneshot::Sender<Result<(), Cause>>) {
        self.waiting_for_rotation.push(reply);
        if self.inputs.rotation.is_none() {
            let rotation = self.attempts.rotation(self.attempt(true), asked);
            self.inputs.rotation = Some(AbortOnDropHandle::new(tokio::spawn(rotation)));
        }
    }

    pub(super) fn answer_rotation(&mut self, answer: &Result<(), Cause>) {
        for reply in self.waiting_for_rotation.drain(..) {
            // Who asked may have gone.
            let _ = reply.send(answer.clone());
        }
    }

    /// A rotation that came through is as good as an attempt.
    pub(super) fn learn_rotation(&mut self, outcome: Result<Found, Cause>) -> Option<Event> {
        let answer = match &outcome {
            Ok(_) => Ok(()),
            Err(cause) => Err(cause.clone()),
        };
        self.answer_rotation(&answer);
        match outcome {
            Ok(found) => {
                self.inputs.attempt = None;
                self.arrive(found);
                Some(Event::AttemptSucceeded)
            }
            Err(cause) => {
                tracing::warn!(session = %self.spec.name, %cause, "the rotation failed");
                self.tell_failure(Kind::AttemptFailed, &cause);
                // The user is there: that is worth an attempt, with what is held.
                Some(Event::Nudged(RetryTrigger::User))
            }
        }
    }
}

// === impl Check ===

impl Check {
    async fn run(self, due: DueCheck) -> Result<(), Cause> {
        let Some(lease) = self.broker.current_database(&self.key) else {
            return Ok(());
        };
        if let Err(cause) = self.verify(&lease).await {
            if self.broker.taken_away(&self.key).is_some() {
                due.settle();
            }
            return Err(cause);
        }
        let renewed = self
            .broker
            .renew_due_database(&self.key, &self.addon, due)
            .await?;
        self.verify(&renewed).await
    }

    async fn verify(&self, lease: &DatabaseLease) -> Result<(), Cause> {
        let tunnel = self.pool.connect(None).await?;
        verify(&self.broker, &self.key, &tunnel, lease, &self.upstream_tls).await
    }
}
