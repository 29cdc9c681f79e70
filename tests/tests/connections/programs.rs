//! Which program a connection is.

use std::{
    fs,
    path::PathBuf,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
};

use borealis_tests::harness::TestMachine;
use serde_json::{Value, json};

use crate::{
    client::{Client, Kind},
    id, ps, served_by, serves,
};

/// How often each program must be told right.
const ROUNDS: usize = 50;

struct Expected {
    client: Client,
    dir: PathBuf,
    via: &'static str,
    backend: String,
}

/// What is wrong with what is shown of a client.
fn wrong(expected: &Expected, shown: &[Value]) -> Option<String> {
    let of_backend = |c: &&Value| serves(c, &expected.backend);
    let Some(found) = shown.iter().find(of_backend) else {
        return Some(format!("backend {} is not shown", expected.backend));
    };
    let name = found["program"].as_str().unwrap_or_default();
    let right = name.starts_with(expected.client.name())
        && found["pid"] == expected.client.pid()
        && found["cwd"] == expected.dir.display().to_string()
        && found["via"] == expected.via;
    (!right).then(|| found.to_string())
}

#[test]
fn each_program_is_named_while_others_come_and_go() {
    let machine = TestMachine::new();
    let tcp = machine.open(&["sushi"]);
    let unix = format!(
        "postgresql:///d4f0?host={}&user=sushi",
        machine.socket_dir("sushi").display()
    );
    let mut expected = Vec::new();
    for kind in [Kind::Psql, Kind::Python, Kind::Node] {
        for (via, url) in [("tcp", &tcp), ("unix", &unix)] {
            let dir = machine.path(&format!("work-{kind:?}-{via}"));
            fs::create_dir(&dir).unwrap();
            let dir = dir.canonicalize().unwrap();
            let mut client = Client::start(&machine, kind, &dir, url);
            let backend = client.ask("select pg_backend_pid()");
            expected.push(Expected {
                client,
                dir,
                via,
                backend,
            });
        }
    }
    let (is_over, came) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for url in [&tcp, &unix] {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    assert_eq!(machine.query(url, "select 1"), "1");
                    came.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let mut right = 0;
        let mut last = Vec::new();
        for _ in 0..ROUNDS {
            let shown = ps(&machine);
            last = expected.iter().filter_map(|e| wrong(e, &shown)).collect();
            // Whoever comes and goes is psql, or nobody by now.
            let others = shown.iter().filter(|c| {
                let is_expected = expected.iter().any(|e| serves(c, &e.backend));
                !(is_expected || c["program"].is_null() || is_psql(c))
            });
            last.extend(others.map(Value::to_string));
            if !last.is_empty() {
                break;
            }
            right += 1;
        }
        is_over.store(true, Ordering::Relaxed);
        println!(
            "right {right} of {ROUNDS} times, while {} others came",
            came.load(Ordering::Relaxed)
        );
        assert_eq!(last, [""; 0]);
    });
    drop(expected);
    machine.leave();
}

/// Debian's psql is a script that becomes the program.
fn is_psql(connection: &Value) -> bool {
    connection["program"] == "psql"
}

#[test]
fn the_contracts_keys_are_shown_in_every_format() {
    let machine = TestMachine::new();
    let url = machine.open(&["sushi", "-w"]);
    let dir = machine.path("").canonicalize().unwrap();
    let mut client = Client::start(
        &machine,
        Kind::Python,
        &dir,
        &format!("{url}?application_name=loader%1B"),
    );
    let backend = client.ask("select pg_backend_pid()");
    let shown = served_by(&machine, &backend);
    let keys: Vec<_> = shown.as_object().unwrap().keys().collect();
    let mut contract = vec![
        "id",
        "session",
        "via",
        "program",
        "pid",
        "command",
        "cwd",
        "unit",
        "container",
        "application_name",
        "database",
        "tls",
        "state",
        "state_since",
        "since",
        "backend_pid",
        "bytes",
    ];
    contract.sort_unstable();
    let mut sorted = keys.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, contract);
    assert_eq!(shown["session"], "sushi-rw");
    assert_eq!(shown["application_name"], "loader\u{1b}");
    assert_eq!(shown["database"], "d4f0");
    assert_eq!(shown["tls"], true, "libpq asks for it");
    assert_eq!(shown["state"], "idle");
    assert_eq!(
        (&shown["unit"], &shown["container"]),
        (&json!(null), &json!(null))
    );
    for direction in ["sent", "received"] {
        assert!(shown["bytes"][direction].as_u64().unwrap() > 0, "{shown}");
    }
    // The URL in its command has the session's password.
    let command = shown["command"].as_str().unwrap();
    assert!(command.contains("sushi-rw:********@"), "{command}");
    let csv = machine.ctl_ok(&["ps", "sushi-rw", "-f", "csv"]);
    let heading = csv.lines().next().unwrap();
    assert_eq!(
        heading,
        "id,session,via,program,pid,command,cwd,unit,container,application_name,database,tls,\
         state,state_since,since,backend_pid,bytes_sent,bytes_received"
    );
    let yaml = machine.ctl_ok(&["ps", "-f", "yaml"]);
    assert!(yaml.contains(&format!("id: {}", id(&shown))), "{yaml}");
    let table = machine.ctl_ok(&["ps"]);
    let line = table.lines().nth(1).unwrap();
    assert!(line.contains(&format!("({})", client.pid())), "{table}");
    assert!(line.contains("  idle  "), "{table}");
    assert!(!table.contains('\u{1b}'), "{table}");
    let nobody = machine.ctl(&["ps", "ramen"]);
    nobody.expect_failure(5, &["no session"]);
    drop(client);
    machine.leave();
}
