//! Everything that a driver waits for, beside its commands.

use std::time::Duration;

use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    credential::DatabaseLease,
    model::{Cause, Generation, Resolved},
    session::{
        connect::Found,
        under_way::{changed, finished},
    },
    tunnels::Level,
};

/// Something that a driver takes note of.
pub(super) enum Input {
    /// The attempt under way has ended.
    Attempted(Result<Found, Cause>),
    /// The rotation under way has ended.
    Rotated(Result<Found, Cause>),
    /// The pool has, or has lost, its tunnels.
    Level(Level),
    /// A client waits for a tunnel.
    ClientWaits,
    /// Another Heroku token was found.
    TokenChanged,
    /// The network has changed for the time with that number, or the machine has woken up.
    NetworkChanged(u64),
    /// Another lease is held.
    Renewed(Option<DatabaseLease>),
    /// What the provider issues is refused, or no longer.
    Trouble(Option<Cause>),
    /// The log-in that was left for later has ended.
    Proved(Result<(), Cause>),
    /// The check of the credential that was due, and its renewal, have ended.
    Checked(Result<(), Cause>),
    /// The target was looked up again.
    LookedUp(Result<Resolved, Cause>),
    /// There is something to show, or something may be due.
    Nothing,
}

/// Where they come from. Work under way ends when it is dropped from here.
pub(super) struct Inputs {
    client_waits: mpsc::Receiver<()>,
    token: watch::Receiver<u64>,
    network: watch::Receiver<u64>,
    steps: watch::Receiver<String>,
    pub(super) attempt: Option<AbortOnDropHandle<Result<Found, Cause>>>,
    pub(super) rotation: Option<AbortOnDropHandle<Result<Found, Cause>>>,
    pub(super) proof: Option<AbortOnDropHandle<Result<(), Cause>>>,
    pub(super) check: Option<AbortOnDropHandle<Result<(), Cause>>>,
    pub(super) look_up: Option<AbortOnDropHandle<Result<Resolved, Cause>>>,
    pub(super) level: Option<watch::Receiver<Level>>,
    /// Of the lease that new connections log in with.
    pub(super) credential: Option<CredentialInputs>,
}

/// What the broker tells of one database lease.
pub(super) struct CredentialInputs {
    pub(super) lease: watch::Receiver<Option<DatabaseLease>>,
    pub(super) trouble: watch::Receiver<Option<Cause>>,
    pub(super) due: watch::Receiver<Option<Generation>>,
}

// === impl Inputs ===

impl Inputs {
    pub(super) fn new(
        client_waits: mpsc::Receiver<()>,
        token: watch::Receiver<u64>,
        mut network: watch::Receiver<u64>,
        steps: watch::Receiver<String>,
    ) -> Self {
        network.mark_unchanged();
        Self {
            client_waits,
            token,
            network,
            steps,
            attempt: None,
            rotation: None,
            proof: None,
            check: None,
            look_up: None,
            level: None,
            credential: None,
        }
    }

    /// The next one; [`Input::Nothing`] after `pause`.
    pub(super) async fn next(&mut self, pause: Duration) -> Input {
        tokio::select! {
            outcome = finished(&mut self.attempt) => Input::Attempted(outcome),
            outcome = finished(&mut self.rotation) => Input::Rotated(outcome),
            level = changed(&mut self.level) => Input::Level(level),
            Some(()) = self.client_waits.recv() => Input::ClientWaits,
            Ok(()) = self.token.changed() => Input::TokenChanged,
            Ok(()) = self.network.changed() => {
                Input::NetworkChanged(*self.network.borrow_and_update())
            }
            input = next_of(&mut self.credential) => input,
            outcome = finished(&mut self.proof) => Input::Proved(outcome),
            outcome = finished(&mut self.check) => Input::Checked(outcome),
            outcome = finished(&mut self.look_up) => Input::LookedUp(outcome),
            Ok(()) = self.steps.changed() => Input::Nothing,
            () = sleep(pause) => Input::Nothing,
        }
    }
}

/// The next that is told of a lease; never, while none is known.
async fn next_of(credential: &mut Option<CredentialInputs>) -> Input {
    let Some(credential) = credential else {
        return std::future::pending().await;
    };
    tokio::select! {
        Ok(()) = credential.lease.changed() => {
            Input::Renewed(credential.lease.borrow_and_update().clone())
        }
        Ok(()) = credential.trouble.changed() => {
            Input::Trouble(credential.trouble.borrow_and_update().clone())
        }
        Ok(()) = credential.due.changed() => Input::Nothing,
        else => std::future::pending().await,
    }
}
