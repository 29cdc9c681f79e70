//! Leases of one kind of credential: what is held for each key, one renewal at a time, and one
//! timer that says when it is due.

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
use tokio::{
    sync::{Notify, watch},
    time::{sleep, timeout},
};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::{
    single_flight::{SingleFlight, locked},
    standing::{Refusal, Standing},
};
use crate::{
    model::{Cause, Generation, Lease},
    platform::clock::{self, BootInstant, Clock},
};

/// How long a renewal under way is waited for where something is held that may still do:
/// a renewal that hangs must not keep a client out that could get in.
const HEAD_START: Duration = Duration::from_secs(2);

/// How much of the interval a rotation comes earlier or later, so that sessions that were
/// opened together don't renew together for ever.
const JITTER: f64 = 0.1;

/// How much later than a tenth after its interval a credential is due that is renewed beside
/// another one, as a rule: the SSH key with a database user. Its own timer is for when there
/// is no other.
const BESIDE: f64 = 1.2;

/// The wait before a credential is due again whose check or renewal came to nothing.
const CHECK_PAUSE: Duration = Duration::from_secs(300);

/// The longest sleep of a timer: due times are checked against the clock that people see, and
/// the runtime's timers stand still while the machine sleeps.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// How often a credential is renewed by the timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RotationInterval {
    /// By no timer.
    #[default]
    Never,
    /// This long after it was issued, give or take a tenth.
    Every(Duration),
    /// By the timer of another one that is due [`Every`](Self::Every) so long, and by its own a
    /// little later, where there is no other.
    Beside(Duration),
}

/// Which lease is good enough.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wanted {
    /// The one held, unless it was refused.
    Any,
    /// The same, and the user waits: renewals that are held back are begun for it all the same.
    Insisted,
    /// One later than this.
    After(Generation),
    /// One that was issued since then: the user asked for it. Renewals that are held back are
    /// begun for it all the same.
    Since(BootInstant),
}

/// The right to find out whether a credential that is due still works, and to renew it.
/// Dropped without an end, it is given again later.
#[derive(Debug)]
pub struct DueCheck {
    /// Of the credential that is due.
    pub generation: Generation,
    again: Arc<Notify>,
    is_settled: bool,
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
    held_since: Mutex<Option<BootInstant>>,
    standing: Mutex<Standing>,
    /// Why nobody is let in with what the provider issues.
    trouble: watch::Sender<Option<Cause>>,
    /// The generation that is due, until somebody takes care of it.
    due: Arc<watch::Sender<Option<Generation>>>,
    /// It is to be due again, after a pause.
    again: Arc<Notify>,
    timer: Mutex<Option<AbortOnDropHandle<()>>>,
    /// Outlives what is held, so that a generation is never given twice.
    last: AtomicU64,
    flight: SingleFlight<Arc<Lease<C>>>,
}

// === impl RotationInterval ===

impl RotationInterval {
    /// When a credential issued at `issued_at` is due.
    pub(super) fn due(self, issued_at: Timestamp) -> Option<Timestamp> {
        let around = rand::rng().random_range(1.0 - JITTER..=1.0 + JITTER);
        let (interval, factor) = match self {
            Self::Never => return None,
            Self::Every(interval) => (interval, around),
            Self::Beside(interval) => (interval, around * BESIDE),
        };
        let wait = SignedDuration::try_from(interval.mul_f64(factor)).ok()?;
        issued_at.checked_add(wait).ok()
    }
}

impl RotationInterval {
    /// The same, for a credential that is renewed beside another one.
    pub(super) fn beside(self) -> Self {
        match self {
            Self::Every(interval) => Self::Beside(interval),
            other => other,
        }
    }

    /// Whether what is due at `due` is better renewed together with another one now.
    pub(super) fn is_near(self, due: Timestamp, now: Timestamp) -> bool {
        let interval = match self {
            Self::Never => return false,
            Self::Every(interval) | Self::Beside(interval) => interval,
        };
        let left = Duration::try_from(due.duration_since(now)).unwrap_or_default();
        left <= interval / 2
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

    /// A lease that is good enough: the one held, else the outcome of a renewal, which all who
    /// ask meanwhile share. `renew` is called at most once; dropping the future doesn't end the
    /// renewal.
    ///
    /// # Errors
    /// Why the provider issues none; at once, where renewals are held back.
    pub(super) async fn get<F>(
        &self,
        key: &K,
        wanted: Wanted,
        rotation: RotationInterval,
        renew: impl FnOnce() -> F,
    ) -> Result<Arc<Lease<C>>, Cause>
    where
        F: Future<Output = Result<C, Cause>> + Send + 'static,
    {
        let slot = self.slot(key);
        if let Some(held) = slot.good_enough(wanted) {
            let Some(renewal) = slot.flight.under_way() else {
                return Ok(held);
            };
            return match timeout(HEAD_START, renewal).await {
                Ok(Ok(lease)) => Ok(lease),
                Ok(Err(_)) | Err(_) => Ok(held),
            };
        }
        if !matches!(wanted, Wanted::Since(_) | Wanted::Insisted)
            && let Some(cause) = slot.held_back()
        {
            return Err(cause);
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
            .join(&self.tracker, || slot.good_enough(wanted), work)
            .await
    }

    /// A lease was let in.
    pub(super) fn accepted(&self, key: &K, generation: Generation) {
        let slot = self.slot(key);
        locked(&slot.standing).accepted(generation);
        slot.tell_trouble(None);
    }

    /// A lease was refused. Where that is one of several fresh ones in a row, `trouble` says
    /// why renewals are held back.
    pub(super) fn refused(&self, key: &K, generation: Generation, trouble: &Cause) -> Refusal {
        let slot = self.slot(key);
        let jitter = rand::rng().random_range(0.0..1.0);
        let (refusal, is_broken) = {
            let mut standing = locked(&slot.standing);
            let refusal = standing.refused(generation, Clock::now(), jitter);
            (refusal, standing.is_broken())
        };
        if is_broken {
            slot.tell_trouble(Some(trouble));
        }
        refusal
    }

    /// What is known of the leases of a key.
    pub(super) fn with_standing<T>(&self, key: &K, ask: impl FnOnce(&Standing) -> T) -> T {
        ask(&locked(&self.slot(key).standing))
    }

    /// Why nobody is let in with what the provider issues, now and whenever that changes.
    pub(super) fn watch_trouble(&self, key: &K) -> watch::Receiver<Option<Cause>> {
        self.slot(key).trouble.subscribe()
    }

    /// Why the provider isn't asked for another one for now.
    pub(super) fn held_back(&self, key: &K) -> Option<Cause> {
        self.slot(key).held_back()
    }

    /// The generation that is due, now and whenever that changes.
    pub(super) fn watch_due(&self, key: &K) -> watch::Receiver<Option<Generation>> {
        self.slot(key).due.subscribe()
    }

    /// Takes care of what is due, where it is and nobody else does.
    pub(super) fn begin_check(&self, key: &K) -> Option<DueCheck> {
        let slot = self.slot(key);
        let mut generation = None;
        slot.due.send_if_modified(|due| {
            generation = due.take();
            generation.is_some()
        });
        Some(DueCheck {
            generation: generation?,
            again: Arc::clone(&slot.again),
            is_settled: false,
        })
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
                slot.start_timer(lease);
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
            held_since: Mutex::default(),
            standing: Mutex::default(),
            trouble: watch::Sender::new(None),
            due: Arc::new(watch::Sender::new(None)),
            again: Arc::default(),
            timer: Mutex::default(),
            last: AtomicU64::new(0),
            flight: SingleFlight::default(),
        });
        slots.insert(key.clone(), Arc::clone(&slot));
        slot
    }
}

