//! How long a client is held while its session is away.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// What a client waits at most where recovery isn't likely: below the 10 s after which many
/// programs give up by themselves, without having heard why. An attempt that the client itself
/// asks for ends within this time where it can succeed.
const SHORT_HOLD: Duration = Duration::from_secs(8);

/// Since when the session has been away.
#[derive(Default)]
pub(crate) struct Outage(Mutex<Option<Instant>>);

// === impl Outage ===

impl Outage {
    /// The session is not up.
    pub(crate) fn goes_on(&self) {
        self.since().get_or_insert_with(Instant::now);
    }

    /// The session is up.
    pub(crate) fn has_ended(&self) {
        *self.since() = None;
    }

    /// How long a client that comes now is held: for as long as the config says while recovery
    /// is likely, which an outage is taken for that nobody can have waited out in vain yet: a
    /// bastion that restarts, a network that changes. A short time later on.
    pub(crate) fn hold(&self, connect_timeout: Duration) -> Duration {
        let has_lasted = self
            .since()
            .is_some_and(|at| at.elapsed() >= connect_timeout);
        if has_lasted {
            connect_timeout.min(SHORT_HOLD)
        } else {
            connect_timeout
        }
    }

    fn since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn in_an_outage_that_lasts_clients_are_told_soon() {
        let (half, whole) = (Duration::from_secs(15), Duration::from_secs(30));
        let outage = Outage::default();
        assert_eq!(outage.hold(whole), whole);
        outage.goes_on();
        tokio::time::advance(half).await;
        outage.goes_on();
        assert_eq!(outage.hold(whole), whole);
        tokio::time::advance(half).await;
        assert_eq!(outage.hold(whole), SHORT_HOLD);
        assert_eq!(outage.hold(Duration::from_secs(3)), Duration::from_secs(3));
        outage.has_ended();
        outage.goes_on();
        assert_eq!(outage.hold(whole), whole);
    }
}
