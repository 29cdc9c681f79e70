//! Drivers that people use, against a session: connect, query, `COPY` both ways, `LISTEN`,
//! prepared statements, cancel, large results; over TCP with each kind of TLS, and over the
//! Unix socket. tokio-postgres is what other tests are made with.
//!
//! `tests/scripts/drivers` installs them, in the versions that `programs/` pins.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that meets the unexpected has failed"
)]

use std::path::{Path, PathBuf};

use borealis_tests::harness::{Admin, Outcome, TestMachine};
use serde_json::json;

/// A session to be written to, and what leads to it.
struct Endpoints {
    machine: TestMachine,
    port: u64,
    password: String,
    socket_dir: String,
    ca: String,
}

// === impl Endpoints ===

impl Endpoints {
    fn new() -> Self {
        let machine = TestMachine::new();
        let opened = machine.json(&["open", "sushi", "-w"]);
        let text = |key: &str| opened[key].as_str().unwrap().to_owned();
        Self {
            port: opened["port"].as_u64().unwrap(),
            password: text("password"),
            socket_dir: text("socket_dir"),
            ca: machine
                .path("state/borealis/tls/ca.pem")
                .display()
                .to_string(),
            machine,
        }
    }

    /// For libpq, over TCP.
    fn tcp(&self, options: &str) -> String {
        let Self { port, password, .. } = self;
        format!(
            "host=127.0.0.1 port={port} user=sushi-rw password={password} dbname=d4f0 {options}"
        )
    }

    fn verified(&self, options: &str) -> String {
        let ca = &self.ca;
        self.tcp(&format!("sslmode=verify-full sslrootcert={ca} {options}"))
    }

    /// For libpq, over the Unix socket.
    fn unix(&self) -> String {
        format!("host={} dbname=d4f0", self.socket_dir)
    }

    /// The same as URLs, for who doesn't take keywords.
    fn urls(&self) -> Vec<String> {
        let Self {
            port,
            password,
            socket_dir,
            ca,
            ..
        } = self;
        let base = format!("postgresql://sushi-rw:{password}@127.0.0.1:{port}/d4f0");
        let full = format!("{base}?sslmode=verify-full&sslrootcert={ca}");
        let modes = ["disable", "prefer", "require"].map(|mode| format!("{base}?sslmode={mode}"));
        let socket = format!("postgresql:///d4f0?host={socket_dir}&user=sushi-rw");
        [vec![full], modes.to_vec(), vec![socket]].concat()
    }
}

/// A path below what `tests/scripts/drivers` has installed. Without it these tests fail.
fn installed(below: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/drivers");
    let root = std::env::var_os("BOREALIS_DRIVERS").map_or(root, PathBuf::from);
    let path = root.join(below);
    assert!(
        path.exists(),
        "{} is missing: `tests/scripts/drivers` installs the drivers that these tests run \
         (it needs PyPI and the npm registry); `make test` calls it",
        path.display()
    );
    path
}

fn program(name: &str) -> String {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/drivers/programs");
    dir.join(name).display().to_string()
}

/// Shows what a program says of itself, which must have succeeded.
#[track_caller]
#[allow(
    clippy::print_stdout,
    reason = "versions, for who asks with --nocapture"
)]
fn succeeded(outcome: Outcome) {
    println!("{}", outcome.expect_success());
}

/// Runs a program to its end, and shows what it says of itself.
#[track_caller]
fn check(endpoints: &Endpoints, interpreter: &Path, name: &str, args: &[&str]) {
    let outcome = endpoints
        .machine
        .run(interpreter)
        .args(&[&[program(name).as_str()], args].concat())
        .env("NODE_MODULES_OF", &installed("").display().to_string())
        .outcome();
    succeeded(outcome);
}

#[test]
fn psql_with_every_sslmode() {
    let endpoints = Endpoints::new();
    let ask = |conninfo: &str| {
        let sql = "select count(*) from pg_stat_ssl where pid = pg_backend_pid()";
        assert_eq!(endpoints.machine.query(conninfo, sql), "1", "{conninfo}");
    };
    for mode in ["disable", "allow", "prefer", "require"] {
        for more in ["", "gssencmode=disable", "gssencmode=prefer"] {
            ask(&endpoints.tcp(&format!("sslmode={mode} {more}")));
        }
    }
    let ca = &endpoints.ca;
    for mode in ["require", "verify-ca", "verify-full"] {
        for binding in ["disable", "prefer", "require"] {
            ask(&endpoints.tcp(&format!(
                "sslmode={mode} sslrootcert={ca} channel_binding={binding}"
            )));
        }
    }
    for host in ["127.0.0.1", "localhost"] {
        let verified = endpoints.verified("").replace("127.0.0.1", host);
        ask(&verified);
    }
    ask(&endpoints.unix());
    // Nobody else's authority will do.
    let other = endpoints.machine.sandbox.database_authority();
    let refused = endpoints.machine.psql(
        &endpoints.tcp(&format!(
            "sslmode=verify-ca sslrootcert={}",
            other.display()
        )),
        "select 1",
    );
    refused.expect_failure(2, &["certificate verify failed"]);
    endpoints.machine.leave();
}