// === impl Slot ===

impl<C> Slot<C> {
    /// What is held, where that will do. What was refused never will.
    fn good_enough(&self, wanted: Wanted) -> Option<Arc<Lease<C>>> {
        let lease = self.held.borrow().clone()?;
        let fits = match wanted {
            Wanted::Any | Wanted::Insisted => true,
            Wanted::After(generation) => lease.generation > generation,
            Wanted::Since(asked) => *locked(&self.held_since) >= Some(asked),
        };
        let is_refused = locked(&self.standing).is_refused(lease.generation);
        (fits && !is_refused).then_some(lease)
    }

    fn held_back(&self) -> Option<Cause> {
        let is_held = locked(&self.standing).is_held(Clock::now());
        is_held.then(|| self.trouble.borrow().clone())?
    }

    fn tell_trouble(&self, cause: Option<&Cause>) {
        self.trouble.send_if_modified(|trouble| {
            let changes = trouble.as_ref() != cause;
            if changes {
                *trouble = cause.cloned();
            }
            changes
        });
    }

    fn hold(&self, credential: C, rotation: RotationInterval) -> Arc<Lease<C>> {
        let issued_at = clock::timestamp();
        let lease = Arc::new(Lease {
            generation: Generation(self.last.fetch_add(1, Ordering::Relaxed) + 1),
            issued_at,
            rotates_at: rotation.due(issued_at),
            credential,
        });
        *locked(&self.held_since) = Some(Clock::now());
        self.held.send_replace(Some(Arc::clone(&lease)));
        self.start_timer(&lease);
        lease
    }

    /// One for the lease that is held, in the place of the one before.
    fn start_timer(&self, lease: &Lease<C>) {
        self.due.send_if_modified(|due| due.take().is_some());
        let timer = lease.rotates_at.map(|due| {
            let timer = timer(
                lease.generation,
                due,
                Arc::clone(&self.due),
                Arc::clone(&self.again),
            );
            AbortOnDropHandle::new(tokio::spawn(timer))
        });
        *locked(&self.timer) = timer;
    }
}

/// Says that a generation is due once it is, and again some time after a check that came to
/// nothing.
async fn timer(
    generation: Generation,
    at: Timestamp,
    due: Arc<watch::Sender<Option<Generation>>>,
    again: Arc<Notify>,
) {
    loop {
        let left = Duration::try_from(at.duration_since(clock::timestamp())).unwrap_or_default();
        if left.is_zero() {
            break;
        }
        sleep(left.min(LONGEST_SLEEP)).await;
    }
    loop {
        due.send_replace(Some(generation));
        again.notified().await;
        sleep(CHECK_PAUSE).await;
    }
}

// === impl DueCheck ===

impl DueCheck {
    /// Nothing more is to be done for this generation: it was renewed, or somebody has taken it
    /// away.
    pub fn settle(mut self) {
        self.is_settled = true;
    }
}

impl Drop for DueCheck {
    fn drop(&mut self) {
        if !self.is_settled {
            self.again.notify_one();
        }
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
                after.map_or(Wanted::Any, |after| Wanted::After(Generation(after))),
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
                    .get(&"a", Wanted::Any, RotationInterval::Never, || {
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
        let wanted = Wanted::After(Generation(1));
        let hanging = leases.get(&"a", wanted, RotationInterval::Never, || {
            pending::<Result<u32, Cause>>()
        });
        let mut hanging = Box::pin(hanging);
        assert!(futures_util::poll!(&mut hanging).is_pending());
        assert_eq!(get(&leases, None, Ok(9)).await, Ok((1, 1)));
    }

    #[test]
    fn rotation_is_due_around_the_interval() {
        let now = clock::timestamp();
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
