//! Ways that are gone at the same time, and told one after the other.

use std::sync::Arc;

use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
};

use super::Check;

/// Ways that are gone at a time. Each logs in to a bastion, perhaps all to the same one, and
/// OpenSSH turns new connections away while ten have not logged in (`MaxStartups`).
const AT_ONCE: usize = 4;
/// More checks than a way has: none may wait for those before it to be told, which may
/// themselves wait for its turn to be over.
const CHECKS: usize = 32;

/// Goes every way, a few at a time, and sends their checks in the order of the ways, each as soon
/// as all before it have been sent. Dropping the future ends those under way.
pub(super) async fn side_by_side<W, F>(
    ways: impl IntoIterator<Item = W>,
    checks: &mpsc::Sender<Check>,
) where
    W: FnOnce(mpsc::Sender<Check>) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let mut under_way = JoinSet::new();
    let mut found = Vec::new();
    for way in ways {
        let (sender, receiver) = mpsc::channel(CHECKS);
        found.push(receiver);
        let way = way(sender);
        let turns = Arc::clone(&turns);
        under_way.spawn(async move {
            // It is never closed.
            let _turn = turns.acquire_owned().await;
            way.await;
        });
    }
    for mut of_one_way in found {
        while let Some(check) = of_one_way.recv().await {
            // Who asked may have gone.
            if checks.send(check).await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering::SeqCst},
        time::Duration,
    };

    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::doctor::Outcome;

    fn check(subject: usize) -> Check {
        Check {
            id: "session",
            subject: subject.to_string(),
            outcome: Outcome::Ok,
            found: String::new(),
            hint: String::new(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_at_a_time_are_asked_and_all_are_told_in_order() {
        static NOW: AtomicUsize = AtomicUsize::new(0);
        static MOST: AtomicUsize = AtomicUsize::new(0);
        let (sender, mut told) = mpsc::channel(1);
        let ways = (0..50).map(|number| {
            move |checks: mpsc::Sender<Check>| async move {
                MOST.fetch_max(NOW.fetch_add(1, SeqCst) + 1, SeqCst);
                for _ in 0..12 {
                    // A bastion that doesn't answer.
                    sleep(Duration::from_secs(1)).await;
                    let _ = checks.send(check(number)).await;
                }
                NOW.fetch_sub(1, SeqCst);
            }
        });
        let began = Instant::now();
        let asking = async {
            side_by_side(ways, &sender).await;
            drop(sender);
        };
        let hearing = async {
            let mut subjects = Vec::new();
            while let Some(check) = told.recv().await {
                subjects.push(check.subject.parse::<usize>().unwrap());
            }
            subjects
        };
        let ((), subjects) = tokio::join!(asking, hearing);
        assert_eq!(subjects.len(), 50 * 12);
        assert!(subjects.is_sorted());
        assert_eq!(MOST.load(SeqCst), AT_ONCE);
        // One after the other they take ten minutes.
        assert_eq!(
            began.elapsed(),
            Duration::from_secs(50_u64.div_ceil(4) * 12)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_waits_for_any_more_is_ended() {
        let (sender, mut told) = mpsc::channel(1);
        let (ended, mut end) = mpsc::channel::<()>(1);
        let ways = (0..8).map(|number| {
            let ended = ended.clone();
            move |checks: mpsc::Sender<Check>| async move {
                let _ended = ended;
                let _ = checks.send(check(number)).await;
                std::future::pending::<()>().await;
            }
        });
        let asking = tokio::spawn({
            let ways: Vec<_> = ways.collect();
            async move { side_by_side(ways, &sender).await }
        });
        drop(ended);
        assert_eq!(told.recv().await.unwrap().subject, "0");
        asking.abort();
        assert_eq!(end.recv().await, None, "every way has been dropped");
    }
}
