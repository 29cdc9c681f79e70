//! When a text that tells an age or a time left becomes another one. Until then nothing is drawn.

use std::time::Duration;

use jiff::Timestamp;

use super::super::time::timestamp;

/// What changes soonest of some texts.
#[derive(Debug)]
pub(super) struct Clock {
    now: Timestamp,
    soonest: Option<Duration>,
}

/// Several texts that change within so short a time are drawn together.
const TOGETHER: Duration = Duration::from_millis(100);

// === impl Clock ===

impl Clock {
    pub(super) fn at(now: Timestamp) -> Self {
        Self { now, soonest: None }
    }

    /// A text that tells how long ago `time` was, or how far off it is, as `time::since` and
    /// `until` do: in seconds below a minute, else in minutes.
    pub(super) fn shows(&mut self, time: Option<&prost_types::Timestamp>) {
        let Some(time) = time.and_then(timestamp) else {
            return;
        };
        let age = self.now.duration_since(time).as_millis();
        let unit = if age.abs() < 60_000 { 1000 } else { 60_000 };
        let next = if age < 0 {
            // What is left is rounded down: it is less a moment after the full unit.
            age.abs() % unit + 1
        } else {
            unit - age % unit
        };
        self.within(Duration::from_millis(u64::try_from(next).unwrap_or(1000)));
    }

    /// Something that changes after such a time.
    pub(super) fn within(&mut self, time: Duration) {
        let time = time.max(TOGETHER);
        self.soonest = Some(self.soonest.map_or(time, |soonest| soonest.min(time)));
    }

    /// After what time something changes; `None` where nothing does.
    pub(super) fn soonest(self) -> Option<Duration> {
        self.soonest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::time::{since, until};

    #[test]
    fn a_text_changes_when_its_clock_says_and_not_before() {
        let zero = prost_types::Timestamp {
            seconds: 1_000_000,
            nanos: 700_000_000,
        };
        let start = timestamp(&zero).unwrap();
        for millis in [
            -7_500_000, -60_000, -59_999, -5300, -1000, 0, 300, 1000, 59_999, 60_000, 61_234,
            7_500_000,
        ] {
            let now = start + jiff::SignedDuration::from_millis(millis);
            let mut clock = Clock::at(now);
            clock.shows(Some(&zero));
            let next = clock.soonest().unwrap();
            let text = |at| (since(Some(&zero), at), until(Some(&zero), at));
            let then = now + next;
            assert_ne!(text(now), text(then), "{millis} ms and {next:?}");
            if next > TOGETHER {
                let before = then - Duration::from_millis(1);
                assert_eq!(text(now), text(before), "{millis} ms and {next:?}");
            }
        }
        assert_eq!(Clock::at(start).soonest(), None);
    }
}
