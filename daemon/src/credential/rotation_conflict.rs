//! Machines that take each other's credentials away: how often that happened lately, and
//! how long to leave the other one its turn.
//!
//! The machines of one user share the personal roles, so each one's renewal ends the
//! password that the other holds. Renewing at once, both would never get a client in; so
//! the more often a password was taken away, the longer its successor is waited with, and
//! for that long the other machine's clients get in.

use std::{collections::VecDeque, time::Duration};

use crate::{model::Generation, platform::clock::BootInstant};

/// How far back is looked to say whether a credential is contested.
pub(super) const WINDOW: Duration = Duration::from_secs(600);
/// How far back is looked to say how long to wait.
const TURNS: Duration = Duration::from_secs(30);
/// How often a credential is taken away before that is more than a rotation elsewhere.
const ROUNDS: usize = 5;
/// The wait before the second renewal in a row, at most; doubled for each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest wait. A client waits several of them within its time.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// What is remembered; more makes no difference.
const REMEMBERED: usize = 64;

/// How often one credential was taken away.
#[derive(Debug, Default)]
pub(super) struct RotationConflict {
    /// When a credential was found to be refused, the oldest first.
    taken: VecDeque<BootInstant>,
    last: Option<Generation>,
}

// === impl RotationConflict ===

impl RotationConflict {
    /// The database refuses a credential that it took before. Counted once for each
    /// generation; answers whether this is what makes it a contest.
    pub(super) fn refused(&mut self, generation: Generation, now: BootInstant) -> bool {
        if self.last.is_some_and(|last| last >= generation) {
            return false;
        }
        self.last = Some(generation);
        let before = self.rounds(now);
        if self.taken.len() == REMEMBERED {
            self.taken.pop_front();
        }
        self.taken.push_back(now);
        before + 1 == ROUNDS
    }

    /// How long to wait before the successor of `generation` is asked for. Not at all where
    /// that was not taken away, or nothing else was lately. `jitter` is uniform in `0.0..1.0`.
    pub(super) fn pause(&self, generation: Generation, now: BootInstant, jitter: f64) -> Duration {
        let turns = self.since(now, TURNS);
        if self.last != Some(generation) || turns < 2 {
            return Duration::ZERO;
        }
        let doublings = u32::try_from(turns - 2).unwrap_or(u32::MAX);
        let bound = FIRST_PAUSE
            .saturating_mul(2_u32.checked_pow(doublings).unwrap_or(u32::MAX))
            .min(LONGEST_PAUSE);
        // Two that wait for the same time renew at the same time.
        bound.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
    }

    /// How often it was taken away lately, where that is too often for anything but another
    /// machine.
    pub(super) fn contested(&self, now: BootInstant) -> Option<usize> {
        let rounds = self.rounds(now);
        (rounds >= ROUNDS).then_some(rounds)
    }

    fn rounds(&self, now: BootInstant) -> usize {
        self.since(now, WINDOW)
    }

    fn since(&self, now: BootInstant, window: Duration) -> usize {
        self.taken
            .iter()
            .rev()
            .take_while(|at| now.since(**at) < window)
            .count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> BootInstant {
        BootInstant::since_boot(Duration::from_millis(1_000_000 + milliseconds))
    }

    #[test]
    fn one_rotation_elsewhere_is_answered_at_once() {
        let mut contest = RotationConflict::default();
        assert!(!contest.refused(Generation(1), at(0)));
        assert_eq!(contest.pause(Generation(1), at(1), 0.5), Duration::ZERO);
        // The next one an hour later.
        contest.refused(Generation(2), at(3_600_000));
        assert_eq!(
            contest.pause(Generation(2), at(3_600_000), 0.5),
            Duration::ZERO
        );
        assert_eq!(contest.contested(at(3_600_000)), None);
    }

    #[test]
    fn a_fight_is_slowed_down_and_told_of_once() {
        let mut contest = RotationConflict::default();
        let mut pauses = Vec::new();
        let mut told = Vec::new();
        for round in 1..=8 {
            told.push(contest.refused(Generation(round), at(round * 100)));
            // Further clients that are refused with the same one.
            assert!(!contest.refused(Generation(round), at(round * 100)));
            pauses.push(
                contest
                    .pause(Generation(round), at(round * 100), 1.0)
                    .as_millis(),
            );
        }
        assert_eq!(pauses, [0, 100, 200, 400, 800, 1000, 1000, 1000]);
        assert_eq!(told.iter().filter(|told| **told).count(), 1);
        assert!(told[ROUNDS - 1]);
        assert_eq!(contest.contested(at(1000)), Some(8));
        // A rotation that the user asks for isn't held up.
        assert_eq!(contest.pause(Generation(9), at(1000), 1.0), Duration::ZERO);
        assert_eq!(contest.contested(at(700_000)), None);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut contest = RotationConflict::default();
        for round in 1..1000 {
            contest.refused(Generation(round), at(round));
        }
        assert_eq!(contest.taken.len(), REMEMBERED);
        assert!(contest.pause(Generation(999), at(1000), 1.0) <= LONGEST_PAUSE);
    }
}
