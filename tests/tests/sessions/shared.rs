//! What the sessions of an add-on share: its tunnels, and the renewal of its credentials.

use std::time::Duration;

use borealis_proto::v1::{Session, State};
use borealis_tests::{
    harness::TestMachine,
    sandbox::{Action, BastionAction, Fault, PostgresAction},
};

const SUSHI: &str = "borealis-pg-hex-12345";

fn bastion(machine: &TestMachine, action: BastionAction) {
    let faults = machine.sandbox.faults();
    machine.sandbox.block_on(faults.bastion(action)).unwrap();
}

fn postgres(machine: &TestMachine, action: PostgresAction) {
    let faults = machine.sandbox.faults();
    machine.sandbox.block_on(faults.postgres(action)).unwrap();
}

fn is_up(session: &Session) -> bool {
    session.state() == State::Up
}

#[test]
fn five_sessions_of_two_add_ons_have_two_ssh_connections() {
    let machine = TestMachine::new();
    let sessions = [
        &["sushi"][..],
        &["sushi", "-w"],
        &["sushi", "--role", "app"],
        &["sushi", "--name", "again"],
        &["ramen::BOREALIS_PG_NAVY"],
    ];
    let urls: Vec<_> = sessions.iter().map(|args| machine.open(args)).collect();
    let connections = || machine.sandbox.stats().bastion.connections;
    assert_eq!(connections(), 2);
    // A line that is lost is made once for all who miss it.
    let before: Vec<_> = machine.daemon().sessions(&machine.sandbox);
    bastion(&machine, BastionAction::Cut);
    for session in &before {
        machine.wait_for(&session.name, |now| {
            is_up(now) && now.since != session.since
        });
    }
    assert_eq!(connections(), 4);
    for url in &urls {
        assert_eq!(machine.query(url, "select 1"), "1");
    }
    // The pool is there as long as one session is.
    for name in ["sushi", "sushi-rw", "sushi-app"] {
        machine.ctl_ok(&["close", name]);
    }
    assert_eq!(machine.query(&urls[3], "select 1"), "1");
    machine.leave();
}

#[test]
fn a_refused_key_is_knocked_with_once_for_all_sessions() {
    let machine = TestMachine::new();
    let names = ["sushi", "sushi-rw", "sushi-app"];
    for args in [
        &["sushi"][..],
        &["sushi", "-w"],
        &["sushi", "--role", "app"],
    ] {
        machine.open(args);
    }
    let before = machine.sandbox.stats();
    let faults = machine.sandbox.faults();
    machine
        .sandbox
        .block_on(faults.rotate_key_elsewhere("sushi", 5))
        .unwrap();
    let sessions = machine.daemon().sessions(&machine.sandbox);
    bastion(&machine, BastionAction::Cut);
    for name in names {
        let was = sessions
            .iter()
            .find(|session| session.name == name)
            .unwrap();
        machine.wait_for(name, |now| is_up(now) && now.since != was.since);
    }
    let after = machine.sandbox.stats();
    let issued = after.addons[SUSHI].keys_issued - before.addons[SUSHI].keys_issued;
    // Five by another machine, and one by this.
    assert_eq!(issued, 6);
    let refused = after.bastion.refused_keys.unwrap() - before.bastion.refused_keys.unwrap();
    assert_eq!(refused, 1);
    machine.leave();
}

#[test]
fn a_rotation_of_all_renews_each_lease_once() {
    let machine = TestMachine::new();
    for args in [
        &["sushi"][..],
        &["sushi", "-w"],
        &["sushi", "--role", "app"],
        &["sushi", "--name", "again"],
    ] {
        machine.open(args);
    }
    let before = machine.sandbox.stats().addons[SUSHI].clone();
    machine.ctl_ok(&["rotate", "--all"]);
    let after = machine.sandbox.stats().addons[SUSHI].clone();
    assert_eq!(after.keys_issued - before.keys_issued, 1);
    // One for each role.
    assert_eq!(after.passwords_issued - before.passwords_issued, 2);
    machine.leave();
}

