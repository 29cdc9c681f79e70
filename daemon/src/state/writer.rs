//! A thread that writes the newest of several values: callers never wait for each other's
//! writes, only for one that holds theirs or a later one. What couldn't be written is
//! tried again until it can, or something newer is there.

use std::{
    fmt,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use crate::model::Cause;

/// The pause before a failed write is tried again.
const RETRY: Duration = Duration::from_secs(10);

/// Writes values of one kind to one place. Dropping it waits for the last write.
pub(super) struct Writer<T> {
    shared: Arc<Shared<T>>,
    thread: Option<JoinHandle<()>>,
}

struct Shared<T> {
    pending: Mutex<Pending<T>>,
    changed: Condvar,
}

struct Pending<T> {
    /// The newest value that was not written yet.
    value: Option<T>,
    /// One for each caller that waits; there are as many as callers.
    waiting: Vec<oneshot::Sender<Result<(), Cause>>>,
    /// Why the last write failed.
    problem: Option<Cause>,
    closed: bool,
    /// Nobody writes any more, or ever did: the thread couldn't be started, or has panicked.
    ended: bool,
}

/// Says that the thread has ended, however it did, and answers those who wait with it.
struct EndGuard<'a, T>(&'a Shared<T>);

// === impl Writer ===

impl<T: Send + 'static> Writer<T> {
    /// Starts the thread. `write` blocks; it is called with one value at a time.
    pub(super) fn new(
        name: &str,
        write: impl FnMut(&T) -> Result<(), Cause> + Send + 'static,
    ) -> Self {
        let shared = Arc::new(Shared {
            pending: Mutex::new(Pending {
                value: None,
                waiting: Vec::new(),
                problem: None,
                closed: false,
                ended: false,
            }),
            changed: Condvar::new(),
        });
        let for_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                let _guard = EndGuard(&for_thread);
                run(&for_thread, write);
            })
            .inspect_err(|error| tracing::error!(%error, name, "can't start the writing thread"))
            .ok();
        if thread.is_none() {
            drop(EndGuard(&shared));
        }
        Self { shared, thread }
    }

    /// Hands a value over, from async code too: nothing blocks. It replaces a value that
    /// was not begun to be written. The answer comes when it, or a later one, was written, and
    /// at once where nobody writes any more.
    pub(super) fn put(&self, value: T) -> oneshot::Receiver<Result<(), Cause>> {
        let (answer, written) = oneshot::channel();
        let mut pending = self.shared.lock();
        if pending.ended {
            // Who asked may have gone.
            let _ = answer.send(Err(ended()));
            return written;
        }
        pending.value = Some(value);
        pending.waiting.push(answer);
        self.shared.changed.notify_one();
        written
    }

    /// Why the last write failed; `None` once one succeeded.
    pub(super) fn problem(&self) -> Option<Cause> {
        self.shared.lock().problem.clone()
    }
}

impl<T> Drop for Writer<T> {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic in there has been reported by the panic hook.
            let _ = thread.join();
        }
    }
}

impl<T> fmt::Debug for Writer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

