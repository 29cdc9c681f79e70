//! What has become of the leases of one key: which was let in, which was refused, and
//! whether it is worth asking the provider for another.
//!
//! One credential that is refused is replaced at once. Where the provider's next ones are
//! refused too, although they were never let in, the fault is not theirs: a role without
//! rights, a rule of the server, a pooler with a stale list. Each renewal would cost calls of
//! the account's hourly quota, so they are held back, ever longer.

use std::time::Duration;

use crate::{model::Generation, platform::clock::BootInstant};

/// How many fresh credentials are refused in a row before renewals are held back.
const FRESH_REFUSALS: u32 = 3;
/// How long they are held back at first; doubled with each further refusal.
const FIRST_HOLD: Duration = Duration::from_secs(5);
/// The longest that they are held back.
const LONGEST_HOLD: Duration = Duration::from_secs(120);

/// What is known of the leases of one key.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// The latest that was let in.
    accepted: Option<Generation>,
    /// The latest that was refused.
    refused: Option<Generation>,
    /// Fresh ones that were refused since one was let in.
    fresh_refusals: u32,
    held_until: Option<BootInstant>,
}

/// What a refusal says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Nothing: that generation was refused before, or a later one is let in.
    Known,
    /// It was let in before: somebody has taken it away.
    TakenAway,
    /// It was never let in.
    Fresh,
}

// === impl Standing ===

impl Standing {
    /// A credential was let in. Answers whether renewals were held back.
    pub(super) fn accepted(&mut self, generation: Generation) -> bool {
        if self.accepted > Some(generation) {
            return false;
        }
        self.accepted = Some(generation);
        // A refusal that passes was none of the credential.
        self.refused = self.refused.filter(|refused| *refused != generation);
        self.fresh_refusals = 0;
        self.held_until.take().is_some()
    }

    /// A credential was refused. `jitter` is uniform in `0.0..1.0`.
    pub(super) fn refused(
        &mut self,
        generation: Generation,
        now: BootInstant,
        jitter: f64,
    ) -> Refusal {
        if self.refused >= Some(generation) || self.accepted > Some(generation) {
            return Refusal::Known;
        }
        self.refused = Some(generation);
        if self.accepted == Some(generation) {
            return Refusal::TakenAway;
        }
        self.fresh_refusals = self.fresh_refusals.saturating_add(1);
        if let Some(more) = self.fresh_refusals.checked_sub(FRESH_REFUSALS) {
            let hold = FIRST_HOLD
                .saturating_mul(1_u32.checked_shl(more).unwrap_or(u32::MAX))
                .min(LONGEST_HOLD);
            self.held_until = Some(now + hold.mul_f64(0.75 + jitter.clamp(0.0, 1.0) / 4.0));
        }
        Refusal::Fresh
    }

    /// Whether that very one has been refused.
    pub(super) fn is_refused(&self, generation: Generation) -> bool {
        self.refused == Some(generation)
    }

    /// Whether that very one has been let in.
    pub(super) fn is_accepted(&self, generation: Generation) -> bool {
        self.accepted == Some(generation)
    }

    /// Whether fresh credentials are refused one after the other.
    pub(super) fn is_broken(&self) -> bool {
        self.fresh_refusals >= FRESH_REFUSALS
    }

    /// Whether the provider isn't asked for another one for now.
    pub(super) fn is_held(&self, now: BootInstant) -> bool {
        self.held_until.is_some_and(|until| until > now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(milliseconds: u64) -> BootInstant {
        BootInstant::since_boot(Duration::from_millis(1_000_000 + milliseconds))
    }

    #[test]
    fn one_that_was_let_in_and_is_taken_away_is_replaced_at_once() {
        let mut standing = Standing::default();
        for generation in (1..100).map(Generation) {
            standing.accepted(generation);
            assert_eq!(standing.refused(generation, at(0), 1.0), Refusal::TakenAway);
            assert_eq!(standing.refused(generation, at(0), 1.0), Refusal::Known);
            assert!(standing.is_refused(generation) && standing.is_accepted(generation));
            assert!(!standing.is_held(at(0)) && !standing.is_broken());
        }
    }

    #[test]
    fn a_database_that_lets_nobody_in_is_asked_ever_more_rarely() {
        let mut standing = Standing::default();
        let (mut now, mut renewals) = (0, Vec::new());
        for generation in 1.. {
            if now > 3_600_000 {
                break;
            }
            renewals.push(now);
            assert_eq!(
                standing.refused(Generation(generation), at(now), 1.0),
                Refusal::Fresh
            );
            while standing.is_held(at(now)) {
                now += 1000;
            }
        }
        assert_eq!(renewals[..7], [0, 0, 0, 5000, 15_000, 35_000, 75_000]);
        assert!(renewals.len() < 40, "{} in an hour", renewals.len());
        assert!(standing.is_broken());
        let next = Generation(renewals.len() as u64 + 1);
        assert!(standing.accepted(next));
        assert!(!standing.is_broken() && !standing.is_held(at(now)));
    }

    #[test]
    fn a_refusal_that_comes_late_says_nothing() {
        let mut standing = Standing::default();
        standing.accepted(Generation(2));
        assert_eq!(standing.refused(Generation(1), at(0), 0.5), Refusal::Known);
        assert!(!standing.accepted(Generation(1)));
        assert!(standing.is_accepted(Generation(2)));
    }

    proptest! {
        /// Whoever asks as often as is allowed, and is always refused, gets three at once and
        /// after that one for each hold, of five seconds at first.
        #[test]
        fn never_more_than_the_quota_can_bear(jitters in proptest::collection::vec(0.0..1.0_f64, 60)) {
            let mut standing = Standing::default();
            let (mut now, mut in_a_minute) = (0, 0);
            for (generation, jitter) in jitters.into_iter().enumerate() {
                in_a_minute += u32::from(now < 60_000);
                standing.refused(Generation(generation as u64 + 1), at(now), jitter);
                while standing.is_held(at(now)) {
                    now += 100;
                }
            }
            prop_assert!(in_a_minute <= 8);
        }
    }
}
