//! How fast wrong passwords are told to be wrong.

use std::{sync::Mutex, time::Duration};

use tokio::time::{Instant, sleep};

/// So many are told at once: people mistype.
const FREE: u32 = 5;
/// After this long without one, they begin anew.
const QUIET: Duration = Duration::from_secs(60);
/// How far apart the others are told, one after the other however many connections they come
/// through.
const PAUSE: Duration = Duration::from_secs(1);

/// Slows down those who guess. Who knows the password never waits.
#[derive(Debug, Default)]
pub struct RefusalPace {
    refused: Mutex<Option<Refused>>,
    /// Serves first who came first.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug, Clone, Copy)]
struct Refused {
    count: u32,
    last: Instant,
}

// === impl RefusalPace ===

impl RefusalPace {
    /// Waits until the next refusal may be told. Dropping the future gives up the turn.
    pub async fn turn(&self) {
        if self.count() <= FREE {
            return;
        }
        let _turn = self.turn.lock().await;
        sleep(PAUSE).await;
    }

    fn count(&self) -> u32 {
        let mut refused = self
            .refused
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let now = Instant::now();
        let before = refused.filter(|refused| now - refused.last < QUIET);
        let count = before.map_or(0, |refused| refused.count).saturating_add(1);
        *refused = Some(Refused { count, last: now });
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_guesses_waits_and_who_mistypes_does_not() {
        let pace = RefusalPace::default();
        let began = Instant::now();
        for _ in 0..FREE {
            pace.turn().await;
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
        // Many connections at once don't make it faster.
        let guesses: Vec<_> = (0..10).map(|_| pace.turn()).collect();
        futures_util::future::join_all(guesses).await;
        assert_eq!(began.elapsed().as_secs(), PAUSE.as_secs() * 10);
        tokio::time::advance(QUIET).await;
        let later = Instant::now();
        pace.turn().await;
        assert_eq!(later.elapsed(), Duration::ZERO);
    }
}
