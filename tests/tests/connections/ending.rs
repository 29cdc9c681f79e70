//! The end of one connection, and of what it is running.

use std::{fs, time::Instant};

use borealis_tests::harness::{
    Admin, TestMachine,
    wire::{self, Wire},
};

use crate::{
    client::{Client, Kind},
    does, id, ps, served_by, wait_for,
};

fn backend(client: &mut Wire) -> String {
    client.ask("select pg_backend_pid()")
}

fn tables(machine: &TestMachine, url: &str) {
    machine.query(
        url,
        "create table a (n int); create table b (n int); create table c (n int)",
    );
}

#[test]
fn one_of_three_in_a_transaction_is_ended_and_the_others_never_notice() {
    let machine = TestMachine::new();
    let url = machine.open(&["sushi", "-w"]);
    tables(&machine, &url);
    let admin = Admin::new(&machine);
    let dir = machine.socket_dir("sushi-rw");
    let home = machine.path("");
    let (mut wire, _) = Wire::log_in(&dir, &[("user", "sushi-rw")]);
    let mut python = Client::start(&machine, Kind::Python, &home, &url);
    let mut node = Client::start(&machine, Kind::Node, &home, &url);
    does(&mut wire, "begin; lock table a");
    for (client, table) in [(&mut python, "b"), (&mut node, "c")] {
        client.ask("begin");
        client.ask(&format!("lock table {table}"));
    }
    let backends = [
        backend(&mut wire),
        python.ask("select pg_backend_pid()"),
        node.ask("select pg_backend_pid()"),
    ];
    let ended = served_by(&machine, &backends[0]);
    assert_eq!(ended["state"], "idle in transaction");
    let locks = |backend: &str| {
        format!(
            "select count(*) from pg_locks where pid = {backend} and mode = 'AccessExclusiveLock'"
        )
    };
    for backend in &backends {
        assert_eq!(admin.ask(&locks(backend), &machine), "1");
    }
    let began = Instant::now();
    let said = machine.ctl_ok(&["kill", &id(&ended)]);
    admin.wait_until(&locks(&backends[0]), "0", &machine);
    println!("{said}; its lock was gone after {:?}", began.elapsed());
    assert_eq!(said, format!("ended {} of sushi-rw", id(&ended)));
    // It hears who did it.
    let farewell = wire.read().unwrap();
    assert_eq!(farewell.field(b'C').as_deref(), Some("57P01"));
    let words = farewell.field(b'M').unwrap();
    assert!(words.contains("ended by borealisctl kill"), "{words}");
    assert_eq!(wire.rest(), []);
    // The others still have what they had.
    for backend in &backends[1..] {
        assert_eq!(admin.ask(&locks(backend), &machine), "1");
        assert_eq!(served_by(&machine, backend)["state"], "idle in transaction");
    }
    assert_eq!(python.ask("select pg_backend_pid()"), backends[1]);
    assert_eq!(node.ask("select pg_backend_pid()"), backends[2]);
    let events = machine.ctl_ok(&["events", "sushi-rw"]);
    let told = format!("ended connection {}, asked by borealisctl kill", id(&ended));
    assert!(events.contains(&told), "{events}");
    // A driver shows it as what it is.
    let of_python = id(&served_by(&machine, &backends[1]));
    machine.ctl_ok(&["kill", &of_python]);
    assert_eq!(python.ask("select 1"), "57P01");
    assert_eq!(node.ask("commit"), "done");
    drop((python, node));
    machine.leave();
}

/// The server looks for its client only when it has something to say.
#[test]
fn a_statement_that_runs_is_ended_with_its_connection() {
    let machine = TestMachine::new();
    let url = machine.open(&["sushi", "-w"]);
    tables(&machine, &url);
    let admin = Admin::new(&machine);
    let (mut client, _) = Wire::log_in(&machine.socket_dir("sushi-rw"), &[("user", "sushi-rw")]);
    let backend = backend(&mut client);
    client
        .send(&wire::query("begin; lock table a; select pg_sleep(3600)"))
        .unwrap();
    let sleeps = format!(
        "select count(*) from pg_stat_activity where pid = {backend} and wait_event = 'PgSleep'"
    );
    admin.wait_until(&sleeps, "1", &machine);
    let shown = wait_for(&machine, |c| c["state"] == "active");
    assert_eq!(shown["backend_pid"].to_string(), backend);
    let began = Instant::now();
    let kill = machine
        .run(machine.binary("borealisctl"))
        .args(&["kill", &id(&shown)])
        .start();
    let is_there = format!("select count(*) from pg_stat_activity where pid = {backend}");
    admin.wait_until(&is_there, "0", &machine);
    println!("the server's process was gone after {:?}", began.elapsed());
    assert!(kill.wait_with_output().unwrap().status.success());
    let said = client.rest();
    let last = said.last().unwrap();
    assert_eq!(last.field(b'C').as_deref(), Some("57P01"), "{said:?}");
    assert!(ps(&machine).is_empty());
    machine.leave();
}

