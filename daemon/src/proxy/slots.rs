//! How many connections a session has, and may have.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use super::CurrentLimits;
use crate::model::Cause;

/// The connections that a session may have.
pub(crate) struct Slots {
    taken: Arc<AtomicU32>,
    limits: CurrentLimits,
}

/// One connection's place; given up when it is dropped.
pub(crate) struct Slot(Arc<AtomicU32>);

// === impl Slots ===

impl Slots {
    /// As many as the limits of the moment say.
    pub(crate) fn new(limits: CurrentLimits) -> Self {
        Self {
            taken: Arc::default(),
            limits,
        }
    }

    /// A place. A limit that is lowered ends no connection.
    ///
    /// # Errors
    /// `TooManyConnections`.
    pub(crate) fn take(&self) -> Result<Slot, Cause> {
        let limit = self.limits.borrow().max_connections;
        let one_more = |taken: u32| (taken < limit).then_some(taken + 1);
        self.taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
            .map_err(|_| Cause::TooManyConnections { limit })?;
        Ok(Slot(Arc::clone(&self.taken)))
    }
}

// === impl Slot ===

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
