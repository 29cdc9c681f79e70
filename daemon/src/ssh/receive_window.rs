//! How much the server may send on a channel at once.

use std::time::Duration;

/// What a line carries in each millisecond of its round trip, twice: 1 Gbit/s, and russh gives
/// a window back by halves.
const WINDOW_FOR_MILLISECOND: u32 = 200 * 1024;
/// OpenSSH's own; enough for a line within a town.
const LEAST_WINDOW: u32 = 2 * 1024 * 1024;
/// Carries 1 Gbit/s over 80 ms.
const MOST_WINDOW: u32 = 16 * 1024 * 1024;

/// What decides how much the server may send at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReceiveWindow {
    /// How long the server took to answer when the connection was begun.
    pub(super) round_trip: Duration,
    /// How often the window was halved from what fills the line alone.
    pub(super) shift: u32,
}

// === impl ReceiveWindow ===

impl ReceiveWindow {
    /// A tunnel may fill the line alone, and so may the one that stands ready beside it; what
    /// comes after those shares it with `others`.
    pub(super) fn new(round_trip: Duration, others: usize) -> Self {
        Self {
            round_trip,
            shift: others.max(1).ilog2(),
        }
    }

    /// What the server may send on a channel before it hears that it may send more: a download
    /// gets at most this much for each round trip.
    ///
    /// More than the line takes is dear: sshd fetches all of it from the database at once, into a
    /// buffer that it copies to make room for every 32 KiB (OpenSSH 9.2, `channels.c`,
    /// `sshbuf.c`). For 16 MiB that comes to 4 GiB, and three seconds of its processor.
    pub(super) fn bytes(self) -> u32 {
        let milliseconds = u32::try_from(self.round_trip.as_millis()).unwrap_or(u32::MAX);
        let whole = WINDOW_FOR_MILLISECOND
            .saturating_mul(milliseconds)
            .min(MOST_WINDOW);
        whole.checked_shr(self.shift).unwrap_or(0).max(LEAST_WINDOW)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_fits_the_line() {
        let window =
            |ms, others| ReceiveWindow::new(Duration::from_millis(ms), others).bytes() / 1024;
        let alone = |ms| window(ms, 0);
        assert_eq!(alone(0), 2048);
        assert_eq!(alone(20), 4000);
        assert_eq!(alone(80), 16_000);
        assert_eq!(alone(1000), 16 * 1024);
        assert_eq!(alone(u64::MAX), 16 * 1024);
        let with_others = |others| window(80, others);
        assert_eq!(
            [1, 2, 3, 4, 7, 8].map(with_others),
            [16_000, 8000, 8000, 4000, 4000, 2048]
        );
        assert_eq!(with_others(usize::MAX), 2048);
    }
}
