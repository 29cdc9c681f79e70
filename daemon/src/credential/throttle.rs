//! How many calls of the provider there are at a time, of all who ask in the user's name.

use std::{sync::Mutex, time::Duration};

use tokio::sync::{Semaphore, SemaphorePermit};

use super::single_flight::locked;
use crate::{
    model::Cause,
    platform::clock::{BootInstant, Clock},
};

/// Operations at a time. Fifty sessions that a restart brings back ask one after the other.
const AT_A_TIME: usize = 6;
/// How long there is one at a time after the provider said that there were too many, unless
/// it asks for longer.
const NARROW_FOR: Duration = Duration::from_secs(60);

/// Hands out the places.
pub(super) struct Throttle {
    all: Semaphore,
    /// The one place there is while the rate limit is reached.
    narrow: Semaphore,
    narrow_until: Mutex<Option<BootInstant>>,
}

/// A place for one operation. Semaphores that are never closed give one each.
pub(super) struct Place<'a> {
    _all: Option<SemaphorePermit<'a>>,
    _narrow: Option<SemaphorePermit<'a>>,
}

// === impl Throttle ===

impl Throttle {
    /// Waits for a place, in the order in which they were asked for.
    pub(super) async fn place(&self) -> Place<'_> {
        let is_narrow = locked(&self.narrow_until).is_some_and(|until| until > Clock::now());
        let narrow = match is_narrow {
            true => self.narrow.acquire().await.ok(),
            false => None,
        };
        Place {
            _narrow: narrow,
            _all: self.all.acquire().await.ok(),
        }
    }

    /// Takes note of how an operation ended.
    pub(super) fn learn<T>(&self, outcome: &Result<T, Cause>) {
        if let Err(Cause::RateLimited { retry_after }) = outcome {
            let pause = retry_after.unwrap_or_default().max(NARROW_FOR);
            *locked(&self.narrow_until) = Some(Clock::now() + pause);
        }
    }
}

impl Default for Throttle {
    fn default() -> Self {
        Self {
            all: Semaphore::new(AT_A_TIME),
            narrow: Semaphore::new(1),
            narrow_until: Mutex::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn a_handful_at_a_time_and_one_where_there_were_too_many() {
        let throttle = Throttle::default();
        let take = || throttle.place().now_or_never();
        let places: Vec<_> = (0..50).filter_map(|_| take()).collect();
        assert_eq!(places.len(), AT_A_TIME);
        drop(places);
        throttle.learn::<()>(&Err(Cause::RateLimited { retry_after: None }));
        let places: Vec<_> = (0..50).filter_map(|_| take()).collect();
        assert_eq!(places.len(), 1);
        drop(places);
        assert!(take().is_some());
    }
}
