//! Which events are to be saved, and when it is time to.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use crate::model::Cause;

/// Which events are not saved as they are now.
#[derive(Debug, Default)]
pub(super) struct Unsaved {
    pub(super) sequences: BTreeSet<u64>,
    /// One of them is new.
    pub(super) is_news: bool,
    /// Since when one of them only has another count.
    pub(super) counted_since: Option<Instant>,
    /// Whoever saves is to end.
    pub(super) closed: bool,
    /// Why the last attempt to save failed.
    pub(super) problem: Option<Cause>,
}

// === impl Unsaved ===

impl Unsaved {
    pub(super) fn added(&mut self, sequence: u64) {
        self.sequences.insert(sequence);
        self.is_news = true;
    }

    pub(super) fn counted(&mut self, sequence: u64) {
        self.sequences.insert(sequence);
        self.counted_since.get_or_insert_with(Instant::now);
    }

    /// When it is time to save; `None` while there is nothing to save.
    pub(super) fn due(
        &self,
        counts_after: Duration,
        not_before: Option<Instant>,
    ) -> Option<Instant> {
        let now = Instant::now();
        match self.counted_since {
            _ if self.closed => Some(now),
            _ if self.sequences.is_empty() => None,
            Some(since) if !self.is_news => Some(since + counts_after),
            _ => Some(now),
        }
        .map(|due| {
            not_before
                .filter(|_| !self.closed)
                .map_or(due, |at| due.max(at))
        })
    }
}
