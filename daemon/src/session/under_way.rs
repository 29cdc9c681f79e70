//! Work that a session's driver has started and waits for beside everything else; each end
//! is an input of its loop.

use tokio::{sync::watch, task::JoinError};
use tokio_util::task::AbortOnDropHandle;

use crate::model::Cause;

/// The end of work that is under way, which is then no more; never, where there is none.
pub(super) async fn finished<T>(
    work: &mut Option<AbortOnDropHandle<Result<T, Cause>>>,
) -> Result<T, Cause> {
    let Some(task) = work else {
        return std::future::pending().await;
    };
    let outcome = joined(task.await);
    *work = None;
    outcome
}

/// The outcome of a task; a panic is one of our faults.
fn joined<T>(outcome: Result<Result<T, Cause>, JoinError>) -> Result<T, Cause> {
    outcome.unwrap_or_else(|error| {
        Err(Cause::Internal {
            detail: error.to_string(),
        })
    })
}

/// The next change of what is watched; never, while nothing is.
pub(super) async fn changed<T: Clone>(watched: &mut Option<watch::Receiver<T>>) -> T {
    if let Some(watched) = watched
        && watched.changed().await.is_ok()
    {
        return watched.borrow_and_update().clone();
    }
    std::future::pending().await
}
