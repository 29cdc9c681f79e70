//! Which tunnel a new connection gets, and how long an idle one stays: pure, the moment is
//! passed in.

use std::{cmp::Reverse, ops::Range, time::Duration};

use tokio::time::Instant;

use super::Link;
use crate::model::{Cause, Generation};

/// Tunnels of a pool; more connections than this share them.
pub(super) const MAX_TUNNELS: usize = 8;

/// How long tunnels are kept that nobody uses: who opened many connections at once does so again,
/// as an application's pool or a test suite that is started once more.
pub(super) const SPARE_FOR: Duration = Duration::from_secs(300);

/// How many tunnels of all pools are kept so, beside one for each pool: a workstation with many
/// add-ons has none to spare, as each one costs memory, a descriptor and its share of the probes.
const SPARE_TUNNELS: usize = 16;

/// How long a bastion that refused another tunnel isn't asked for one.
pub(super) const FULL_FOR: Duration = Duration::from_secs(60);

/// A dial that was begun so long before the network changed may be waiting for an answer that
/// went to the old address: whoever asks from then on gets another one.
pub(super) const PROMPT: Duration = Duration::from_secs(3);

/// Where a round trip takes this long, those who must share a tunnel all share the same one: sshd
/// holds a small packet back until the one before was acknowledged, unless enough comes together
/// to fill one (Nagle's algorithm). Where the first answer took longer still, the line loses
/// packets, and all would stop for each of them.
const LONG: Range<Duration> = Duration::from_millis(15)..Duration::from_millis(800);

/// A connection waits for a tunnel of its own for twice as long as the last handshake took, and
/// not less than this.
const LEAST_PATIENCE: Duration = Duration::from_millis(100);

/// What a connection would meet on a tunnel in use.
#[derive(Debug, Clone, Copy)]
pub(super) struct TunnelLoad {
    pub(super) channels: usize,
    pub(super) is_jammed: bool,
    pub(super) is_busy: bool,
    pub(super) round_trip: Duration,
}

/// When a check first found a tunnel idle, since it was used last.
#[derive(Default)]
pub(super) struct Idle(Option<Instant>);

/// How many idle tunnels each pool may keep where there are so many pools.
pub(super) fn most_idle(pools: usize) -> usize {
    1 + SPARE_TUNNELS / pools.max(1)
}

/// Which idle tunnel comes first: the newest key's, and of those the one that may fill most of the
/// line. Of downloads at once the one with the least would last longest, with the line to itself.
pub(super) fn rank(key: Generation, shift: u32) -> impl Ord {
    (Reverse(key), shift)
}

/// Which tunnel a connection shares, of those in use from the oldest to the newest; `None` where
/// there can be one of its own. That is worth its handshake: what will be sent on the others is
/// not known, and behind a bulk transfer each answer would wait, for as long as both last.
pub(super) fn shared(in_use: &[TunnelLoad], may_grow: bool) -> Option<usize> {
    if may_grow {
        return None;
    }
    // Of those that are alike the newest: its window is smaller, and what several are sent at once
    // piles up less.
    let quietest = |rank: fn(usize) -> usize| {
        (0..in_use.len()).rev().min_by_key(|place| {
            let load = &in_use[*place];
            (load.is_jammed, load.is_busy, rank(load.channels))
        })
    };
    let least = quietest(|channels| channels)?;
    if LONG.contains(&in_use[least].round_trip) {
        return quietest(|channels| usize::MAX - channels);
    }
    Some(least)
}

/// How long a connection waits for a tunnel of its own before it shares one, where the last
/// handshake took so long. A bastion that answers as it did is waited for: behind a bulk
/// transfer the connection would lose more.
pub(super) fn patience(last_handshake: Duration) -> Duration {
    (last_handshake * 2).max(LEAST_PATIENCE)
}

