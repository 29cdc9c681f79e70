//! An attachment that is moved to another add-on, as after a restore: sessions follow it.

use borealis_proto::v1::{Session, State};
use borealis_tests::{harness::TestMachine, sandbox::BastionAction};

const BEFORE: &str = "borealis-pg-cube-34567";
const TARGET: &str = "ramen::BOREALIS_PG_NAVY";
const NAME: &str = "ramen.borealis_pg_navy";
const ASK: &str = "select current_database()";

/// Moves the attachment to sushi's add-on, whose database is another one.
fn move_attachment(machine: &TestMachine) {
    let faults = machine.sandbox.faults();
    faults
        .reattach("ramen", "BOREALIS_PG_NAVY", "borealis-pg-hex-12345")
        .unwrap();
}

fn leads_to(session: &Session, addon: &str) -> bool {
    session.state() == State::Up && session.addon == addon
}

/// A session on the old database, of an attachment that has just been moved.
fn moved() -> (TestMachine, String, String) {
    let machine = TestMachine::new();
    let url = machine.open(&[TARGET]);
    let before = machine.query(&url, ASK);
    assert!(
        machine
            .wait_for(NAME, |session| leads_to(session, BEFORE))
            .addon
            == BEFORE
    );
    move_attachment(&machine);
    (machine, url, before)
}

/// It is there, says so, and has told it.
fn expect_moved(machine: &TestMachine, url: &str, before: &str) {
    machine.wait_for(NAME, |session| leads_to(session, "borealis-pg-hex-12345"));
    // The database has another name there, which the address that was given before hasn't.
    let told = machine.psql(url, ASK);
    assert!(
        told.stderr.contains("permission denied for database"),
        "{told:?}"
    );
    let url = machine.ctl_ok(&["url", NAME]);
    assert_ne!(machine.query(url.trim(), ASK), before);
    let events = machine.json(&["events", NAME]);
    let told = events.as_array().unwrap().iter();
    let told: Vec<_> = told
        .filter(|event| event["kind"] == "target-moved")
        .collect();
    assert_eq!(told.len(), 1, "{events:#}");
    let message = told[0]["message"].as_str().unwrap();
    assert!(
        message.contains("borealis-pg-hex-12345") && message.contains(BEFORE),
        "{message}"
    );
}

#[test]
fn a_session_that_reconnects_follows_its_attachment() {
    let (machine, url, before) = moved();
    let faults = machine.sandbox.faults();
    machine
        .sandbox
        .block_on(faults.bastion(BastionAction::Cut))
        .unwrap();
    expect_moved(&machine, &url, &before);
    machine.leave();
}

#[test]
fn a_rotation_follows_it() {
    let (machine, url, before) = moved();
    machine.ctl_ok(&["rotate", NAME]);
    expect_moved(&machine, &url, &before);
    machine.leave();
}

#[test]
fn opening_it_again_follows_it_and_leaves_open_connections_where_they_are() {
    let (machine, url, before) = moved();
    let old = machine.run("psql").args(&["-XAtq", &url]).start();
    let mut old = old;
    let (mut input, output) = (old.stdin.take().unwrap(), old.stdout.take().unwrap());
    let mut output = std::io::BufReader::new(output);
    let mut ask = |sql: &str| {
        use std::io::{BufRead as _, Write as _};
        let mut line = String::new();
        writeln!(input, "{sql};").unwrap();
        output.read_line(&mut line).unwrap();
        line.trim().to_owned()
    };
    assert_eq!(ask(ASK), before);
    machine.open(&[TARGET]);
    expect_moved(&machine, &url, &before);
    assert_eq!(ask(ASK), before);
    drop(input);
    assert!(old.wait().unwrap().success());
    machine.leave();
}

#[test]
fn a_restart_follows_it() {
    let (mut machine, url, before) = moved();
    assert_eq!(machine.stop_daemon(), Some(0));
    machine.start_daemon();
    expect_moved(&machine, &url, &before);
    machine.leave();
}
