//! A clock that counts suspend: on a closed laptop, leases age and pauses pass.

use std::{ops::Add, time::Duration};

use rustix::time::{ClockId, clock_gettime};

/// Time since the machine booted, suspend included. Only differences mean anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Moment(Duration);

/// Now.
pub fn now() -> Moment {
    #[cfg(target_os = "linux")]
    const CLOCK: ClockId = ClockId::Boottime;
    // On macOS the monotonic clock of the kernel goes on while the machine sleeps.
    #[cfg(not(target_os = "linux"))]
    const CLOCK: ClockId = ClockId::Monotonic;
    let time = clock_gettime(CLOCK);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or(0);
    Moment(Duration::new(seconds, nanoseconds))
}

// === impl Moment ===

impl Moment {
    /// A moment this long after boot, for simulations.
    pub const fn since_boot(duration: Duration) -> Self {
        Self(duration)
    }

    /// How long ago `earlier` was; nothing if it lies ahead.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }
}
