//! Time that goes on while the machine sleeps.
//!
//! `std::time::Instant` stands still during a suspend on Linux, so whatever ages at the
//! provider's side (a grant, a credential) is measured with [`BootInstant`] instead. Timers stay
//! tokio's; who owns one compares moments when it fires.

#[cfg(debug_assertions)]
use std::sync::atomic::{AtomicU64, Ordering};
use std::{
    ops::{Add, Sub},
    time::{Duration, SystemTime},
};

use jiff::{SignedDuration, Timestamp, tz::TimeZone};

/// The year 9900's first second.
const LAST: Timestamp = Timestamp::constant(250_246_627_200, 0);

#[cfg(debug_assertions)]
static SKIPPED: AtomicU64 = AtomicU64::new(0);

/// A point in time since the machine was booted; only differences mean anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootInstant(Duration);

/// The clock that counts suspend.
#[derive(Debug, Clone, Copy, Default)]
pub struct Clock;

/// A clock that says a year which no certificate, log or file can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this machine's clock is wrong: it says a year that is not between 1970 and 9900; set it, then start borealisd again"
)]
pub struct UnusableClock;

/// The time of day, if it is one that everything can be dated with.
///
/// # Errors
/// When it is not between the years 1970 and 9900.
pub fn time_of_day() -> Result<Timestamp, UnusableClock> {
    usable(SystemTime::now())
}

fn usable(now: SystemTime) -> Result<Timestamp, UnusableClock> {
    let now = Timestamp::try_from(now).map_err(|_| UnusableClock)?;
    let year = now.to_zoned(TimeZone::UTC).year();
    if (1970..=9900).contains(&year) {
        Ok(now)
    } else {
        Err(UnusableClock)
    }
}

/// The time of day. Where the clock says one that nothing can be dated with, the first or the
/// last that is usable: a clock that goes wrong while the daemon runs ends no session.
pub fn timestamp() -> Timestamp {
    nearest_usable(SystemTime::now())
}

/// The same as HTTP's `Date` has it. For every answer that is served: one without a date gets
/// it from hyper, which panics where the clock says a year beyond 9999.
pub fn http_date() -> String {
    timestamp()
        .strftime("%a, %d %b %Y %H:%M:%S GMT")
        .to_string()
}

fn nearest_usable(now: SystemTime) -> Timestamp {
    usable(now).unwrap_or(if now < SystemTime::UNIX_EPOCH {
        Timestamp::UNIX_EPOCH
    } else {
        LAST
    })
}

/// A time so much later, or the last or first that there is.
pub fn shifted(time: Timestamp, by: SignedDuration) -> Timestamp {
    time.saturating_add(by).unwrap_or(time)
}

// === impl Clock ===

impl Clock {
    /// The moment that it is. Never runs backwards.
    pub fn now() -> BootInstant {
        // macOS' monotonic clock counts sleep; Linux has one apart that does.
        #[cfg(target_os = "linux")]
        const ID: rustix::time::ClockId = rustix::time::ClockId::Boottime;
        #[cfg(not(target_os = "linux"))]
        const ID: rustix::time::ClockId = rustix::time::ClockId::Monotonic;
        let now = rustix::time::clock_gettime(ID);
        let now = Duration::new(
            u64::try_from(now.tv_sec).unwrap_or_default(),
            u32::try_from(now.tv_nsec).unwrap_or_default(),
        );
        #[cfg(debug_assertions)]
        let now = now + Duration::from_secs(SKIPPED.load(Ordering::Relaxed));
        BootInstant(now)
    }

    /// Skips time as the file says that `BOREALIS_TEST_CLOCK` names: it holds the seconds to
    /// be added. No machine can be made to sleep by a test. Not in a release build.
    #[cfg(debug_assertions)]
    pub fn skip_for_tests() {
        let told = std::env::var_os("BOREALIS_TEST_CLOCK")
            .and_then(|file| std::fs::read_to_string(file).ok())
            .and_then(|text| text.trim().parse().ok());
        if let Some(seconds) = told {
            SKIPPED.fetch_max(seconds, Ordering::Relaxed);
        }
    }
}

// === impl BootInstant ===

impl BootInstant {
    /// So long after boot; for simulations.
    pub const fn since_boot(duration: Duration) -> Self {
        Self(duration)
    }

    /// The time from `earlier` to this moment; zero where `earlier` is the later one.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// The time from this moment until now.
    pub fn elapsed(self) -> Duration {
        Clock::now().since(self)
    }
}

impl Add<Duration> for BootInstant {
    type Output = Self;

    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(by))
    }
}

impl Sub<Duration> for BootInstant {
    type Output = Self;

    fn sub(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(by))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_year_beyond_9999_is_an_error_and_no_panic() {
        let year = Duration::from_secs(366 * 24 * 3600);
        let at = |years| usable(SystemTime::UNIX_EPOCH + year * years);
        assert!(at(56).is_ok());
        assert_eq!(at(7_950), Err(UnusableClock));
        assert_eq!(at(8_100), Err(UnusableClock));
        assert_eq!(usable(SystemTime::UNIX_EPOCH - year), Err(UnusableClock));
        // While the daemon runs it is dated all the same, and a day later still can be.
        let nearest = |years| nearest_usable(SystemTime::UNIX_EPOCH + year * years);
        assert_eq!(Ok(nearest(56)), at(56));
        for years in [7_950, 8_100, 100_000] {
            assert_eq!(nearest(years).to_string(), "9900-01-01T00:00:00Z");
            assert!(
                nearest(years)
                    .checked_add(SignedDuration::from_hours(24))
                    .is_ok()
            );
        }
        let before = nearest_usable(SystemTime::UNIX_EPOCH - year);
        assert_eq!(before, Timestamp::UNIX_EPOCH);
        assert_eq!(
            shifted(Timestamp::MAX, SignedDuration::from_hours(1)),
            Timestamp::MAX
        );
    }

    #[test]
    fn differences_never_go_below_zero() {
        let now = Clock::now();
        let later = now + Duration::from_secs(5);
        assert_eq!(later.since(now), Duration::from_secs(5));
        assert_eq!(now.since(later), Duration::ZERO);
        assert!(Clock::now() >= now);
    }
}
