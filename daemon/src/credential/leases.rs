//! Leases of one kind of credential: what is held for each key, and one renewal at a time.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use rand::RngExt as _;
use tokio::{sync::watch, time::timeout};
use tokio_util::task::TaskTracker;

use super::single_flight::{SingleFlight, locked};
use crate::model::{Cause, Generation, Lease};

/// How long a renewal under way is waited for where something is held that may still do:
/// a renewal that hangs must not keep a client out that could get in.
const HEAD_START: Duration = Duration::from_secs(2);

/// How much of the interval a rotation comes earlier or later, so that sessions that were
/// opened together don't renew together for ever.
const JITTER: f64 = 0.1;

/// How often a credential is renewed by the timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RotationInterval {
    /// By no timer.
    #[default]
    Never,
    /// This long after it was issued, give or take a tenth.
    Every(Duration),
}

/// Leases by key.
pub(super) struct Leases<K, C> {
    slots: Mutex<HashMap<K, Arc<Slot<C>>>>,
    tracker: TaskTracker,
    renewals: Arc<RenewalCounts>,
}

#[derive(Default)]
struct RenewalCounts {
    done: AtomicU64,
    failed: AtomicU64,
}

/// How often leases of a kind were asked of the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Renewals {
    /// Issued.
    pub done: u64,
    /// Asked for, and not issued.
    pub failed: u64,
}

struct Slot<C> {
    held: watch::Sender<Option<Arc<Lease<C>>>>,
    /// Outlives what is held, so that a generation is never given twice.
    last: AtomicU64,
    flight: SingleFlight<Arc<Lease<C>>>,
}

// === impl RotationInterval ===

impl RotationInterval {
    /// When a credential issued at `issued_at` is due.
    pub(super) fn due(self, issued_at: Timestamp) -> Option<Timestamp> {
        let Self::Every(interval) = self else {
            return None;
        };
        let factor = rand::rng().random_range(1.0 - JITTER..=1.0 + JITTER);
        let wait = SignedDuration::try_from(interval.mul_f64(factor)).ok()?;
        issued_at.checked_add(wait).ok()
    }
}

impl From<Duration> for RotationInterval {
    /// Zero means never, as in the config file.
    fn from(interval: Duration) -> Self {
        if interval.is_zero() {
            Self::Never
        } else {
            Self::Every(interval)
        }
    }
}

// === impl Leases ===

impl<K, C> Leases<K, C>
where
    K: Hash + Eq + Clone,
    C: Send + Sync + 'static,
{
    pub(super) fn new(tracker: TaskTracker) -> Self {
        Self {
            slots: Mutex::default(),
            tracker,
            renewals: Arc::default(),
        }
    }

    /// A lease newer than `after`: the one held, else the outcome of a renewal, which all
    /// who ask meanwhile share. `renew` is called at most once; dropping the future doesn't
    /// end the renewal.
    pub(super) async fn get<F>(
        &self,
        key: &K,
        after: Option<Generation>,
        rotation: RotationInterval,
        renew: impl FnOnce() -> F,
    ) -> Result<Arc<Lease<C>>, Cause>
    where
        F: Future<Output = Result<C, Cause>> + Send + 'static,
    {
        let slot = self.slot(key);
        if let Some(held) = slot.newer_than(after) {
            let Some(renewal) = slot.flight.under_way() else {
                return Ok(held);
            };
            return match timeout(HEAD_START, renewal).await {
                Ok(Ok(lease)) => Ok(lease),
                Ok(Err(_)) | Err(_) => Ok(held),
            };
        }
        let work = || {
            let (slot, renewal) = (Arc::clone(&slot), renew());
            let counts = Arc::clone(&self.renewals);
            async move {
                let issued = renewal.await;
                let count = if issued.is_ok() {
                    &counts.done
                } else {
                    &counts.failed
                };
                count.fetch_add(1, Ordering::Relaxed);
                Ok(slot.hold(issued?, rotation))
            }
        };
        slot.flight
            .join(&self.tracker, || slot.newer_than(after), work)
            .await
    }

    /// How often the provider was asked.
    pub(super) fn renewals(&self) -> Renewals {
        Renewals {
            done: self.renewals.done.load(Ordering::Relaxed),
            failed: self.renewals.failed.load(Ordering::Relaxed),
        }
    }

    /// What is held, without asking anybody.
    pub(super) fn current(&self, key: &K) -> Option<Arc<Lease<C>>> {
        locked(&self.slots).get(key)?.held.borrow().clone()
    }

    /// What is held, now and whenever that changes.
    pub(super) fn watch(&self, key: &K) -> watch::Receiver<Option<Arc<Lease<C>>>> {
        self.slot(key).held.subscribe()
    }

    /// Drops what is held: the next who asks gets a new one.
    pub(super) fn forget(&self, key: &K) {
        if let Some(slot) = locked(&self.slots).get(key).cloned() {
            slot.held.send_replace(None);
        }
    }

    /// Gives the leases held for the keys that `applies` to another time of renewal.
    pub(super) fn reschedule(&self, rotation: RotationInterval, applies: impl Fn(&K) -> bool)
    where
        C: Clone,
    {
        let slots: Vec<_> = locked(&self.slots)
            .iter()
            .filter(|(key, _)| applies(key))
            .map(|(_, slot)| Arc::clone(slot))
            .collect();
        for slot in slots {
            slot.held.send_if_modified(|held| {
                let Some(lease) = held else { return false };
                *lease = Arc::new(Lease {
                    rotates_at: rotation.due(lease.issued_at),
                    ..(**lease).clone()
                });
                true
            });
        }
    }

    fn slot(&self, key: &K) -> Arc<Slot<C>> {
        let mut slots = locked(&self.slots);
        if let Some(slot) = slots.get(key) {
            return Arc::clone(slot);
        }
        let slot = Arc::new(Slot {
            held: watch::Sender::new(None),
            last: AtomicU64::new(0),
            flight: SingleFlight::default(),
        });
        slots.insert(key.clone(), Arc::clone(&slot));
        slot
    }
}

