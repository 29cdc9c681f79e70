//! Database hosts that misbehave behind a bastion that works.

use borealis_proto::v1::State;
use borealis_tests::{
    harness::{Admin, TestMachine, eventually},
    sandbox::BastionAction,
};

fn bastion(machine: &TestMachine, action: BastionAction) {
    let faults = machine.sandbox.faults();
    machine.sandbox.block_on(faults.bastion(action)).unwrap();
}

/// As behind a firewall that drops packets: sshd waits two minutes for it before it answers.
#[test]
fn a_database_that_never_answers_is_named_and_tried_again() {
    let machine = TestMachine::new();
    bastion(&machine, BastionAction::HoldChannels);
    let opened = machine.ctl(&["open", "sushi", "--timeout", "20s"]);
    opened.expect_failure(
        1,
        &[
            "can't reach the database server",
            "no log-in within 15 s",
            "hint: ",
        ],
    );
    machine.wait_for("sushi", |session| {
        let error = session.last_error.as_ref();
        error.is_some_and(|error| error.code == "database-unreachable")
    });
    bastion(&machine, BastionAction::ReleaseChannels);
    machine.wait_for("sushi", |session| session.state() == State::Up);
    let url = machine.open(&["sushi"]);
    assert_eq!(machine.query(&url, "select 1"), "1");
    machine.leave();
}

/// Whoever asks may have taken TLS off on the way, to read the password.
#[test]
fn no_password_in_clear_text_for_a_server_that_had_tls() {
    let machine = TestMachine::new();
    let url = machine.open(&["sushi"]);
    assert_eq!(machine.query(&url, "select 1"), "1");
    let admin = Admin::new(&machine);
    let hba = admin.ask("show hba_file", &machine);
    let server = |tls: &str, method: &str| {
        let lines = format!("('local all all trust'), ('host all all samenet {method}')");
        let copy = format!("copy (select * from (values {lines}) as lines) to '{hba}'");
        admin.ask(&copy, &machine);
        admin.ask(&format!("alter system set ssl = {tls}"), &machine);
        admin.ask("select pg_reload_conf()", &machine);
        admin.wait_until("show ssl", tls, &machine);
        let others = "select pg_terminate_backend(pid) from pg_stat_activity
            where backend_type = 'client backend' and pid <> pg_backend_pid()";
        admin.ask(others, &machine);
    };
    // SCRAM tells nobody the password.
    server("off", "scram-sha-256");
    assert_eq!(machine.query(&url, "select 1"), "1");
    server("off", "password");
    // The server takes its new rules in its own time.
    let refused = || {
        let told = eventually(|| match machine.psql(&url, "select 1") {
            told if told.code == Some(0) => Err("let in".to_owned()),
            told => Ok(told),
        });
        told.expect_failure(2, &["had TLS before", "in clear text"]);
    };
    refused();
    // A reload for another reason doesn't make it forget.
    machine.write_config("max_connections = 150\n");
    machine.ctl_ok(&["reload"]);
    refused();
    // A user who wants it so has the last word.
    machine.write_config("upstream_tls = \"disable\"\n");
    machine.ctl_ok(&["reload"]);
    assert_eq!(machine.query(&url, "select 1"), "1");
    machine.leave();
}
