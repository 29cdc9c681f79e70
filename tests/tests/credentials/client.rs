//! A client that stays connected and says how its connection ended.

use borealis_tests::harness::{PATIENCE, TestMachine};
use tokio::{task::JoinHandle, time::timeout};
use tokio_postgres::{Client, Error, NoTls, error::DbError};

/// A client of tokio-postgres.
pub(crate) struct Connected {
    pub(crate) client: Client,
    end: JoinHandle<Result<(), Error>>,
}

// === impl Connected ===

impl Connected {
    /// Connects to a URL that a session gave.
    pub(crate) fn to(url: &str, machine: &TestMachine) -> Self {
        Self::try_to(url, machine).expect("a connection")
    }

    /// Connects, or answers why not.
    pub(crate) fn try_to(url: &str, machine: &TestMachine) -> Result<Self, Error> {
        machine.sandbox.block_on(async {
            let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
            Ok(Self {
                client,
                end: tokio::spawn(connection),
            })
        })
    }

    /// Runs statements without a result.
    pub(crate) fn run(&self, sql: &str, machine: &TestMachine) -> Result<(), Error> {
        machine.sandbox.block_on(self.client.batch_execute(sql))
    }

    /// The first column of the first row, as text.
    pub(crate) fn ask(&self, sql: &str, machine: &TestMachine) -> String {
        use tokio_postgres::SimpleQueryMessage::Row;

        let messages = machine
            .sandbox
            .block_on(self.client.simple_query(sql))
            .expect("an answer");
        let row = messages.iter().find_map(|message| match message {
            Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        });
        row.expect("a row")
    }

    /// Waits for the end of the connection, which the server must say something at.
    pub(crate) fn end(self, machine: &TestMachine) -> DbError {
        let ended = machine
            .sandbox
            .block_on(async { timeout(PATIENCE, self.end).await });
        let error = ended
            .expect("an end in time")
            .expect("no panic")
            .expect_err("an error");
        error
            .as_db_error()
            .unwrap_or_else(|| panic!("{error:?}"))
            .clone()
    }
}
