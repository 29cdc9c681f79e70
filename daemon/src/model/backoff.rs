//! How long to wait before the next attempt.

use std::time::Duration;

/// Exponential backoff with full jitter: each wait is uniform between nothing and a bound
/// that doubles. A thousand daemons that lose one bastion spread over the whole bound
/// instead of coming back in step.
#[derive(Debug, Clone)]
pub struct Backoff {
    failures: u32,
}

// === impl Backoff ===

impl Backoff {
    /// Bound of the first wait: a killed connection is back within a second.
    pub const FIRST: Duration = Duration::from_millis(500);
    /// Bound of every later wait.
    pub const CAP: Duration = Duration::from_secs(30);

    /// No failures yet.
    pub fn new() -> Self {
        Self { failures: 0 }
    }

    /// The next wait. `jitter` is uniform in `0.0..1.0`.
    pub fn next(&mut self, jitter: f64) -> Duration {
        self.after(Duration::ZERO, jitter)
    }

    /// The wait after an attempt that took so long: those that end at one time limit began
    /// in step, and a short bound would keep them so. Hence the bound is no less than half
    /// of that.
    pub fn after(&mut self, took: Duration, jitter: f64) -> Duration {
        let bound = Self::FIRST
            .saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX))
            .max(took / 2)
            .min(Self::CAP);
        self.failures = self.failures.saturating_add(1).min(16);
        bound.mul_f64(jitter.clamp(0.0, 1.0))
    }

    /// Forgets the failures. For a line that has proven stable, not at its first success:
    /// one that flaps would be tried at the first bound for ever.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_double_up_to_the_cap() {
        let mut backoff = Backoff::new();
        let bounds: Vec<_> = (0..9).map(|_| backoff.next(1.0).as_millis()).collect();
        assert_eq!(
            bounds,
            [500, 1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000]
        );
        backoff.reset();
        assert_eq!(backoff.next(0.5).as_millis(), 250);
    }

    #[test]
    fn a_long_attempt_is_followed_by_no_short_bound() {
        let mut backoff = Backoff::new();
        let took = Duration::from_secs(15);
        assert_eq!(backoff.after(took, 1.0).as_millis(), 7500);
        assert_eq!(backoff.next(1.0).as_millis(), 1000);
        assert_eq!(backoff.after(took * 100, 1.0), Backoff::CAP);
    }

    #[test]
    fn it_never_overflows() {
        let mut backoff = Backoff::new();
        for _ in 0..1000 {
            assert!(backoff.next(1.0) <= Backoff::CAP);
        }
    }
}
