//! Steady load on a session whose answers are checked: clients that come, ask and go, and
//! clients that stay. A connection may break with its tunnel; none may fail to be made, be
//! answered wrongly or be left hanging.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::{
    runtime::Runtime,
    time::{sleep, timeout},
};
use tokio_postgres::{Client, NoTls};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// More than the daemon's `connect_timeout`, at most 60 s here: who gets no answer by then
/// hangs.
const CONNECTING: Duration = Duration::from_secs(75);
/// More than what it takes to find a dead line, 10 s, and then as long as for one that connects:
/// whose connection was kept ready and turns out to hang is held like that.
const ANSWERING: Duration = Duration::from_secs(CONNECTING.as_secs() + 10);

/// Clients that run until they are stopped.
pub(super) struct Load {
    runtime: Runtime,
    shared: Arc<Shared>,
    tasks: TaskTracker,
}

struct Shared {
    url: String,
    stop: CancellationToken,
    tally: Tally,
    /// The daemon isn't there, so that nobody can hold a connection.
    absent: AtomicBool,
    /// How often it was gone: a connection that was begun before ended with it, however late
    /// its client sees that.
    absences: AtomicU64,
}

/// What became of the clients.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) connections: AtomicU64,
    pub(super) answers: AtomicU64,
    /// Connections that ended while they were asking.
    pub(super) broken: AtomicU64,
    /// The longest that a connection took to be made, in milliseconds.
    pub(super) longest_hold: AtomicU64,
    /// The longest that an answer took, in milliseconds.
    pub(super) longest_answer: AtomicU64,
    /// What must not be.
    pub(super) wrongs: Mutex<Vec<String>>,
}

// === impl Load ===

impl Load {
    /// Starts so many clients that come and go, and so many that stay.
    pub(super) fn start(url: &str, visitors: u32, residents: u32) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let load = Self {
            runtime,
            shared: Arc::new(Shared {
                url: url.to_owned(),
                stop: CancellationToken::new(),
                tally: Tally::default(),
                absent: AtomicBool::new(false),
                absences: AtomicU64::new(0),
            }),
            tasks: TaskTracker::new(),
        };
        for number in 0..visitors + residents {
            let shared = Arc::clone(&load.shared);
            let stays = number >= visitors;
            load.tasks
                .spawn_on(client(shared, number, stays), load.runtime.handle());
        }
        load
    }

    pub(super) fn tally(&self) -> &Tally {
        &self.shared.tally
    }

    /// Waits for so many more answers.
    pub(super) fn await_answers(&self, more: u64) {
        let answers = &self.shared.tally.answers;
        let wanted = answers.load(Relaxed) + more;
        let coming = async {
            while answers.load(Relaxed) < wanted {
                sleep(Duration::from_millis(5)).await;
            }
        };
        let came = self
            .runtime
            .block_on(async { timeout(CONNECTING, coming).await });
        assert!(came.is_ok(), "no answers: {:?}", self.wrongs());
    }

    /// Says that the daemon is gone, or back.
    pub(super) fn set_absent(&self, absent: bool) {
        self.shared.absences.fetch_add(u64::from(absent), Relaxed);
        self.shared.absent.store(absent, Relaxed);
    }

    pub(super) fn wrongs(&self) -> Vec<String> {
        self.shared.tally.wrongs.lock().unwrap().clone()
    }

    /// Lets every client come to its end; nothing may have gone wrong.
    #[track_caller]
    pub(super) fn stop(self) {
        self.shared.stop.cancel();
        self.tasks.close();
        self.runtime.block_on(self.tasks.wait());
        let tally = self.tally();
        let of = |count: &AtomicU64| count.load(Relaxed);
        println!(
            "{} connections, {} answers, {} broken, longest hold {} ms, longest answer {} ms",
            of(&tally.connections),
            of(&tally.answers),
            of(&tally.broken),
            of(&tally.longest_hold),
            of(&tally.longest_answer)
        );
        let wrongs = self.wrongs();
        assert!(wrongs.is_empty(), "{wrongs:#?}");
    }
}

async fn client(shared: Arc<Shared>, number: u32, stays: bool) {
    let mut asked = u64::from(number) << 32;
    while !shared.stop.is_cancelled() {
        let Some(client) = shared.connect().await else {
            continue;
        };
        loop {
            asked += 1;
            let began = Instant::now();
            match timeout(ANSWERING, ask(&client, asked)).await {
                Ok(Ok(true)) => {
                    shared.tally.answers.fetch_add(1, Relaxed);
                    raise(&shared.tally.longest_answer, began.elapsed());
                }
                Ok(Ok(false)) => shared.wrong(format!("a wrong answer to {asked}")),
                Ok(Err(_)) => {
                    shared.tally.broken.fetch_add(1, Relaxed);
                    break;
                }
                Err(_) => {
                    shared.wrong(format!("no answer within {ANSWERING:?}"));
                    break;
                }
            }
            let pause = sleep(Duration::from_millis(20));
            let stopped = shared.stop.run_until_cancelled(pause).await.is_none();
            if !stays || stopped {
                break;
            }
        }
    }
}

/// Whether the answer is the right one. One in twenty is long.
async fn ask(client: &Client, asked: u64) -> Result<bool, tokio_postgres::Error> {
    let length = if asked.is_multiple_of(20) {
        100_000
    } else {
        10
    };
    let digit = char::from(b'0' + u8::try_from(asked % 10).unwrap());
    let query = format!("select {asked}::int8 * 3 + 1, repeat('{digit}', {length})");
    let row = client.query_one(&query, &[]).await?;
    let (number, text): (i64, &str) = (row.get(0), row.get(1));
    let right = i64::try_from(asked * 3 + 1).unwrap();
    Ok(number == right && text.len() == length && text.chars().all(|c| c == digit))
}

// === impl Shared ===

impl Shared {
    async fn connect(&self) -> Option<Client> {
        let began = Instant::now();
        let absences = || self.absences.load(Relaxed);
        let absences_before = absences();
        match timeout(CONNECTING, tokio_postgres::connect(&self.url, NoTls)).await {
            Ok(Ok((client, connection))) => {
                // It ends with the client.
                tokio::spawn(connection);
                self.tally.connections.fetch_add(1, Relaxed);
                raise(&self.tally.longest_hold, began.elapsed());
                return Some(client);
            }
            Ok(Err(_)) if self.absent.load(Relaxed) || absences() != absences_before => {
                sleep(Duration::from_millis(20)).await
            }
            Ok(Err(error)) => {
                let said = error.as_db_error().map(ToString::to_string);
                self.wrong(format!(
                    "a connection failed after {:?}: {error}: {said:?}",
                    began.elapsed()
                ));
                sleep(Duration::from_millis(200)).await;
            }
            Err(_) => self.wrong(format!("no connection within {CONNECTING:?}")),
        }
        None
    }

    fn wrong(&self, what: String) {
        let mut wrongs = self.tally.wrongs.lock().unwrap();
        if wrongs.len() < 20 {
            wrongs.push(what);
        }
    }
}

fn raise(longest: &AtomicU64, time: Duration) {
    longest.fetch_max(u64::try_from(time.as_millis()).unwrap(), Relaxed);
}
