//! Clients that haven't logged in yet: a bounded number, of which those that say nothing
//! give way to those that come. So whoever opens connections without a word keeps nobody
//! else out.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::model::SessionName;

/// Clients that haven't logged in yet, for each session; more than these only while they are
/// [`NEW`].
const MAX_LOGINS: usize = 100;
/// So many at most.
const MOST_LOGINS: usize = 500;
/// How long a client isn't sent away for another below [`MOST_LOGINS`]: whoever means to log
/// in has done so by then.
const NEW: Duration = Duration::from_secs(3);
/// The same where few descriptors are left.
const SPEAKS_IN: Duration = Duration::from_millis(500);
/// How often the log speaks of too many.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// The clients of one session that haven't logged in yet.
#[derive(Default)]
pub(crate) struct PendingLogins(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    /// The oldest first.
    clients: VecDeque<Arc<Client>>,
    warned: Option<Instant>,
}

struct Client {
    since: Instant,
    has_spoken: CancellationToken,
    sent_away: CancellationToken,
    gone: CancellationToken,
}

/// One client's place; given up when it is dropped.
pub(crate) struct LoginSlot {
    logins: Arc<PendingLogins>,
    client: Arc<Client>,
}

// === impl PendingLogins ===

impl PendingLogins {
    /// A place for a client that has connected. Where too many have one, the oldest client
    /// that has said nothing is sent away, else the oldest.
    pub(crate) fn admit(self: &Arc<Self>, session: &SessionName) -> LoginSlot {
        let client = Arc::new(Client::new());
        let mut waiting = self.waiting();
        if let Some(place) = waiting.to_send_away() {
            if let Some(client) = waiting.clients.remove(place) {
                client.sent_away.cancel();
            }
            if waiting.warned.is_none_or(|at| at.elapsed() >= WARN_EVERY) {
                waiting.warned = Some(Instant::now());
                tracing::warn!(%session, limit = MAX_LOGINS, "too many clients that haven't logged in; the oldest are closed");
            }
        }
        waiting.clients.push_back(Arc::clone(&client));
        drop(waiting);
        LoginSlot {
            logins: Arc::clone(self),
            client,
        }
    }

    /// Sends the oldest client away that has said nothing, as soon as it has had [`SPEAKS_IN`]
    /// to: for when few descriptors are left, which tunnels, files and the control socket need
    /// too. Completes once it has gone, or where all have spoken.
    pub(crate) async fn send_silent_away(&self) {
        loop {
            let oldest = self.waiting().silent().next().map(Arc::clone);
            let Some(oldest) = oldest else {
                return;
            };
            tokio::select! {
                () = oldest.has_spoken.cancelled() => {}
                () = oldest.gone.cancelled() => return,
                () = sleep_until(oldest.since + SPEAKS_IN) => {
                    self.remove(&oldest);
                    oldest.sent_away.cancel();
                    // Until then its descriptor is open.
                    oldest.gone.cancelled().await;
                    return;
                }
            }
        }
    }

    fn remove(&self, client: &Arc<Client>) {
        let mut waiting = self.waiting();
        waiting.clients.retain(|other| !Arc::ptr_eq(other, client));
    }

    /// Whether clients come faster than they log in.
    pub(crate) fn are_crowded(&self) -> bool {
        self.waiting().clients.len() >= MAX_LOGINS
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Waiting ===

impl Waiting {
    /// Those that have said nothing, the oldest first.
    fn silent(&self) -> impl Iterator<Item = &Arc<Client>> {
        self.clients.iter().filter(|client| client.is_silent())
    }

    /// Whose place the next one gets.
    fn to_send_away(&self) -> Option<usize> {
        if self.clients.len() < MAX_LOGINS {
            return None;
        }
        let old = self.clients.iter().filter(|client| !client.is_new());
        // They stand in the order that they came in.
        let candidates = match (old.count(), self.clients.len() < MOST_LOGINS) {
            (0, true) => return None,
            (0, false) => self.clients.len(),
            (old, _) => old,
        };
        let mut candidates = self.clients.iter().take(candidates);
        let place = candidates.position(|client| client.is_silent());
        Some(place.unwrap_or(0))
    }
}

// === impl Client ===

impl Client {
    fn new() -> Self {
        Self {
            since: Instant::now(),
            has_spoken: CancellationToken::new(),
            sent_away: CancellationToken::new(),
            gone: CancellationToken::new(),
        }
    }

    fn is_new(&self) -> bool {
        self.since.elapsed() < NEW
    }

    fn is_silent(&self) -> bool {
        !self.has_spoken.is_cancelled()
    }
}

// === impl LoginSlot ===

impl LoginSlot {
    /// The client has sent something.
    pub(crate) fn has_spoken(&self) {
        self.client.has_spoken.cancel();
    }

    /// Completes when the client has to make room for another.
    pub(crate) async fn sent_away(&self) {
        self.client.sent_away.cancelled().await;
    }
}

impl Drop for LoginSlot {
    fn drop(&mut self) {
        self.logins.remove(&self.client);
        self.client.gone.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_away(login: &LoginSlot) -> bool {
        login.client.sent_away.is_cancelled()
    }

    #[tokio::test(start_paused = true)]
    async fn the_silent_give_way_and_the_oldest_first() {
        let session = SessionName::parse("sushi").unwrap();
        let logins = Arc::new(PendingLogins::default());
        let first = logins.admit(&session);
        first.has_spoken();
        let mut silent: Vec<_> = (1..MAX_LOGINS).map(|_| logins.admit(&session)).collect();
        tokio::time::advance(NEW).await;
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

    #[tokio::test(start_paused = true)]
    async fn whoever_is_new_has_time_to_log_in() {
        let session = SessionName::parse("sushi").unwrap();
        let logins = Arc::new(PendingLogins::default());
        let honest = logins.admit(&session);
        honest.has_spoken();
        let others: Vec<_> = (1..MOST_LOGINS).map(|_| logins.admit(&session)).collect();
        assert!(!others.iter().any(is_away));
        let _next = logins.admit(&session);
        assert!(is_away(&others[0]) && !is_away(&honest));
        tokio::time::advance(NEW).await;
        let _last = logins.admit(&session);
        assert!(is_away(&others[1]) && !is_away(&honest));
    }

    /// A client that leaves when it is sent away.
    fn silent(login: LoginSlot) -> tokio::task::JoinHandle<()> {
        tokio::spawn(async move { login.sent_away().await })
    }

    #[tokio::test(start_paused = true)]
    async fn where_descriptors_are_short_only_those_give_way_who_had_time_to_speak() {
        let session = SessionName::parse("sushi").unwrap();
        let logins = Arc::new(PendingLogins::default());
        let [honest, slow] = [(); 2].map(|()| logins.admit(&session));
        honest.has_spoken();
        let first = silent(logins.admit(&session));
        let second = silent(logins.admit(&session));
        let began = Instant::now();
        let speaking = async {
            tokio::time::sleep(SPEAKS_IN / 2).await;
            slow.has_spoken();
        };
        tokio::join!(logins.send_silent_away(), speaking);
        // It has gone, and not only been told to.
        assert!(first.is_finished() && !second.is_finished());
        assert_eq!(began.elapsed(), SPEAKS_IN);
        // Time that has passed is no longer waited for.
        logins.send_silent_away().await;
        assert!(second.is_finished());
        assert_eq!(began.elapsed(), SPEAKS_IN);
        logins.send_silent_away().await;
        assert!(!is_away(&honest) && !is_away(&slow));
    }
}
