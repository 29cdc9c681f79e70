//! What lost connections leave at the database, and who may have what ended there.

use borealis_proto::v1::State;
use borealis_tests::{
    harness::{
        TestMachine,
        wire::{self, Wire},
    },
    sandbox::Options,
};

use super::line::Line;

fn does(wire: &mut Wire, sql: &str) {
    wire.send(&wire::query(sql)).unwrap();
    let told = wire.until(b'Z').unwrap();
    let error = told.iter().find(|message| message.tag == b'E');
    assert!(error.is_none(), "{sql}: {told:?}");
}

/// A router forgets the line: the server knows nothing of it, and keeps the transaction.
#[test]
fn a_transaction_whose_line_was_lost_keeps_no_lock() {
    let line = Line::on_loopback();
    let mut machine = TestMachine::without_daemon(Options {
        bastion_seen_at: Some(line.address()),
        ..Options::default()
    });
    line.lead_to(machine.sandbox.bastion_port());
    machine.write_config("[keepalive]\ninterval = \"1s\"\ntimeout = \"1s\"\n");
    machine.start_daemon();
    machine.open(&["sushi", "-w"]);
    let dir = machine.socket_dir("sushi-rw");
    let user = [("user", "sushi-rw")];
    let (mut lost, _) = Wire::log_in(&dir, &user);
    does(&mut lost, "create table kept (a int)");
    does(&mut lost, "begin");
    does(&mut lost, "lock table kept");
    line.mute();
    machine.wait_for("sushi-rw", |session| session.state() != State::Up);
    machine.wait_for("sushi-rw", |session| session.state() == State::Up);
    let (mut next, _) = Wire::log_in(&dir, &user);
    does(&mut next, "set lock_timeout = '20s'");
    does(&mut next, "alter table kept add b int");
    let events = machine.ctl_ok(&["events", "sushi-rw"]);
    assert!(
        events.contains("1 connection with a transaction"),
        "{events}"
    );
    // The client was told when the line was lost.
    assert_eq!(lost.read().unwrap().field(b'C').as_deref(), Some("57P01"));
    machine.leave();
}

#[test]
fn a_guessed_cancel_key_costs_the_bastion_nothing() {
    let machine = TestMachine::new();
    machine.open(&["sushi"]);
    let dir = machine.socket_dir("sushi");
    let (mut client, _) = Wire::log_in(&dir, &[("user", "sushi")]);
    let pid: u32 = client.ask("select pg_backend_pid()").parse().unwrap();
    for guess in 0_u32..20 {
        let key = [pid.to_be_bytes(), guess.to_be_bytes()].concat();
        let mut guessing = Wire::connect(&dir);
        guessing.send(&wire::cancel(&key)).unwrap();
        assert_eq!(guessing.rest(), []);
    }
    let events = machine.ctl_ok(&["events", "sushi"]);
    assert!(events.contains("(20 times)"), "{events}");
    assert_eq!(client.ask("select 1"), "1");
    machine.leave();
}