#[test]
fn psycopg() {
    let endpoints = Endpoints::new();
    let all = [
        endpoints.verified("channel_binding=require"),
        endpoints.tcp("sslmode=disable"),
        endpoints.tcp("sslmode=prefer"),
        endpoints.tcp("sslmode=require"),
        endpoints.verified("sslnegotiation=direct"),
        endpoints.tcp("sslmode=disable max_protocol_version=3.2"),
        endpoints.unix(),
    ];
    let args: Vec<&str> = all.iter().map(String::as_str).collect();
    let python = installed("python/bin/python");
    check(&endpoints, &python, "psycopg_checks.py", &args);
    check(&endpoints, &python, "psycopg_checks.py", &[args[6]]);
    endpoints.machine.leave();
}

/// As PostgreSQL does: what a client has sent before its end arrives, however it ends.
#[test]
fn what_killed_clients_have_sent_arrives() {
    let endpoints = Endpoints::new();
    let machine = &endpoints.machine;
    machine.query(
        &endpoints.unix(),
        "create table killed (way int, size int, text text)",
    );
    let admin = Admin::new(machine);
    let role = "create role direct superuser login password 'direct'";
    admin.ask(role, machine);
    let port = machine.sandbox.database_port();
    let all = [
        format!(
            "host=127.0.0.1 port={port} user=direct password=direct dbname=d4f0 sslmode=require"
        ),
        endpoints.tcp("sslmode=require"),
    ];
    let python = installed("python/bin/python");
    check(&endpoints, &python, "killed_checks.py", &["100", &all[0]]);
    machine.query(&endpoints.unix(), "truncate killed");
    check(&endpoints, &python, "killed_checks.py", &["200", &all[1]]);
    endpoints.machine.leave();
}

#[test]
fn asyncpg() {
    let endpoints = Endpoints::new();
    let all = endpoints.urls();
    let args: Vec<&str> = all.iter().map(String::as_str).collect();
    let python = installed("python/bin/python");
    check(&endpoints, &python, "asyncpg_checks.py", &args);
    check(&endpoints, &python, "asyncpg_checks.py", &args[4..]);
    endpoints.machine.leave();
}

#[test]
fn node_postgres() {
    let endpoints = Endpoints::new();
    installed("node_modules/pg/package.json");
    let tcp = |more: serde_json::Value| {
        let mut config = json!({
            "host": "127.0.0.1", "port": endpoints.port, "user": "sushi-rw",
            "password": endpoints.password, "database": "d4f0",
        });
        let more = more.as_object().unwrap().clone();
        config.as_object_mut().unwrap().extend(more);
        config
    };
    let unix = json!({"host": endpoints.socket_dir, "user": "sushi-rw", "database": "d4f0"});
    let all = json!([
        tcp(json!({"ca": endpoints.ca, "enableChannelBinding": true})),
        tcp(json!({"ssl": false})),
        tcp(json!({"ssl": {"rejectUnauthorized": false}})),
        unix,
    ]);
    let node = Path::new("node");
    check(&endpoints, node, "node_postgres.mjs", &[&all.to_string()]);
    let unix = json!([unix]).to_string();
    check(&endpoints, node, "node_postgres.mjs", &[&unix]);
    endpoints.machine.leave();
}

#[test]
#[ignore = "needs a JDK; BOREALIS_JDBC names the driver's jar, e.g. of Debian's libpostgresql-jdbc-java"]
fn jdbc() {
    let endpoints = Endpoints::new();
    let jar = std::env::var("BOREALIS_JDBC").expect("BOREALIS_JDBC");
    let Endpoints {
        port, password, ca, ..
    } = &endpoints;
    let url = format!("jdbc:postgresql://127.0.0.1:{port}/d4f0");
    let full = format!("{url}?sslmode=verify-full&sslrootcert={ca}");
    let mut all = vec![full];
    all.extend(["disable", "prefer", "require"].map(|mode| format!("{url}?sslmode={mode}")));
    let outcome = endpoints
        .machine
        .run("java")
        .args(&[
            "-cp",
            &jar,
            &program("JdbcChecks.java"),
            "sushi-rw",
            password,
        ])
        .args(&all.iter().map(String::as_str).collect::<Vec<_>>())
        .outcome();
    succeeded(outcome);
    endpoints.machine.leave();
}
