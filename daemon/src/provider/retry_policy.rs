//! How long and how often to try: by who waits for the answer.

use std::time::Duration;

use rand::RngExt as _;

/// Who waits for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// A person, or a client's connection that is held: few attempts, soon after each other.
    Somebody,
    /// Nobody: a clean-up that should succeed in the end.
    Nobody,
}

/// The time limits of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// For the connection, TLS included.
    pub connect: Duration,
    /// While somebody waits.
    pub somebody: RetryPolicy,
    /// While nobody waits.
    pub nobody: RetryPolicy,
}

/// How often a call is tried, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts in all.
    pub attempts: u32,
    /// The limit of one attempt, from the first byte to the last.
    pub attempt: Duration,
    /// The limit of all attempts and pauses together.
    pub whole: Duration,
    /// The longest first pause; each further one may be twice as long.
    pub first_pause: Duration,
    /// No pause of our own choice is longer.
    pub longest_pause: Duration,
    /// A server that asks for a longer wait than this gets its way by the call's failing.
    pub longest_retry_after: Duration,
}

// === impl Limits ===

impl Limits {
    /// The patience that goes with who waits.
    pub fn patience(&self, waiting: Waiting) -> &RetryPolicy {
        match waiting {
            Waiting::Somebody => &self.somebody,
            Waiting::Nobody => &self.nobody,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        let secs = Duration::from_secs;
        Self {
            connect: secs(10),
            // Within the minute that `open` waits, with a dead line tried twice.
            somebody: RetryPolicy {
                attempts: 4,
                attempt: secs(20),
                whole: secs(45),
                first_pause: Duration::from_millis(300),
                longest_pause: secs(3),
                longest_retry_after: secs(10),
            },
            // Within the 180 seconds after which a grant ends by itself.
            nobody: RetryPolicy {
                attempts: 8,
                attempt: secs(30),
                whole: secs(150),
                first_pause: secs(1),
                longest_pause: secs(30),
                longest_retry_after: secs(60),
            },
        }
    }
}

// === impl RetryPolicy ===

impl RetryPolicy {
    /// The pause after `failed` attempts: anything up to a limit that doubles, so that many
    /// who failed together don't come back together. What the server asked for is the least.
    /// `None` where it asked for more than is ever waited.
    pub(super) fn pause(&self, failed: u32, retry_after: Option<Duration>) -> Option<Duration> {
        let limit = self
            .first_pause
            .saturating_mul(1 << failed.saturating_sub(1).min(16))
            .min(self.longest_pause);
        let jitter = limit.mul_f64(rand::rng().random_range(0.0..=1.0));
        match retry_after {
            None => Some(jitter),
            Some(asked) if asked > self.longest_retry_after => None,
            Some(asked) => Some(asked + jitter.min(self.first_pause)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_limit_and_honour_the_server() {
        let patience = Limits::default().somebody;
        for failed in 1..100 {
            let pause = patience.pause(failed, None).unwrap();
            let doubled = patience.first_pause * 2_u32.pow((failed - 1).min(16));
            assert!(pause <= doubled.min(patience.longest_pause), "{failed}");
        }
        let asked = Duration::from_secs(7);
        assert!(patience.pause(1, Some(asked)).unwrap() >= asked);
        assert_eq!(patience.pause(1, Some(Duration::from_secs(11))), None);
        assert!(patience.pause(1, Some(Duration::ZERO)).is_some());
    }
}
