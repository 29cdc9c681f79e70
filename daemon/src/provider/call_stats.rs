//! How often an API was called and what it answered, and by how much its clock differs.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use jiff::{SignedDuration, Timestamp};

/// Counts the calls of one API since the start.
#[derive(Debug, Default)]
pub(super) struct CallStats(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    answers: BTreeMap<Option<u16>, u64>,
    skew: Option<SignedDuration>,
}

// === impl CallStats ===

impl CallStats {
    /// An attempt was answered with a status, or not at all.
    pub(super) fn count(&self, status: Option<u16>) {
        self.with(|counts| *counts.answers.entry(status).or_default() += 1);
    }

    /// The API's clock showed `theirs` when ours shows `ours`. It shows whole seconds.
    pub(super) fn compare_clocks(&self, theirs: Timestamp, ours: Timestamp) {
        self.with(|counts| counts.skew = Some(ours.duration_since(theirs)));
    }

    /// Attempts by status; `None` for those without an answer.
    pub(super) fn answers(&self) -> BTreeMap<Option<u16>, u64> {
        self.with(|counts| counts.answers.clone())
    }

    /// By how much our clock is ahead of the API's; `None` before its first answer.
    pub(super) fn skew(&self) -> Option<SignedDuration> {
        self.with(|counts| counts.skew)
    }

    fn with<T>(&self, work: impl FnOnce(&mut Counts) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
