//! What the tunnels to one bastion know together of the way there.
//!
//! They go the same way. So of those that nobody uses one asks for a sign of life for all, and
//! the others only now and then: fifty idle tunnels cost a laptop no more than a few. As soon as
//! one is left without an answer, all ask.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::{sync::watch, time::Instant};

/// The way to one bastion; clones are the same one.
#[derive(Debug, Clone)]
pub struct Route(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    /// Until when one of the tunnels answers for all.
    watched_until: Mutex<Option<Instant>>,
    /// How often a tunnel was left without an answer.
    doubts: watch::Sender<u64>,
}

// === impl Route ===

impl Default for Route {
    fn default() -> Self {
        Self(Arc::new(Parts {
            watched_until: Mutex::default(),
            doubts: watch::Sender::new(0),
        }))
    }
}

impl Route {
    /// Whether anything but the holder has it: a tunnel that is up, or being made.
    pub(crate) fn is_used(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// Whether the tunnel that asks is to watch over the way until `until`, as no other does.
    pub(super) fn watch_over(&self, now: Instant, until: Instant) -> bool {
        let watched = &self.0.watched_until;
        let mut watched = watched.lock().unwrap_or_else(PoisonError::into_inner);
        let is_free = watched.is_none_or(|until| until <= now);
        if is_free {
            *watched = Some(until);
        }
        is_free
    }

    /// A tunnel has no answer so far: all are to ask.
    pub(super) fn doubt(&self) {
        self.0.doubts.send_modify(|doubts| *doubts += 1);
    }

    /// Tells of each doubt from now on.
    pub(super) fn doubts(&self) -> watch::Receiver<u64> {
        self.0.doubts.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn one_at_a_time_watches_over_the_way() {
        let route = Route::default();
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        assert!(route.watch_over(at(0), at(5)));
        assert!(!route.watch_over(at(0), at(5)));
        assert!(!route.watch_over(at(4), at(9)));
        assert!(route.watch_over(at(5), at(10)));
    }
}
