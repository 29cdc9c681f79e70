//! Where a session's target leads: looked up again at every attempt, when the user asks for the
//! session, and now and then while it is up. A change is told, and new connections go there.

use std::{sync::Arc, time::Duration};

use rand::RngExt as _;
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;

use super::{Driver, inputs::CredentialInputs};
use crate::{
    journal::Kind,
    model::{Cause, Resolved},
    platform::clock::Clock,
    session::{
        connect::database_key,
        machine::{Event, Phase},
    },
};

/// How often it is looked up while the session is up: one call of the account's 4,500 an hour,
/// four times an hour for each target.
const LOOK_UP_INTERVAL: Duration = Duration::from_secs(15 * 60);
/// The pause before it is looked up where an attempt could not wait for the answer.
const LOOK_UP_SOON: Duration = Duration::from_secs(10);
/// A look-up that is no older is the one that the session was opened with.
const JUST_NOW: Duration = Duration::from_secs(2);

impl Driver {
    /// Whether the session is about to make its first attempt with what `open` has just found.
    pub(super) fn is_just_looked_up(&self) -> bool {
        let broker = &self.environment.broker;
        self.concluded == 0
            && broker
                .looked_up_at(&self.spec.target)
                .is_some_and(|at| at.elapsed() < JUST_NOW)
    }

    pub(super) fn plan_look_up(&mut self, is_looked_up: bool) {
        let pause = if is_looked_up {
            LOOK_UP_INTERVAL.mul_f64(rand::rng().random_range(0.9..1.1))
        } else {
            LOOK_UP_SOON
        };
        self.look_up_at = Clock::now() + pause;
    }

    pub(super) fn look_up_what_is_due(&mut self) {
        if self.life.phase() == Phase::Up && self.look_up_at <= Clock::now() {
            self.begin_look_up(false);
        }
    }

    /// The user asks for the session: where its target leads is told before that is answered.
    pub(super) fn refresh(&mut self, reply: oneshot::Sender<()>) {
        if self.life.phase() == Phase::Up {
            self.begin_look_up(true);
            self.waiting_for_look_up.push(reply);
        }
    }

    fn begin_look_up(&mut self, is_asked_for: bool) {
        let Some(known) = self.spec.resolved.clone() else {
            return;
        };
        self.plan_look_up(true);
        let broker = Arc::clone(&self.environment.broker);
        let target = self.spec.target.clone();
        let look_up = tokio::spawn(async move {
            if is_asked_for {
                broker.look_again_for_user(&target, &known).await
            } else {
                broker.look_again(&target, &known).await
            }
        });
        self.inputs.look_up = Some(AbortOnDropHandle::new(look_up));
    }

    /// A target that leads elsewhere now, or nowhere, ends the way that the session has.
    pub(super) fn learn_look_up(&mut self, outcome: Result<Resolved, Cause>) -> Option<Event> {
        let cause = match outcome {
            Ok(resolved) => {
                let before = self.spec.resolved.clone();
                let before = before.filter(|before| *before != resolved)?;
                self.go_where_it_leads(&resolved);
                if before.addon == resolved.addon {
                    return None;
                }
                Cause::TargetMoved {
                    target: self.spec.target.to_string(),
                    from: before.addon,
                    to: resolved.addon,
                }
            }
            Err(cause) => {
                self.tell_failure(Kind::AttemptFailed, &cause);
                cause
            }
        };
        tracing::warn!(session = %self.spec.name, %cause, "the target has changed");
        Some(Event::WayLost(cause))
    }

    /// From now on new connections log in to where the target leads.
    pub(super) fn go_where_it_leads(&mut self, resolved: &Resolved) {
        let before = self.spec.resolved.replace(resolved.clone());
        if let Some(before) = before.filter(|before| before.addon != resolved.addon) {
            let detail = format!("to {} now, no longer to {}", resolved.addon, before.addon);
            let journal = &self.environment.journal;
            journal.of_session(&self.spec.name, Kind::TargetMoved, detail);
        }
        let key = database_key(&self.spec, resolved);
        let is_known = self.key.borrow().as_ref() == Some(&key);
        if is_known && self.inputs.credential.is_some() {
            return;
        }
        let broker = &self.environment.broker;
        self.inputs.credential = Some(CredentialInputs {
            lease: broker.watch_database(&key),
            trouble: broker.watch_trouble(&key),
            due: broker.watch_due_database(&key),
        });
        self.key.send_replace(Some(key));
        if !is_known {
            // Those that are kept ready lead to where it led before.
            self.gateway.has_moved();
            self.inputs.check = None;
        }
    }
}
