//! How the events get to a file. The ring itself is the queue: nothing is held twice, and what
//! it forgets before it could be saved, as while a disk is full, is lost.

use std::{
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use super::{Journal, Ring};
use crate::{
    journal::{Event, Record},
    model::Cause,
};

// === impl Journal ===

impl Journal {
    /// Blocks until there are events to save, and takes them, the oldest first. One that is new
    /// is told at once; one that only has another count so much later, so that what repeats all
    /// day doesn't write all day. `not_before` is for one who couldn't save them.
    /// `None` after [`Journal::close`], once all are taken.
    pub(crate) fn take_unsaved(
        &self,
        counts_after: Duration,
        not_before: Option<Instant>,
    ) -> Option<Vec<Record>> {
        let mut ring = self.ring();
        loop {
            let changed = &self.0.changed;
            ring = match ring.unsaved.due(counts_after, not_before) {
                None => changed.wait(ring).unwrap_or_else(PoisonError::into_inner),
                Some(due) => {
                    let pause = due.saturating_duration_since(Instant::now());
                    if pause.is_zero() {
                        let is_last = ring.unsaved.closed;
                        let taken = ring.take_unsaved();
                        return (!taken.is_empty() || !is_last).then_some(taken);
                    }
                    let waited = changed.wait_timeout(ring, pause);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// All that is remembered, the oldest first.
    pub(crate) fn records(&self) -> Vec<Record> {
        let ring = self.ring();
        let earlier = ring.earlier.iter().map(|record| Record::clone(record));
        let recent = ring.events.iter().map(|event| Record::from(&**event));
        earlier.chain(recent).collect()
    }

    /// What came of saving what was taken. What failed is taken again with
    /// the next, unless the daemon ends.
    pub(crate) fn saved(&self, taken: &[Record], outcome: Result<(), Cause>) {
        let mut ring = self.ring();
        if outcome.is_err() && !ring.unsaved.closed {
            let sequences = taken.iter().map(|record| record.sequence);
            ring.unsaved.sequences.extend(sequences);
            ring.unsaved.is_news = true;
        }
        ring.unsaved.problem = outcome.err();
    }

    /// Why events of late are not saved; `None` where they are.
    pub fn problem(&self) -> Option<Cause> {
        self.ring().unsaved.problem.clone()
    }

    /// Lets go whoever saves events, once all are saved.
    pub(crate) fn close(&self) {
        self.ring().unsaved.closed = true;
        self.0.changed.notify_all();
    }
}

// === impl Ring ===

impl Ring {
    fn take_unsaved(&mut self) -> Vec<Record> {
        let sequences = std::mem::take(&mut self.unsaved.sequences);
        (self.unsaved.is_news, self.unsaved.counted_since) = (false, None);
        let known = |sequence: u64| {
            let key = |event: &Arc<Event>| event.sequence;
            let place = self.events.binary_search_by_key(&sequence, key).ok()?;
            Some(Record::from(&*self.events[place]))
        };
        sequences.into_iter().filter_map(known).collect()
    }
}