/// Whether a further tunnel failed because the bastion takes no more connections for now: it
/// answered, and closed the connection before the log-in (`MaxStartups`, a penalty).
pub(super) fn means_full(cause: &Cause) -> bool {
    matches!(cause, Cause::BastionBusy { .. })
}

// === impl TunnelLoad ===

impl TunnelLoad {
    pub(super) fn of(tunnel: &impl Link) -> Self {
        Self {
            channels: tunnel.channels(),
            is_jammed: tunnel.is_jammed(),
            is_busy: tunnel.is_busy(),
            round_trip: tunnel.round_trip(),
        }
    }
}

// === impl Idle ===

impl Idle {
    /// It is used from now on, be it only until before the next check.
    pub(super) fn end(&mut self) {
        self.0 = None;
    }

    /// How long it has been idle, as far as checks have seen.
    pub(super) fn check(&mut self, is_idle: bool, now: Instant) -> Duration {
        self.0 = is_idle.then(|| self.0.unwrap_or(now));
        self.0.map_or(Duration::ZERO, |since| now - since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(channels: usize, milliseconds: u64) -> TunnelLoad {
        TunnelLoad {
            channels,
            is_jammed: false,
            is_busy: false,
            round_trip: Duration::from_millis(milliseconds),
        }
    }

    #[test]
    fn none_is_shared_before_there_can_be_no_more() {
        for milliseconds in [1, 80, 1080] {
            assert_eq!(shared(&[load(1, milliseconds)], true), None);
        }
    }

    #[test]
    fn of_idle_ones_the_newest_keys_comes_first_and_then_what_fills_most_of_the_line() {
        let ranks = [(2, 0), (2, 1), (2, 2), (1, 0)];
        let in_order = ranks.map(|(key, shift)| rank(Generation(key), shift));
        assert!(in_order.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn near_by_the_least_is_shared_and_on_a_long_line_the_most() {
        let near = |channels| load(channels, 1);
        assert_eq!(shared(&[near(2), near(1), near(3)], false), Some(1));
        assert_eq!(shared(&[near(1), near(1)], false), Some(1));
        let far = |channels| load(channels, 80);
        assert_eq!(shared(&[far(1), far(3), far(2)], false), Some(1));
        // Those that lose packets.
        let lossy = |channels| load(channels, 1080);
        assert_eq!(shared(&[lossy(2), lossy(1)], false), Some(1));
        assert_eq!(shared(&[], false), None);
    }

    #[test]
    fn nobody_joins_a_bulk_transfer_or_a_jam_who_need_not() {
        let busy = TunnelLoad {
            is_busy: true,
            ..load(1, 80)
        };
        let jammed = TunnelLoad {
            is_jammed: true,
            ..load(1, 80)
        };
        assert_eq!(shared(&[busy, load(3, 80), jammed], false), Some(1));
        assert_eq!(shared(&[jammed, busy], false), Some(1));
    }

    #[test]
    fn what_is_spare_is_shared_out_among_the_pools() {
        assert!(most_idle(1) >= MAX_TUNNELS && most_idle(2) >= MAX_TUNNELS);
        assert_eq!(most_idle(5), 4);
        assert_eq!(most_idle(25), 1);
        assert!((1..100).all(|pools| (most_idle(pools) - 1) * pools <= SPARE_TUNNELS));
    }

    #[test]
    fn idle_counts_from_the_first_check_since_it_was_used() {
        let mut idle = Idle::default();
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let check = |idle: &mut Idle, is_idle, seconds| idle.check(is_idle, at(seconds)).as_secs();
        assert_eq!(check(&mut idle, true, 10), 0);
        assert_eq!(check(&mut idle, true, 40), 30);
        assert_eq!(check(&mut idle, false, 70), 0);
        assert_eq!(check(&mut idle, true, 100), 0);
        assert_eq!(check(&mut idle, true, 400), 300);
        // Between two checks.
        idle.end();
        assert_eq!(check(&mut idle, true, 430), 0);
        assert_eq!(check(&mut idle, true, 460), 30);
    }
}
