//! The administrator's view of an add-on's database, past everything.

use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use super::{TestMachine, eventually};

/// A connection of the superuser, straight to the server.
pub struct Admin {
    client: Client,
}

// === impl Admin ===

impl Admin {
    /// To the database of app `sushi`.
    pub fn new(machine: &TestMachine) -> Self {
        let client = machine.sandbox.block_on(async {
            let config = machine.sandbox.admin_config("sushi").await;
            let config = config.expect("an add-on");
            let (client, connection) = config.connect(NoTls).await.expect("a connection");
            tokio::spawn(connection);
            client
        });
        Self { client }
    }

    /// The first column of the first row; empty where there is none.
    #[track_caller]
    pub fn ask(&self, sql: &str, machine: &TestMachine) -> String {
        let rows = machine.sandbox.block_on(self.client.simple_query(sql));
        let rows = rows.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        let row = rows.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        });
        row.unwrap_or_default()
    }

    /// Waits until a query answers this.
    #[track_caller]
    pub fn wait_until(&self, sql: &str, answer: &str, machine: &TestMachine) {
        eventually(|| {
            let found = self.ask(sql, machine);
            if found == answer {
                Ok(())
            } else {
                Err(format!("{sql}: {found:?}, not {answer:?}"))
            }
        });
    }

    /// The process ids of a role's connections, in order.
    pub fn connections(&self, role: &str, machine: &TestMachine) -> String {
        let sql = format!(
            "select string_agg(pid::text, ' ' order by pid) from pg_stat_activity where usename = '{role}'"
        );
        self.ask(&sql, machine)
    }

    /// Waits until a role's connections are as wanted.
    #[track_caller]
    pub fn wait_for(&self, role: &str, machine: &TestMachine, wanted: impl Fn(&str) -> bool) {
        eventually(|| {
            let found = self.connections(role, machine);
            if wanted(&found) {
                Ok(())
            } else {
                Err(format!("connections: {found}"))
            }
        });
    }
}
