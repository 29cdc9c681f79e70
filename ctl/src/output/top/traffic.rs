//! How much passed of late: the rate of the moment, and the minutes before it as a line of bars.

use std::collections::VecDeque;

use borealis_proto::v1;
use jiff::Timestamp;

/// How many seconds are remembered and shown.
pub(super) const WINDOW: i64 = 180;
/// Counters are told once a second. A rate holds until the next should have come.
const FRESH: i64 = 2000;

/// What passed within one second.
#[derive(Debug, Clone, Copy)]
struct Second {
    at: i64,
    bytes: v1::ByteCounts,
}

/// What passed in one session of late.
#[derive(Debug, Clone, Default)]
pub(super) struct Traffic {
    /// The last counters, and when they were told.
    told: Option<(Timestamp, v1::ByteCounts)>,
    rate: v1::ByteCounts,
    /// Seconds in which something passed, the oldest first.
    seconds: VecDeque<Second>,
}

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Sent,
    Received,
}

// === impl Traffic ===

impl Traffic {
    /// Takes a session's counters. Lower ones are those of a daemon that began anew.
    pub(super) fn take(&mut self, bytes: v1::ByteCounts, now: Timestamp) {
        let before = self.told.replace((now, bytes));
        let Some((then, before)) = before else {
            return;
        };
        let passed = v1::ByteCounts {
            sent: bytes.sent.saturating_sub(before.sent),
            received: bytes.received.saturating_sub(before.received),
        };
        let millis = now.duration_since(then).as_millis().clamp(1000, 3_600_000);
        let rate = |bytes: u64| {
            u64::try_from(u128::from(bytes) * 1000 / millis.unsigned_abs()).unwrap_or(u64::MAX)
        };
        self.rate = v1::ByteCounts {
            sent: rate(passed.sent),
            received: rate(passed.received),
        };
        if passed != v1::ByteCounts::default() {
            let at = now.as_second();
            self.seconds.push_back(Second { at, bytes: passed });
        }
        self.forget(now);
    }

    /// Drops what has passed out of sight.
    pub(super) fn forget(&mut self, now: Timestamp) {
        while self
            .seconds
            .front()
            .is_some_and(|second| second.at <= now.as_second() - WINDOW)
        {
            self.seconds.pop_front();
        }
    }

    /// Bytes a second at the moment.
    pub(super) fn rate(&self, way: Way, now: Timestamp) -> u64 {
        let fresh = self.told.is_some_and(|(told, _)| {
            now.duration_since(told).as_millis().unsigned_abs() < FRESH.unsigned_abs().into()
        });
        if fresh { way.of(self.rate) } else { 0 }
    }

    /// Whether something is in sight: the bars move on.
    pub(super) fn is_moving(&self) -> bool {
        !self.seconds.is_empty()
    }

    /// The last minutes in so many bars; as blanks where nothing passed. The highest bar is the
    /// most that passed in one of them, so each line has a scale of its own.
    pub(super) fn bars(&self, way: Way, width: usize, now: Timestamp) -> String {
        const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
        let mut sums = vec![0_u64; width];
        let columns = i64::try_from(width).unwrap_or(WINDOW);
        for second in &self.seconds {
            let age = (now.as_second() - second.at).clamp(0, WINDOW - 1);
            let from_right = age * columns / WINDOW;
            let column = usize::try_from(columns - 1 - from_right).unwrap_or(0);
            if let Some(sum) = sums.get_mut(column) {
                *sum = sum.saturating_add(way.of(second.bytes));
            }
        }
        let most = sums.iter().copied().max().unwrap_or(0);
        let bar = |sum: u64| match sum {
            0 => ' ',
            // By the logarithm: beside a dump one still sees the queries.
            sum => {
                let part = (sum as f64).ln_1p() / (most as f64).ln_1p();
                BARS[((part * 8.0).ceil() as usize).clamp(1, 8) - 1]
            }
        };
        sums.into_iter().map(bar).collect()
    }
}

// === impl Way ===

impl Way {
    fn of(self, bytes: v1::ByteCounts) -> u64 {
        match self {
            Self::Sent => bytes.sent,
            Self::Received => bytes.received,
        }
    }
}

/// `0`, `512`, `1.5k`, `20M`: three digits at most.
pub(super) fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["", "k", "M", "G"] {
        if value < 999.5 {
            let digits = usize::from(!unit.is_empty() && value < 9.95);
            return format!("{value:.digits$}{unit}");
        }
        value /= 1024.0;
    }
    format!("{value:.0}T")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_795_000_000 + second).unwrap()
    }

    fn bytes(sent: u64, received: u64) -> v1::ByteCounts {
        v1::ByteCounts { sent, received }
    }

    #[test]
    fn rates_are_by_the_second_and_end_with_the_traffic() {
        let mut traffic = Traffic::default();
        traffic.take(bytes(1000, 50), at(0));
        assert_eq!(traffic.rate(Way::Sent, at(0)), 0);
        traffic.take(bytes(3000, 50), at(2));
        assert_eq!(traffic.rate(Way::Sent, at(2)), 1000);
        assert_eq!(traffic.rate(Way::Received, at(2)), 0);
        // Nothing more was told: nothing passes.
        assert_eq!(traffic.rate(Way::Sent, at(4)), 0);
        // A daemon that began anew.
        traffic.take(bytes(10, 10), at(5));
        assert_eq!(traffic.rate(Way::Sent, at(5)), 0);
    }

    #[test]
    fn bars_move_left_and_out_of_sight() {
        let mut traffic = Traffic::default();
        traffic.take(bytes(0, 0), at(0));
        traffic.take(bytes(100, 0), at(1));
        traffic.take(bytes(1_000_100, 0), at(31));
        assert_eq!(traffic.bars(Way::Sent, 6, at(31)), "    ▃█");
        assert_eq!(traffic.bars(Way::Sent, 6, at(61)), "   ▃█ ");
        assert_eq!(traffic.bars(Way::Received, 6, at(61)), "      ");
        assert_eq!(traffic.bars(Way::Sent, 0, at(61)), "");
        assert!(traffic.is_moving());
        traffic.forget(at(1 + WINDOW));
        assert_eq!(traffic.bars(Way::Sent, 6, at(31 + WINDOW - 1)), "█     ");
        traffic.forget(at(31 + WINDOW));
        assert!(!traffic.is_moving());
    }

    #[test]
    fn sizes_are_short() {
        for (bytes, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1.0k"),
            (1536, "1.5k"),
            (20 * 1024 * 1024, "20M"),
            (5_000_000_000_000_000, "4547T"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
