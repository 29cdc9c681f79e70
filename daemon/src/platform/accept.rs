//! Accepting connections, by one rule for every listener: what ends one client's connection
//! is skipped, everything else is tried again after a growing pause. So a listener never spins
//! on an error that lasts, and never ends because of one.

use std::{future::Future, io, time::Duration};

use rustix::io::Errno;
use tokio::time::sleep;

/// First and longest pause after an error that may last.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// So many clients in a row may have gone before they were accepted. Beyond it the error is
/// the listener's, whatever it calls itself.
const MOST_GONE: u32 = 64;

/// Accepts on one listener, and remembers how that went.
#[derive(Debug)]
pub struct Acceptor {
    /// For the log.
    listener: String,
    /// The next pause, while the listener fails.
    pause: Option<Duration>,
    gone: u32,
}

// === impl Acceptor ===

impl Acceptor {
    /// `listener` names it in the log.
    pub fn new(listener: impl Into<String>) -> Self {
        Self {
            listener: listener.into(),
            pause: None,
            gone: 0,
        }
    }

    /// The next connection that `accept` gives. Can be dropped and called again without loss.
    pub async fn next<S, A, F>(&mut self, accept: impl Fn() -> F) -> (S, A)
    where
        F: Future<Output = io::Result<(S, A)>>,
    {
        loop {
            match accept().await {
                Ok(accepted) => {
                    self.recovered();
                    return accepted;
                }
                Err(error) if is_of_one_client(&error) && self.gone < MOST_GONE => self.gone += 1,
                Err(error) => self.rest(&error).await,
            }
        }
    }

    fn recovered(&mut self) {
        self.gone = 0;
        if self.pause.take().is_some() {
            tracing::info!(listener = self.listener, "connections are accepted again");
        }
    }

    async fn rest(&mut self, error: &io::Error) {
        let pause = self.pause.unwrap_or_else(|| {
            tracing::warn!(
                listener = self.listener,
                %error,
                "can't accept connections; those that come wait until it can"
            );
            PAUSE.0
        });
        self.pause = Some((pause * 2).min(PAUSE.1));
        sleep(pause).await;
    }
}

/// Whether it was the client's connection that failed, before it was accepted (accept(2)).
fn is_of_one_client(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::CONNABORTED | Errno::CONNRESET | Errno::INTR | Errno::PROTO)
    )
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::time::{Instant, timeout};

    use super::*;

    fn failed(errno: Errno) -> io::Result<((), ())> {
        Err(errno.into())
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_that_lasts_is_neither_spun_on_nor_given_up_on() {
        for errno in [Errno::INVAL, Errno::MFILE, Errno::CONNABORTED] {
            let tries = Cell::new(0);
            let mut acceptor = Acceptor::new("test");
            let accepting = acceptor.next(|| {
                tries.set(tries.get() + 1);
                async { failed(errno) }
            });
            let ended = timeout(Duration::from_secs(60), accepting).await;
            assert!(ended.is_err());
            // About one a second, once the pause has grown.
            let most = 70 + MOST_GONE;
            assert!((60..most).contains(&tries.get()), "{errno:?}: {tries:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_has_gone_costs_no_pause_and_the_pause_begins_anew() {
        let left = Cell::new(3);
        let gone_then_there = || {
            let gone = left.replace(left.get() - 1) > 0;
            async move {
                if gone {
                    failed(Errno::CONNABORTED)
                } else {
                    Ok(((), ()))
                }
            }
        };
        let mut acceptor = Acceptor::new("test");
        let began = Instant::now();
        acceptor.next(gone_then_there).await;
        assert_eq!(began.elapsed(), Duration::ZERO);

        for _ in 0..2 {
            let full = Cell::new(true);
            let began = Instant::now();
            let full_once = || {
                let is_full = full.replace(false);
                async move {
                    if is_full {
                        failed(Errno::MFILE)
                    } else {
                        Ok(((), ()))
                    }
                }
            };
            acceptor.next(full_once).await;
            assert_eq!(began.elapsed(), PAUSE.0);
        }
    }
}
