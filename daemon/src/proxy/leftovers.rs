//! What connections leave behind at the database whose tunnel is lost. The server goes on with
//! their statements and keeps their transactions open, with every lock, until it notices, which
//! takes from minutes to hours. So the daemon ends them as soon as it is back.

use std::{
    fmt::Write as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::drain::Drain;
use crate::{
    platform::clock::{BootInstant, Clock},
    postgres::CancelRequest,
    tunnels::Gate,
};

/// How long they are kept in mind. By then a server with the usual settings has noticed.
const KEPT_FOR: Duration = Duration::from_secs(30 * 60);
/// What one try to end them may take.
const TRY_LIMIT: Duration = Duration::from_secs(15);
/// How soon the next try follows on one that failed.
const PAUSE: Duration = Duration::from_secs(2);
/// A backend may be this much younger than it was reckoned: clocks of two machines go at
/// speeds of their own.
const SLACK: Duration = Duration::from_secs(1);

/// The backends that one session has left behind.
#[derive(Default)]
pub(crate) struct Leftovers(Mutex<State>);

#[derive(Default)]
struct State {
    backends: Vec<Backend>,
    /// A task is at it.
    is_clearing: bool,
}

/// A server process of a connection that is no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Backend {
    process_id: u32,
    /// When it was logged in, at the latest.
    since: BootInstant,
    /// When its connection was lost.
    lost_at: Option<BootInstant>,
}

// === impl Backend ===

impl Backend {
    /// Of a connection with this key, logged in at this moment at the latest.
    pub(super) fn new(key: &CancelRequest, since: BootInstant) -> Self {
        Self {
            process_id: key.process_id(),
            since,
            lost_at: None,
        }
    }

    fn is_forgotten(&self) -> bool {
        self.lost_at.is_some_and(|at| at.elapsed() >= KEPT_FOR)
    }
}

/// The database of a session, which is asked on a connection of the daemon's own.
pub(super) trait Database: Send + Sync + 'static {
    /// Whether it can be reached.
    fn gate(&self) -> watch::Receiver<Gate>;

    /// How many rows of a query's answer are true; `None` where it can't be asked.
    fn count_true(&self, sql: &str) -> impl Future<Output = Option<usize>> + Send;

    /// So many backends have been ended.
    fn have_ended(&self, count: usize);
}

// === impl Leftovers ===

impl Leftovers {
    /// Has a backend ended once the session is up again.
    pub(super) fn clear<D: Database>(
        self: &Arc<Self>,
        mut backend: Backend,
        database: Arc<D>,
        drain: &Drain,
    ) {
        backend.lost_at = Some(Clock::now());
        {
            let mut state = self.state();
            state.backends.push(backend);
            if std::mem::replace(&mut state.is_clearing, true) {
                return;
            }
        }
        let this = Arc::clone(self);
        let (mut now, mut at_idle) = (drain.follow(), drain.follow());
        tokio::spawn(async move {
            tokio::select! {
                () = this.clear_all(&*database) => {}
                _ = now.now() => {}
                _ = at_idle.at_idle() => {}
            }
        });
    }

    async fn clear_all<D: Database>(&self, database: &D) {
        let mut gate = database.gate();
        while gate.wait_for(|gate| *gate == Gate::Open).await.is_ok() {
            let Some(backends) = self.next() else {
                return;
            };
            let sql = statement(&backends, Clock::now());
            match timeout(TRY_LIMIT, database.count_true(&sql)).await {
                Ok(Some(ended)) => {
                    self.forget(&backends);
                    if ended > 0 {
                        database.have_ended(ended);
                    }
                }
                Ok(None) | Err(_) => sleep(PAUSE).await,
            }
        }
    }

    /// Those that are to be ended now; `None` where that is done.
    fn next(&self) -> Option<Vec<Backend>> {
        let mut state = self.state();
        state.backends.retain(|backend| !backend.is_forgotten());
        if state.backends.is_empty() {
            state.is_clearing = false;
            return None;
        }
        Some(state.backends.clone())
    }

    fn forget(&self, done: &[Backend]) {
        let mut state = self.state();
        state.backends.retain(|backend| !done.contains(backend));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends each backend only where it still is that one: the role's own, and no younger than the
/// connection was. Ages are compared, as the server's clock need not be this machine's.
fn statement(backends: &[Backend], now: BootInstant) -> String {
    let mut sql = String::from(
        "select pg_catalog.pg_terminate_backend(a.pid) from pg_catalog.pg_stat_activity a where a.usename = current_user and (false",
    );
    for backend in backends {
        let age = now.since(backend.since).saturating_sub(SLACK).as_millis();
        // Writing to a text can't fail.
        let _ = write!(
            sql,
            " or (a.pid = {} and pg_catalog.clock_timestamp() - a.backend_start >= interval '{age} milliseconds')",
            backend.process_id
        );
    }
    sql.push(')');
    sql
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_is_ended_only_where_it_is_as_old_as_the_connection() {
        let at = |seconds| BootInstant::since_boot(Duration::from_secs(seconds));
        let backends = [(17, 100), (23, 161)].map(|(process_id, since)| Backend {
            process_id,
            since: at(since),
            lost_at: None,
        });
        let sql = statement(&backends, at(161));
        assert!(sql.contains("a.usename = current_user"), "{sql}");
        assert!(
            sql.contains("a.pid = 17 and pg_catalog.clock_timestamp() - a.backend_start >= interval '60000 milliseconds'"),
            "{sql}"
        );
        assert!(sql.contains("a.pid = 23"), "{sql}");
        assert!(sql.ends_with("interval '0 milliseconds'))"), "{sql}");
    }

    /// Can't be asked at first; then says that one backend was still there.
    struct Fake {
        gate: watch::Sender<Gate>,
        tries: Mutex<Vec<String>>,
        ended: watch::Sender<usize>,
    }

    impl Database for Arc<Fake> {
        fn gate(&self) -> watch::Receiver<Gate> {
            self.gate.subscribe()
        }

        async fn count_true(&self, sql: &str) -> Option<usize> {
            let mut tries = self.tries.lock().unwrap();
            tries.push(sql.to_owned());
            (tries.len() > 2).then_some(1)
        }

        fn have_ended(&self, count: usize) {
            self.ended.send_modify(|ended| *ended += count);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn they_are_ended_together_once_the_session_is_up_again() {
        let fake = Arc::new(Fake {
            gate: watch::Sender::new(Gate::Hold(None)),
            tries: Mutex::default(),
            ended: watch::Sender::new(0),
        });
        let (leftovers, drain) = (Arc::<Leftovers>::default(), Drain::new());
        for process_id in [17, 23] {
            let backend = Backend {
                process_id,
                since: Clock::now(),
                lost_at: None,
            };
            leftovers.clear(backend, Arc::new(Arc::clone(&fake)), &drain);
        }
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(fake.tries.lock().unwrap().is_empty());
        fake.gate.send_replace(Gate::Open);
        let mut ended = fake.ended.subscribe();
        ended.wait_for(|ended| *ended == 1).await.unwrap();
        let tries = fake.tries.lock().unwrap().clone();
        assert_eq!(tries.len(), 3);
        assert!(tries[2].contains("a.pid = 17") && tries[2].contains("a.pid = 23"));
        assert!(leftovers.state().backends.is_empty());
    }
}
