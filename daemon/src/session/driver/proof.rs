//! What a session asks of its database beside its clients' connections: whether a way that
//! was trusted works, and whether a credential that is due is still taken.

use std::sync::Arc;

use tokio_util::task::AbortOnDropHandle;

use super::{Driver, ROTATION_PAUSE};
use crate::{
    journal::Kind,
    model::Cause,
    platform::clock::Clock,
    proxy::{self, Verdict},
    session::connect::Found,
    session::machine::Event,
};

impl Driver {
    /// Proves a way that was trusted because its credential was let in before. A client that
    /// waits does so itself.
    pub(super) fn begin_proof(&mut self, found: &Found) {
        if !self.gateway.arriving.is_empty() {
            return;
        }
        let (tunnel, lease) = (found.tunnel.clone(), Arc::clone(&found.lease));
        let upstream_tls = self.environment.upstream_tls.borrow().clone();
        let proof = tokio::spawn(async move { proxy::probe(&tunnel, &lease, &upstream_tls).await });
        self.proof = Some(AbortOnDropHandle::new(proof));
    }

    /// A credential that has been taken away is renewed by whoever needs it, and a tunnel that
    /// has ended is missed by itself.
    pub(super) fn learn_proof(&mut self, outcome: Result<(), Cause>) -> Option<Event> {
        self.proof = None;
        match outcome {
            Ok(()) | Err(Cause::DatabaseRefusedLogin { .. } | Cause::TunnelLost { .. }) => None,
            Err(cause) => {
                let name = &self.spec.name;
                tracing::warn!(session = %name, %cause, "the way doesn't lead to the database");
                let journal = &self.environment.journal;
                journal.failure(Some(name), Kind::AttemptFailed, &cause);
                Some(Event::WayLost(cause))
            }
        }
    }

    /// Asks the database whether it still takes the credential before the timer replaces it:
    /// an admin may have taken it away, which no timer undoes.
    pub(super) fn begin_check(&mut self) {
        let gateway = Arc::clone(&self.gateway);
        let check = tokio::spawn(async move { gateway.check_credential().await });
        self.check = Some(AbortOnDropHandle::new(check));
    }

    pub(super) fn learn_verdict(&mut self, verdict: Verdict) -> Option<Event> {
        self.check = None;
        match verdict {
            Verdict::Taken => Some(Event::RotationDue),
            Verdict::Unknown => {
                self.rotate_not_before = Some(Clock::now() + ROTATION_PAUSE);
                None
            }
            Verdict::Refused(generation) => {
                tracing::info!(
                    session = %self.spec.name,
                    "the database no longer takes the credential; a new one is asked for when a client connects"
                );
                self.taken_away = Some(generation);
                None
            }
        }
    }
}
