//! One piece of work at a time, shared by all who ask for it meanwhile.
//!
//! The work runs in a task of its own: those who wait may go away without ending it, and
//! the next who asks joins it. Outcomes are handed to whoever waits and kept for nobody.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use tokio_util::task::TaskTracker;

use crate::model::Cause;

/// The outcome of work under way, for any number of waiters.
pub(super) type Joined<T> = Shared<BoxFuture<'static, Result<T, Cause>>>;

/// Work that is under way at most once.
pub(super) struct SingleFlight<T>(Slot<T>);

type Slot<T> = Arc<Mutex<Option<Joined<T>>>>;

/// Empties the slot when the work ends, also when it panics.
struct InFlightGuard<T>(Slot<T>);

// === impl SingleFlight ===

impl<T: Clone + Send + Sync + 'static> SingleFlight<T> {
    /// The work that is under way.
    pub(super) fn under_way(&self) -> Option<Joined<T>> {
        locked(&self.0).clone()
    }

    /// Joins the work under way; else takes what `ready` has; else starts `work` in a task
    /// of `tracker`. Work stores its result where `ready` finds it before it ends, so that
    /// nobody starts it a second time in between.
    pub(super) fn join<F>(
        &self,
        tracker: &TaskTracker,
        ready: impl FnOnce() -> Option<T>,
        work: impl FnOnce() -> F,
    ) -> Joined<T>
    where
        F: Future<Output = Result<T, Cause>> + Send + 'static,
    {
        let mut slot = locked(&self.0);
        if let Some(joined) = &*slot {
            return joined.clone();
        }
        if let Some(value) = ready() {
            return std::future::ready(Ok(value)).boxed().shared();
        }
        let landing = InFlightGuard(Arc::clone(&self.0));
        let work = work();
        let task = tracker.spawn(async move {
            let outcome = work.await;
            drop(landing);
            outcome
        });
        let joined = async move {
            task.await.unwrap_or_else(|error| {
                Err(Cause::Internal {
                    detail: format!("asking the provider ended early: {error}"),
                })
            })
        }
        .boxed()
        .shared();
        *slot = Some(joined.clone());
        joined
    }
}

impl<T> Default for SingleFlight<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> Drop for InFlightGuard<T> {
    fn drop(&mut self) {
        let landed = locked(&self.0).take();
        // Dropped without the lock: the outcome's own end may start other work.
        drop(landed);
    }
}

/// Locks also after another holder panicked: every critical section here leaves whole values.
pub(super) fn locked<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::{
        future::pending,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn one_run_for_all_who_wait_and_a_new_one_afterwards() {
        let (flight, tracker) = (SingleFlight::default(), TaskTracker::new());
        let runs = Arc::new(AtomicUsize::new(0));
        let (go, wait) = oneshot::channel::<()>();
        let run = |runs: Arc<AtomicUsize>| async move { Ok(runs.fetch_add(1, Ordering::SeqCst)) };
        let first = flight.join(
            &tracker,
            || None,
            || {
                let run = run(Arc::clone(&runs));
                async move {
                    let _ = wait.await;
                    run.await
                }
            },
        );
        let second = flight.join(&tracker, || None, pending);
        drop(first);
        let _ = go.send(());
        assert_eq!(second.await, Ok(0));
        let third = flight.join(&tracker, || None, || run(Arc::clone(&runs)));
        assert_eq!(third.await, Ok(1));
    }

    #[tokio::test]
    async fn a_panic_is_an_answer_and_not_the_end() {
        let (flight, tracker) = (SingleFlight::<()>::default(), TaskTracker::new());
        let failed = flight.join(&tracker, || None, || async { panic!("as tested") });
        assert!(matches!(failed.await, Err(Cause::Internal { .. })));
        assert_eq!(flight.join(&tracker, || Some(()), pending).await, Ok(()));
    }
}