// === impl Slot ===

impl<C> Slot<C> {
    fn newer_than(&self, after: Option<Generation>) -> Option<Arc<Lease<C>>> {
        let held = self.held.borrow();
        let lease = held.as_ref()?;
        after
            .is_none_or(|after| lease.generation > after)
            .then(|| Arc::clone(lease))
    }

    fn hold(&self, credential: C, rotation: RotationInterval) -> Arc<Lease<C>> {
        let issued_at = Timestamp::now();
        let lease = Arc::new(Lease {
            generation: Generation(self.last.fetch_add(1, Ordering::Relaxed) + 1),
            issued_at,
            rotates_at: rotation.due(issued_at),
            credential,
        });
        self.held.send_replace(Some(Arc::clone(&lease)));
        lease
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, sync::atomic::AtomicUsize};

    use tokio::sync::oneshot;

    use super::*;

    fn leases() -> Leases<&'static str, u32> {
        Leases::new(TaskTracker::new())
    }

    async fn get(
        leases: &Leases<&'static str, u32>,
        after: Option<u64>,
        outcome: Result<u32, Cause>,
    ) -> Result<(u64, u32), Cause> {
        leases
            .get(
                &"a",
                after.map(Generation),
                RotationInterval::Never,
                || async { outcome },
            )
            .await
            .map(|lease| (lease.generation.0, lease.credential))
    }

    #[tokio::test]
    async fn held_until_a_newer_one_is_wanted() {
        let leases = leases();
        let mut watch = leases.watch(&"a");
        assert_eq!(
            get(&leases, None, Err(Cause::NotLoggedIn)).await,
            Err(Cause::NotLoggedIn)
        );
        assert_eq!(get(&leases, None, Ok(10)).await, Ok((1, 10)));
        assert!(watch.has_changed().unwrap());
        watch.mark_unchanged();
        assert_eq!(get(&leases, None, Ok(11)).await, Ok((1, 10)));
        assert_eq!(get(&leases, Some(0), Ok(11)).await, Ok((1, 10)));
        assert!(!watch.has_changed().unwrap());
        assert_eq!(get(&leases, Some(1), Ok(11)).await, Ok((2, 11)));
        assert_eq!(
            get(&leases, Some(2), Err(Cause::NoNetwork)).await,
            Err(Cause::NoNetwork)
        );
        assert_eq!(leases.current(&"a").map(|l| l.credential), Some(11));
        leases.forget(&"a");
        assert!(leases.current(&"a").is_none());
        assert_eq!(get(&leases, None, Ok(12)).await, Ok((3, 12)));
    }

    #[tokio::test]
    async fn many_waiters_share_one_renewal_and_may_go_away() {
        let leases = Arc::new(leases());
        let calls = Arc::new(AtomicUsize::new(0));
        let (go, wait) = oneshot::channel::<()>();
        let mut wait = Some(wait);
        let ask = |renew: Option<oneshot::Receiver<()>>| {
            let (leases, calls) = (Arc::clone(&leases), Arc::clone(&calls));
            async move {
                leases
                    .get(&"a", None, RotationInterval::Never, || {
                        calls.fetch_add(1, Ordering::SeqCst);
                        async move {
                            match renew {
                                Some(wait) => wait.await.unwrap(),
                                None => pending().await,
                            }
                            Ok(7)
                        }
                    })
                    .await
            }
        };
        let mut first = Box::pin(ask(wait.take()));
        assert!(futures_util::poll!(&mut first).is_pending());
        drop(first);
        let mut others: Vec<_> = (0..50).map(|_| Box::pin(ask(None))).collect();
        for other in &mut others {
            assert!(futures_util::poll!(other).is_pending());
        }
        others.truncate(30);
        go.send(()).unwrap();
        for other in others {
            assert_eq!(other.await.unwrap().credential, 7);
        }
        assert_eq!(calls.load(Ordering::SeqCst), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewal_that_hangs_keeps_nobody_out() {
        let leases = leases();
        get(&leases, None, Ok(1)).await.unwrap();
        let hanging = leases.get(&"a", Some(Generation(1)), RotationInterval::Never, || {
            pending::<Result<u32, Cause>>()
        });
        let mut hanging = Box::pin(hanging);
        assert!(futures_util::poll!(&mut hanging).is_pending());
        assert_eq!(get(&leases, None, Ok(9)).await, Ok((1, 1)));
    }

    #[test]
    fn rotation_is_due_around_the_interval() {
        let now = Timestamp::now();
        let every = RotationInterval::from(Duration::from_secs(1000));
        for _ in 0..200 {
            let wait = every.due(now).unwrap().duration_since(now).as_secs();
            assert!((899..=1100).contains(&wait), "{wait}");
        }
        assert_eq!(RotationInterval::from(Duration::ZERO).due(now), None);
    }

    #[tokio::test]
    async fn another_interval_moves_what_is_held() {
        let leases = leases();
        get(&leases, None, Ok(1)).await.unwrap();
        assert_eq!(leases.current(&"a").unwrap().rotates_at, None);
        leases.reschedule(RotationInterval::Every(Duration::from_secs(100)), |_| true);
        let lease = leases.current(&"a").unwrap();
        assert!(lease.rotates_at.is_some() && lease.generation == Generation(1));
    }
}