impl<T> Shared<T> {
    /// A panic can't leave the value half changed, so a poisoned lock is as good as any.
    fn lock(&self) -> MutexGuard<'_, Pending<T>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Drop for EndGuard<'_, T> {
    fn drop(&mut self) {
        let mut pending = self.0.lock();
        pending.ended = true;
        if !pending.closed {
            pending.problem = Some(ended());
        }
        for answer in std::mem::take(&mut pending.waiting) {
            // A caller may have gone.
            let _ = answer.send(Err(ended()));
        }
    }
}

fn ended() -> Cause {
    Cause::Internal {
        detail: "the thread that writes the state has ended".into(),
    }
}

fn run<T>(shared: &Shared<T>, mut write: impl FnMut(&T) -> Result<(), Cause>) {
    let mut failed: Option<(T, Instant)> = None;
    loop {
        let (value, waiting, closed) = {
            let mut pending = shared.lock();
            loop {
                if pending.value.is_some() || pending.closed {
                    break;
                }
                pending = match &failed {
                    None => shared
                        .changed
                        .wait(pending)
                        .unwrap_or_else(PoisonError::into_inner),
                    Some((_, again_at)) => {
                        let pause = again_at.saturating_duration_since(Instant::now());
                        if pause.is_zero() {
                            break;
                        }
                        shared
                            .changed
                            .wait_timeout(pending, pause)
                            .unwrap_or_else(PoisonError::into_inner)
                            .0
                    }
                };
            }
            let newest = pending.value.take();
            let value = newest.or_else(|| failed.take().map(|(value, _)| value));
            (value, std::mem::take(&mut pending.waiting), pending.closed)
        };
        if let Some(value) = value {
            let result = write(&value);
            shared.lock().problem = result.clone().err();
            failed = match &result {
                Ok(()) => None,
                Err(cause) => {
                    tracing::error!(%cause, "not saved");
                    Some((value, Instant::now() + RETRY))
                }
            };
            for answer in waiting {
                // A caller may have gone.
                let _ = answer.send(result.clone());
            }
        }
        if closed {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn the_newest_value_wins_and_all_are_answered() {
        let (started, start) = mpsc::sync_channel(0);
        let (go_on, wait) = mpsc::sync_channel(0);
        let written = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&written);
        let writer = Writer::new("test", move |value: &u32| {
            started.send(()).unwrap();
            wait.recv().unwrap();
            record.lock().unwrap().push(*value);
            Ok(())
        });
        let first = writer.put(1);
        start.recv().unwrap();
        // While the first is being written, two more arrive.
        let (second, third) = (writer.put(2), writer.put(3));
        go_on.send(()).unwrap();
        first.await.unwrap().unwrap();
        start.recv().unwrap();
        go_on.send(()).unwrap();
        second.await.unwrap().unwrap();
        third.await.unwrap().unwrap();
        assert_eq!(*written.lock().unwrap(), [1, 3]);
    }

    #[tokio::test]
    async fn a_failure_is_answered_and_remembered_until_a_success() {
        let cause = Cause::Internal {
            detail: "test".into(),
        };
        let failing = cause.clone();
        let writer = Writer::new(
            "test",
            move |fails: &bool| {
                if *fails { Err(failing.clone()) } else { Ok(()) }
            },
        );
        assert_eq!(writer.put(true).await.unwrap(), Err(cause.clone()));
        assert_eq!(writer.problem(), Some(cause));
        assert_eq!(writer.put(false).await.unwrap(), Ok(()));
        assert_eq!(writer.problem(), None);
    }

    #[tokio::test]
    async fn where_nobody_writes_any_more_everybody_is_answered() {
        let (started, start) = mpsc::sync_channel(0);
        let (go_on, wait) = mpsc::sync_channel::<()>(0);
        let writer = Writer::new("test", move |_: &u32| {
            started.send(()).unwrap();
            wait.recv().unwrap();
            panic!("on purpose");
        });
        let being_written = writer.put(1);
        start.recv().unwrap();
        let waiting = writer.put(2);
        go_on.send(()).unwrap();
        assert_eq!(waiting.await.unwrap(), Err(ended()));
        // Its answer went with the thread.
        assert!(being_written.await.is_err());
        assert_eq!(writer.put(3).await.unwrap(), Err(ended()));
        assert_eq!(writer.problem(), Some(ended()));
    }

    #[test]
    fn dropping_waits_for_the_last_write() {
        let written = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&written);
        let writer = Writer::new("test", move |value: &u32| {
            record.lock().unwrap().push(*value);
            Ok(())
        });
        drop(writer.put(7));
        drop(writer);
        assert_eq!(*written.lock().unwrap(), [7]);
    }
}