#[test]
fn a_database_that_refuses_everybody_costs_few_calls_and_list_says_so() {
    let machine = TestMachine::new();
    let url = machine.open(&["sushi"]);
    assert_eq!(machine.query(&url, "select 1"), "1");
    let before = machine.sandbox.stats().addons[SUSHI].passwords_issued;
    postgres(&machine, PostgresAction::RefuseLogins);
    let (mut told, mut refused) = (String::new(), 0);
    for _ in 0..10 {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                let psql = machine.run("psql").args(&["-XAtqc", "select 1", &url]);
                psql.start()
            })
            .collect();
        for client in clients {
            let output = client.wait_with_output().unwrap();
            // One was logged in ahead of need.
            refused += u32::from(!output.status.success());
            told = String::from_utf8(output.stderr).unwrap();
        }
    }
    let renewals = machine.sandbox.stats().addons[SUSHI].passwords_issued - before;
    println!("{renewals} renewals for {refused} clients; the last was told: {told}");
    assert!(refused >= 35, "{refused}");
    assert!(renewals <= 8, "{renewals}");
    assert!(told.contains("refuses every new credential"), "{told}");
    let session = machine.wait_for("sushi", |session| !is_up(session));
    let listed = machine.ctl_ok(&["list"]);
    assert!(listed.contains("reconnecting"), "{listed} {session:?}");
    let status = machine.ctl_ok(&["status"]);
    assert!(!status.contains("another machine"), "{status}");
    postgres(&machine, PostgresAction::AcceptLogins);
    machine.ctl_ok(&["rotate", "sushi"]);
    machine.wait_for("sushi", is_up);
    assert_eq!(machine.query(&url, "select 1"), "1");
    machine.leave();
}

#[test]
fn open_never_says_up_of_a_credential_that_was_never_let_in() {
    let machine = TestMachine::new();
    // The database is made before it refuses anybody.
    machine.open(&["sushi", "-w"]);
    postgres(&machine, PostgresAction::RefuseLogins);
    let opened = machine.ctl(&["open", "sushi"]);
    opened.expect_failure(1, &["refuses every new credential"]);
    postgres(&machine, PostgresAction::AcceptLogins);
    let url = machine.open(&["sushi"]);
    assert_eq!(machine.query(&url, "select 1"), "1");
    machine.leave();
}

#[test]
fn rotate_is_answered_also_while_the_session_can_not_come_up() {
    let machine = TestMachine::new();
    let faults = machine.sandbox.faults();
    // Asked for while an attempt is under way that will fail.
    faults.add(Fault::on(
        "personal-db-users",
        Action::delay(Duration::from_secs(2)),
    ));
    faults.add(Fault::on("personal-db-users", Action::status(403)));
    machine.ctl_ok(&["open", "sushi", "--no-wait"]);
    machine.wait_for("sushi", |session| !session.step.is_empty());
    let refused = machine.ctl(&["rotate", "sushi"]);
    assert_eq!(
        refused.code.map(|code| code != 0),
        Some(true),
        "{refused:?}"
    );
    machine.sandbox.block_on(faults.clear()).unwrap();
    machine.ctl_ok(&["rotate", "sushi"]);
    machine.wait_for("sushi", is_up);

    // Waiting for the user.
    bastion(&machine, BastionAction::ChangeHostKey);
    bastion(&machine, BastionAction::Cut);
    machine.wait_for("sushi", |session| session.state() == State::Failed);
    let refused = machine.ctl(&["rotate", "sushi"]);
    refused.expect_failure(1, &["host key"]);
    bastion(&machine, BastionAction::RestoreHostKey);
    machine.ctl_ok(&["rotate", "sushi"]);
    machine.wait_for("sushi", is_up);
    machine.leave();
}

#[test]
fn a_rotation_that_needs_a_second_credential_succeeds() {
    let machine = TestMachine::new();
    machine.open(&["sushi"]);
    bastion(&machine, BastionAction::RefuseKeys);
    let faults = machine.sandbox.faults();
    let refused = machine.ctl(&["rotate", "sushi"]);
    refused.expect_failure(1, &["refused the personal SSH key"]);
    machine.sandbox.block_on(faults.clear()).unwrap();
    machine.ctl_ok(&["rotate", "sushi"]);
    machine.wait_for("sushi", is_up);
    machine.leave();
}
