//! Clients of a session: one that asks all the time and is measured, and one that has
//! stopped reading.

use std::{
    io::Read as _,
    process::Child,
    time::{Duration, Instant},
};

use borealis_tests::harness::TestMachine;
use tokio_postgres::NoTls;

/// A connection that stays, to be asked again and again.
pub(super) struct Client {
    client: tokio_postgres::Client,
    runtime: tokio::runtime::Runtime,
}

/// psql in the middle of a result without an end, which nobody takes from it.
pub(super) struct StalledReader(Child);

// === impl Client ===

impl Client {
    pub(super) fn connect(url: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (client, connection) = runtime
            .block_on(tokio_postgres::connect(url, NoTls))
            .expect("a connection");
        // It ends with the client.
        runtime.spawn(connection);
        Self { client, runtime }
    }

    /// One round trip to the database, and how long it took.
    pub(super) fn ask(&self, limit: Duration) -> Result<Duration, String> {
        let began = Instant::now();
        let asking =
            async { tokio::time::timeout(limit, self.client.query_one("select 1", &[])).await };
        match self.runtime.block_on(asking) {
            Ok(Ok(_)) => Ok(began.elapsed()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {limit:?}")),
        }
    }

    /// The slowest of so many round trips.
    #[track_caller]
    pub(super) fn slowest(&self, times: u32) -> Duration {
        let ask = |_| self.ask(Duration::from_secs(10)).expect("an answer");
        (0..times).map(ask).max().unwrap()
    }
}

// === impl StalledReader ===

impl StalledReader {
    /// Returns once the first of its result is there.
    pub(super) fn start(machine: &TestMachine, url: &str) -> Self {
        let endless = "copy (select repeat('x', 1000), generate_series(1, 100000000)) to stdout";
        let mut psql = machine.run("psql").args(&["-XAtqc", endless, url]).start();
        // What psql can't write it doesn't read: its pipe is full after 64 KiB.
        let mut first = [0];
        psql.stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut first)
            .expect("a result");
        Self(psql)
    }
}

impl Drop for StalledReader {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
