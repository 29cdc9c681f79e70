//! Clients that come without a pause, and count what fails.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use borealis_tests::harness::TestMachine;
use tokio::{task::JoinSet, time::Instant};
use tokio_postgres::NoTls;

/// How long a load lasts: `BOREALIS_LOAD_SECONDS`, else a few.
pub(crate) fn load_time() -> Duration {
    let seconds = std::env::var("BOREALIS_LOAD_SECONDS").ok();
    Duration::from_secs(seconds.map_or(8, |text| text.parse().expect("a number of seconds")))
}

/// Whether each transaction has a connection of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Connections {
    Each,
    Kept,
}

/// What pgbench needs in the database.
pub(crate) fn prepare(machine: &TestMachine) {
    let writer = machine.open(&["sushi", "-w"]);
    let made = machine
        .run("pgbench")
        .args(&["-i", "-q", "-s", "1", &writer])
        .outcome();
    made.expect_success();
    machine.ctl_ok(&["close", "sushi-rw"]);
}

/// pgbench under way.
pub(crate) struct Pgbench(std::process::Child);

// === impl Pgbench ===

impl Pgbench {
    /// `clients` of them, reading.
    pub(crate) fn start(
        machine: &TestMachine,
        url: &str,
        clients: u32,
        connections: Connections,
    ) -> Self {
        let seconds = load_time().as_secs().to_string();
        let clients = clients.to_string();
        let mut args = vec!["-n", "-S", "-T", &seconds, "-c", &clients, "-j", "2"];
        if connections == Connections::Each {
            args.push("-C");
        }
        args.push(url);
        Self(machine.run("pgbench").args(&args).start())
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.0.try_wait().expect("a child").is_some()
    }

    /// Waits for its end: nothing may have failed. Answers the number of transactions.
    #[track_caller]
    pub(crate) fn finish(self) -> u64 {
        let output = self.0.wait_with_output().expect("its output");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let wrong = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}\n{wrong}");
        let number = |label: &str| -> u64 {
            let line = said.lines().find_map(|line| line.strip_prefix(label));
            let text = line.unwrap_or_else(|| panic!("no {label:?} in {said}"));
            let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().expect("a number")
        };
        assert_eq!(
            number("number of failed transactions: "),
            0,
            "{said}\n{wrong}"
        );
        assert!(!wrong.contains("aborted"), "{wrong}");
        number("number of transactions actually processed: ")
    }
}

/// What came of clients that connect again where their connection is cut.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) done: AtomicU64,
    /// Connections that the database itself has cut.
    pub(crate) cut: AtomicU64,
}

/// Runs `clients` until `stop`; any failure but the database's own cut fails the test.
pub(crate) async fn clients(
    url: &str,
    clients: u32,
    connections: Connections,
    stop: Arc<AtomicBool>,
) -> Tally {
    let tally = Arc::new(Tally::default());
    let mut running = JoinSet::new();
    for number in 0..clients {
        let (url, stop, tally) = (url.to_owned(), Arc::clone(&stop), Arc::clone(&tally));
        running.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                client(&url, number, connections, &stop, &tally).await;
            }
        });
    }
    while let Some(ended) = running.join_next().await {
        ended.expect("a client without a failure");
    }
    Arc::into_inner(tally).expect("no client is left")
}

async fn client(
    url: &str,
    number: u32,
    connections: Connections,
    stop: &AtomicBool,
    tally: &Tally,
) {
    let began = Instant::now();
    let (client, connection) = match tokio_postgres::connect(url, NoTls).await {
        Ok(connected) => connected,
        Err(error) => panic!(
            "client {number} could not connect after {:?}: {error:?}",
            began.elapsed()
        ),
    };
    let connection = tokio::spawn(connection);
    while !stop.load(Ordering::Relaxed) {
        let asked = client.simple_query("select count(*) from orders").await;
        match asked {
            Ok(_) => tally.done.fetch_add(1, Ordering::Relaxed),
            Err(error) => {
                // Either the answer or the connection says why.
                let ended = connection.await.expect("no panic").err();
                let cut = [Some(&error), ended.as_ref()]
                    .into_iter()
                    .flatten()
                    .any(|error| {
                        error.as_db_error().is_some_and(|error| {
                            error.message() == "terminating connection due to administrator command"
                        })
                    });
                assert!(cut, "client {number} failed: {error:?}, {ended:?}");
                tally.cut.fetch_add(1, Ordering::Relaxed);
                return;
            }
        };
        if connections == Connections::Each {
            return;
        }
    }
}