#[test]
fn a_query_is_cancelled_and_its_connection_lives() {
    let machine = TestMachine::new();
    machine.open(&["sushi"]);
    let dir = machine.socket_dir("sushi");
    let (mut client, _) = Wire::log_in(&dir, &[("user", "sushi")]);
    let (mut other, _) = Wire::log_in(&dir, &[("user", "sushi")]);
    let backend = backend(&mut client);
    client.send(&wire::query("select pg_sleep(3600)")).unwrap();
    let shown = wait_for(&machine, |c| c["state"] == "active");
    assert_eq!(shown["backend_pid"].to_string(), backend);
    let id = id(&shown);
    let said = machine.ctl_ok(&["kill", &id, "--query"]);
    assert_eq!(said, format!("cancelled what {id} of sushi was running"));
    let told = client.until(b'Z').unwrap();
    let error = told.iter().find(|message| message.tag == b'E').unwrap();
    assert_eq!(error.field(b'C').as_deref(), Some("57014"));
    assert_eq!(client.ask("select pg_backend_pid()"), backend);
    assert_eq!(other.ask("select 1"), "1");
    let events = machine.ctl_ok(&["events", "sushi"]);
    let told = format!("cancelled what was run by connection {id}, asked by borealisctl kill");
    assert!(events.contains(&told), "{events}");
    machine.leave();
}

#[test]
fn who_is_not_there_can_not_be_ended() {
    let machine = TestMachine::new();
    machine.open(&["sushi"]);
    let (mut client, _) = Wire::log_in(&machine.socket_dir("sushi"), &[("user", "sushi")]);
    let id = id(&served_by(&machine, &backend(&mut client)));
    for flags in [&[][..], &["--query"]] {
        let refused = machine.ctl(&[&["kill", "4000000"], flags].concat());
        refused.expect_failure(5, &["there is no connection 4000000", "hint:"]);
    }
    // The others of the same command are ended.
    let some = machine.ctl(&["kill", "4000000", &id]);
    some.expect_failure(5, &["there is no connection 4000000"]);
    assert_eq!(some.stdout, format!("ended {id} of sushi\n"));
    assert_eq!(client.read().unwrap().field(b'C').as_deref(), Some("57P01"));
    machine
        .ctl(&["kill", "sushi"])
        .expect_failure(2, &["sushi is no number"]);
    machine.ctl(&["kill"]).expect_failure(2, &["<ID>"]);
    machine.leave();
}

#[test]
fn transactions_that_idle_for_long_are_told_and_ended() {
    let mut machine = TestMachine::without_daemon(borealis_tests::sandbox::Options::default());
    let clock = machine.path("clock");
    machine.set("BOREALIS_TEST_CLOCK", &clock.display().to_string());
    machine.start_daemon();
    machine.open(&["sushi"]);
    machine.open(&["sushi", "-w"]);
    let clients = |session: &str| {
        let (mut client, _) = Wire::log_in(&machine.socket_dir(session), &[("user", session)]);
        does(&mut client, "begin");
        client
    };
    let (mut old, mut of_other) = (clients("sushi"), clients("sushi-rw"));
    let (mut quiet, _) = Wire::log_in(&machine.socket_dir("sushi"), &[("user", "sushi")]);
    let attention = "a transaction has been idle for 10m: see `borealisctl ps sushi`";
    assert!(
        !machine
            .ctl_ok(&["list"])
            .contains("a transaction has been idle")
    );
    fs::write(&clock, "610").unwrap();
    let has_skipped = |session: &borealis_proto::v1::Session| {
        let since = session.idle_in_transaction_since.map(|at| at.seconds);
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
        since.is_some_and(|since| now.cast_signed() - since >= 600)
    };
    machine.wait_for("sushi", has_skipped);
    machine.wait_for("sushi-rw", has_skipped);
    let list = machine.ctl_ok(&["list"]);
    assert!(list.contains(attention), "{list}");
    let mut young = clients("sushi");
    // Of one session only; not the young one, nor one without a transaction.
    let said = machine.ctl_ok(&["kill", "sushi", "--idle-in-transaction", "10m"]);
    assert_eq!(said.lines().count(), 1, "{said}");
    assert_eq!(old.read().unwrap().field(b'C').as_deref(), Some("57P01"));
    for client in [&mut young, &mut quiet, &mut of_other] {
        assert_eq!(client.ask("select 1"), "1");
    }
    assert!(!machine.ctl_ok(&["list"]).contains(attention));
    let none = machine.ctl(&["kill", "--idle-in-transaction", "1h"]);
    assert_eq!((none.code, none.stdout.as_str()), (Some(0), ""));
    assert!(none.stderr.contains("no transaction"), "{none:?}");
    machine.leave();
}
