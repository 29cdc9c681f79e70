//! Clients that haven't logged in yet: a bounded number, of which those that say nothing
//! give way to those that come. So whoever opens connections without a word keeps nobody
//! else out.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::model::SessionName;

/// Clients that haven't logged in yet, for each session.
const MAX_LOGINS: usize = 100;
/// How often the log speaks of too many.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// The clients of one session that haven't logged in yet.
#[derive(Default)]
pub(super) struct Logins(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    /// The oldest first.
    clients: VecDeque<Arc<Client>>,
    warned: Option<Instant>,
}

#[derive(Default)]
struct Client {
    has_spoken: AtomicBool,
    sent_away: CancellationToken,
}

/// One client's place; given up when it is dropped.
pub(super) struct Login {
    logins: Arc<Logins>,
    client: Arc<Client>,
}

// === impl Logins ===

impl Logins {
    /// A place for a client that has connected. Where all are taken, the oldest client that
    /// has said nothing is sent away, else the oldest.
    pub(super) fn admit(self: &Arc<Self>, session: &SessionName) -> Login {
        let client = Arc::new(Client::default());
        let mut waiting = self.waiting();
        if waiting.clients.len() >= MAX_LOGINS {
            let silent = |client: &Arc<Client>| !client.has_spoken.load(Ordering::Relaxed);
            let oldest = waiting.clients.iter().position(silent).unwrap_or(0);
            if let Some(client) = waiting.clients.remove(oldest) {
                client.sent_away.cancel();
            }
            if waiting.warned.is_none_or(|at| at.elapsed() >= WARN_EVERY) {
                waiting.warned = Some(Instant::now());
                tracing::warn!(%session, limit = MAX_LOGINS, "too many clients that haven't logged in; the oldest are closed");
            }
        }
        waiting.clients.push_back(Arc::clone(&client));
        drop(waiting);
        Login {
            logins: Arc::clone(self),
            client,
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Login ===

impl Login {
    /// The client has sent something.
    pub(super) fn has_spoken(&self) {
        self.client.has_spoken.store(true, Ordering::Relaxed);
    }

    /// Completes when the client has to make room for another.
    pub(super) async fn sent_away(&self) {
        self.client.sent_away.cancelled().await;
    }
}

impl Drop for Login {
    fn drop(&mut self) {
        let mut waiting = self.logins.waiting();
        let place = waiting
            .clients
            .iter()
            .position(|client| Arc::ptr_eq(client, &self.client));
        if let Some(place) = place {
            waiting.clients.remove(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_away(login: &Login) -> bool {
        login.client.sent_away.is_cancelled()
    }

    #[test]
    fn the_silent_give_way_and_the_oldest_first() {
        let session = SessionName::parse("sushi").unwrap();
        let logins = Arc::new(Logins::default());
        let first = logins.admit(&session);
        first.has_spoken();
        let mut silent: Vec<_> = (1..MAX_LOGINS).map(|_| logins.admit(&session)).collect();
        assert!(!silent.iter().any(is_away));
        let next = logins.admit(&session);
        assert!(is_away(&silent[0]) && !is_away(&silent[1]) && !is_away(&first));
        // A place that is given up is free.
        silent.pop();
        let other = logins.admit(&session);
        assert!(!is_away(&silent[1]));
        for login in silent.iter().chain([&next, &other]) {
            login.has_spoken();
        }
        let last = logins.admit(&session);
        assert!(is_away(&first) && !is_away(&last));
    }
}
