//! What targets lead to: as it was looked up last, and looked up again, no more often than the
//! account's quota bears.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio_util::task::TaskTracker;

use super::single_flight::{Joined, SingleFlight, locked};
use crate::{
    model::{Cause, Resolved, Target},
    platform::clock::{BootInstant, Clock},
};

/// Look-ups that may follow each other at once: fifty sessions that reconnect together.
const BURST: u32 = 60;
/// One more in each of these. A line that flaps all day costs 360 calls of the account's 4,500
/// an hour.
const EVERY: Duration = Duration::from_secs(10);

/// What is known of targets.
#[derive(Default)]
pub(super) struct Targets {
    known: Mutex<HashMap<Target, Known>>,
    budget: Mutex<Budget>,
}

#[derive(Default)]
struct Known {
    resolved: Option<Resolved>,
    looked_up_at: Option<BootInstant>,
    flight: Arc<SingleFlight<Resolved>>,
}

/// How many look-ups there may be that nobody has asked for.
struct Budget {
    left: u32,
    since: Option<BootInstant>,
}

// === impl Targets ===

impl Targets {
    /// What it was when it was last looked up.
    pub(super) fn last(&self, target: &Target) -> Option<Resolved> {
        let known = locked(&self.known);
        known.get(target)?.resolved.clone()
    }

    /// When it was last looked up.
    pub(super) fn looked_up_at(&self, target: &Target) -> Option<BootInstant> {
        let known = locked(&self.known);
        known.get(target)?.looked_up_at
    }

    /// Takes note of what a look-up found.
    pub(super) fn learn(&self, target: &Target, resolved: &Resolved) {
        let mut known = locked(&self.known);
        let known = known.entry(target.clone()).or_default();
        known.resolved = Some(resolved.clone());
        known.looked_up_at = Some(Clock::now());
    }

    /// Takes note of what it led to under the daemon before, where no more is known.
    pub(super) fn remember(&self, target: &Target, resolved: &Resolved) {
        let mut known = locked(&self.known);
        let known = known.entry(target.clone()).or_default();
        known.resolved.get_or_insert_with(|| resolved.clone());
    }

    /// Whether one may be made that nobody has asked for.
    pub(super) fn may_look(&self) -> bool {
        locked(&self.budget).take(Clock::now())
    }

    /// Makes a look-up, or joins the one that is under way.
    pub(super) fn join<F>(
        &self,
        target: &Target,
        tracker: &TaskTracker,
        look_up: impl FnOnce() -> F,
    ) -> Joined<Resolved>
    where
        F: Future<Output = Result<Resolved, Cause>> + Send + 'static,
    {
        let flight = {
            let mut known = locked(&self.known);
            Arc::clone(&known.entry(target.clone()).or_default().flight)
        };
        flight.join(tracker, || None, look_up)
    }
}

// === impl Budget ===

impl Budget {
    fn take(&mut self, now: BootInstant) -> bool {
        let since = *self.since.get_or_insert(now);
        let more = now.since(since).as_secs() / EVERY.as_secs();
        if more > 0 {
            let more = u32::try_from(more).unwrap_or(BURST);
            self.left = self.left.saturating_add(more).min(BURST);
            self.since = Some(now);
        }
        let may = self.left > 0;
        self.left = self.left.saturating_sub(1);
        may
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            left: BURST,
            since: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_flap_all_day_leave_the_quota_to_others() {
        let mut budget = Budget::default();
        let at = |seconds: u64| BootInstant::since_boot(Duration::from_secs(1_000_000 + seconds));
        let taken = (0..3600).flat_map(|second| (0..50).map(move |_| second));
        let taken = taken.filter(|second| budget.take(at(*second))).count();
        assert!((360..=430).contains(&taken), "{taken}");
        // Fifty that come back together after an hour of quiet.
        assert!((0..50).all(|_| budget.take(at(7200))));
    }
}
