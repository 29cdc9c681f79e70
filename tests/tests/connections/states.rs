//! What a connection is at, from its first moment on.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::TcpStream,
};

use borealis_proto::v1::State;
use borealis_tests::{
    harness::{
        TestMachine,
        wire::{self, Wire},
    },
    sandbox::BastionAction,
};

use crate::{does, id, ps, served_by, wait_for};

#[test]
fn states_are_those_of_pg_stat_activity() {
    let machine = TestMachine::new();
    machine.open(&["sushi"]);
    let (mut client, _) = Wire::log_in(&machine.socket_dir("sushi"), &[("user", "sushi")]);
    let backend = client.ask("select pg_backend_pid()");
    for (sql, state) in [
        ("select 1", "idle"),
        ("begin", "idle in transaction"),
        ("select 1/0", "idle in transaction (aborted)"),
        ("rollback", "idle"),
    ] {
        client.send(&wire::query(sql)).unwrap();
        client.until(b'Z').unwrap();
        let shown = served_by(&machine, &backend);
        assert_eq!(shown["state"], state, "after {sql}");
    }
    // Parse begins the server's work; Sync ends it.
    client
        .send(&wire::message(b'P', b"\0select 1\0\0\0"))
        .unwrap();
    wait_for(&machine, |c| c["state"] == "active");
    client.send(&wire::message(b'S', b"")).unwrap();
    client.until(b'Z').unwrap();
    assert_eq!(served_by(&machine, &backend)["state"], "idle");
    machine.leave();
}

#[test]
fn who_waits_in_an_outage_is_shown_and_can_be_ended() {
    let machine = TestMachine::new();
    let url = machine.open(&["sushi"]);
    let address = url.rsplit_once('@').unwrap().1.split_once('/').unwrap().0;
    let faults = machine.sandbox.faults();
    let bastion = |action| machine.sandbox.block_on(faults.bastion(action)).unwrap();
    bastion(BastionAction::Stop);
    machine.wait_for("sushi", |session| session.state() != State::Up);
    let silent = TcpStream::connect(address).unwrap();
    let shown = wait_for(&machine, |c| c["state"] == "logging in");
    assert_eq!(
        (&shown["database"], &shown["backend_pid"]),
        (&().into(), &().into())
    );
    let dir = machine.socket_dir("sushi");
    let mut held = [(); 2].map(|()| Wire::connect(&dir));
    for (client, name) in held.iter_mut().zip(["first", "second"]) {
        let parameters = [("user", "sushi"), ("application_name", name)];
        client.send(&wire::startup(&parameters)).unwrap();
    }
    let is = |name: &'static str, state: &'static str| {
        move |c: &serde_json::Value| c["application_name"] == name && c["state"] == state
    };
    let first = wait_for(&machine, is("first", "held"));
    wait_for(&machine, is("second", "held"));
    assert_eq!(first["database"], "d4f0");
    assert_eq!(first["backend_pid"], serde_json::Value::Null);
    let table = machine.ctl_ok(&["ps"]);
    assert!(table.contains("waits for the session's tunnel"), "{table}");
    // There is nothing to cancel.
    let refused = machine.ctl(&["kill", &id(&first), "--query"]);
    refused.expect_failure(1, &["can't be cancelled"]);
    machine.ctl_ok(&["kill", &id(&first)]);
    let [mut first, mut second] = held;
    let told = first.rest();
    assert_eq!(
        told.last().unwrap().field(b'C').as_deref(),
        Some("57P01"),
        "{told:?}"
    );
    bastion(BastionAction::Start);
    second.until(b'Z').unwrap();
    let backend = second.ask("select pg_backend_pid()");
    assert_eq!(served_by(&machine, &backend)["application_name"], "second");
    let logging_in = id(&wait_for(&machine, |c| c["state"] == "logging in"));
    machine.ctl_ok(&["kill", &logging_in]);
    assert_eq!(std::io::Read::read(&mut &silent, &mut [0]).unwrap(), 0);
    assert_eq!(ps(&machine).len(), 1);
    machine.leave();
}

#[test]
fn of_passthrough_is_shown_what_can_be_known() {
    let machine = TestMachine::new();
    let url = machine.open(&["sushi", "--passthrough"]);
    let mut psql = machine.run("psql").args(&["-XAtq", &url]).start();
    let mut input = psql.stdin.take().unwrap();
    let mut output = BufReader::new(psql.stdout.take().unwrap());
    writeln!(input, "select 'in';").unwrap();
    output.read_line(&mut String::new()).unwrap();
    let shown = wait_for(&machine, |c| c["state"] == "passthrough");
    assert_eq!(shown["program"], "psql");
    assert_eq!(shown["pid"], psql.id());
    for unknown in ["application_name", "database", "backend_pid"] {
        assert_eq!(shown[unknown], serde_json::Value::Null, "{unknown}");
    }
    assert!(shown["bytes"]["received"].as_u64().unwrap() > 0);
    let refused = machine.ctl(&["kill", &id(&shown), "--query"]);
    refused.expect_failure(1, &["can't be cancelled"]);
    machine.ctl_ok(&["kill", &id(&shown)]);
    assert!(ps(&machine).is_empty());
    drop(input);
    psql.wait().unwrap();
    machine.leave();
}

#[test]
fn a_watch_begins_with_all_and_tells_each_change() {
    let machine = TestMachine::new();
    machine.open(&["sushi"]);
    let log_in = |name: &str| {
        let parameters = [("user", "sushi"), ("application_name", name)];
        Wire::log_in(&machine.socket_dir("sushi"), &parameters).0
    };
    let mut first = log_in("first");
    first.ask("select 1");
    let mut watch = machine
        .run(machine.binary("borealisctl"))
        .args(&["ps", "sushi", "--watch", "-f", "json"])
        .start();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut next = || -> Vec<serde_json::Value> {
        serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap()
    };
    let all = next();
    assert_eq!(all.len(), 1, "{all:?}");
    assert_eq!(all[0]["application_name"], "first");
    let mut second = log_in("second");
    does(&mut second, "begin");
    // On the way it may be seen as held.
    let of_second = std::iter::repeat_with(&mut next)
        .find_map(|all| {
            all.into_iter()
                .find(|c| c["state"] == "idle in transaction")
        })
        .unwrap();
    assert_eq!(of_second["application_name"], "second");
    drop(second);
    std::iter::repeat_with(&mut next)
        .find(|all| all.len() == 1)
        .unwrap();
    watch.kill().unwrap();
    watch.wait().unwrap();
    machine.leave();
}
