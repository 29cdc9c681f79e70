//! Work that a session's driver has started and waits for beside everything else; each end
//! is an event of its loop.

use tokio::{sync::watch, task::JoinError};
use tokio_util::task::AbortOnDropHandle;

use super::connect::Found;
use crate::{
    credential::DatabaseLease, model::Cause, proxy::Verdict, session::machine::RenewalScope,
};

/// An attempt under way.
pub(super) struct Running {
    pub(super) renew: RenewalScope,
    pub(super) task: AbortOnDropHandle<Result<Found, Cause>>,
}

/// The end of the attempt under way; never, where there is none.
pub(super) async fn finished(
    attempt: &mut Option<Running>,
) -> (RenewalScope, Result<Found, Cause>) {
    match attempt {
        Some(running) => {
            let outcome = joined((&mut running.task).await);
            (running.renew, outcome)
        }
        None => std::future::pending().await,
    }
}

/// The outcome of a task; a panic is one of our faults.
pub(super) fn joined<T>(outcome: Result<Result<T, Cause>, JoinError>) -> Result<T, Cause> {
    outcome.unwrap_or_else(|error| {
        Err(Cause::Internal {
            detail: error.to_string(),
        })
    })
}

/// Whether the way works that was trusted to; never, where none was.
pub(super) async fn proved(
    proof: &mut Option<AbortOnDropHandle<Result<(), Cause>>>,
) -> Result<(), Cause> {
    match proof {
        Some(proof) => joined((&mut *proof).await),
        None => std::future::pending().await,
    }
}

/// What the database said to the credential; never, where it isn't asked.
pub(super) async fn checked(check: &mut Option<AbortOnDropHandle<Verdict>>) -> Verdict {
    match check {
        Some(check) => (&mut *check).await.unwrap_or(Verdict::Unknown),
        None => std::future::pending().await,
    }
}

/// The next change of the lease; never, while none is known.
pub(super) async fn renewed(lease: &mut Option<watch::Receiver<Option<DatabaseLease>>>) {
    let changed = match lease {
        Some(lease) => lease.changed().await,
        None => std::future::pending().await,
    };
    if changed.is_err() {
        std::future::pending().await
    }
}
