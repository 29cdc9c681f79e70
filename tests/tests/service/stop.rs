//! How the daemon ends, and what it ends with.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    time::{Duration, Instant},
};

use borealis_proto::v1::State;
use borealis_tests::{
    harness::{
        Manager, TestMachine,
        wire::{self, Wire},
    },
    sandbox::{BastionAction, Options},
};
use rustix::process::Signal;

/// The first asks it to end well, which an open transaction may keep it from for as long as
/// it likes; who sends a second one doesn't want to wait.
#[test]
fn a_second_signal_ends_it_at_once() {
    let mut machine = TestMachine::without_daemon(Options::default());
    machine.write_config("shutdown_grace = \"10m\"\n");
    let manager = Manager::new(&machine.path(""));
    machine.start_daemon_under(&manager);
    let url = machine.open(&["sushi"]);
    let mut client = machine.run("psql").args(&["-XAtq", &url]).start();
    let mut input = client.stdin.take().unwrap();
    writeln!(input, "begin; select 'open';").unwrap();
    let mut said = String::new();
    BufReader::new(client.stdout.take().unwrap())
        .read_line(&mut said)
        .unwrap();
    assert_eq!(said, "open\n");
    machine.daemon().signal(Signal::INT);
    manager.wait_for("STOPPING=1", 1);
    machine.daemon().signal(Signal::INT);
    assert_eq!(machine.await_daemon(), Some(130));
    drop(input);
    client.wait().unwrap();
}

/// The unit doesn't start it again then: only the user can mend it.
#[test]
fn what_only_the_user_can_mend_is_exit_code_2() {
    let machine = TestMachine::without_daemon(Options::default());
    machine.write_config("conect_timeout = \"5s\"\n");
    let started = machine.run(machine.binary("borealisd")).outcome();
    started.expect_failure(2, &["config.toml", "conect_timeout"]);
    machine.write_config("upstream_tls = \"verify-ca\"\nupstream_ca = \"/nowhere.pem\"\n");
    let started = machine.run(machine.binary("borealisd")).outcome();
    started.expect_failure(2, &["/nowhere.pem"]);
    machine.write_config("");
    let started = machine.run(machine.binary("borealisd"));
    let started = started.args(&["--log-format", "runes"]).outcome();
    started.expect_failure(2, &["runes"]);
}

/// One deadline for all of it: the service manager is told how long it takes at most, and ends
/// what takes longer.
#[test]
fn it_ends_within_what_the_service_manager_was_told() {
    let mut machine = TestMachine::without_daemon(Options::default());
    machine.write_config("shutdown_grace = \"10s\"\nconnect_timeout = \"5m\"\n");
    let manager = Manager::new(&machine.path(""));
    machine.start_daemon_under(&manager);
    machine.open(&["sushi"]);
    let faults = machine.sandbox.faults();
    let act = |action| machine.sandbox.block_on(faults.bastion(action)).unwrap();
    act(BastionAction::Stop);
    machine.wait_for("sushi", |session| session.state() != State::Up);
    // A client waits for a tunnel, and goes on waiting.
    let mut held = Wire::connect(&machine.socket_dir("sushi"));
    held.send(&wire::startup(&[("user", "sushi")])).unwrap();
    assert_eq!(held.read().unwrap().tag, b'R');
    let began = Instant::now();
    machine.daemon().signal(Signal::TERM);
    let told = manager.wait_for("EXTEND_TIMEOUT_USEC=", 1);
    let told = told.rsplit('=').next().unwrap().trim().parse().unwrap();
    assert_eq!(machine.await_daemon(), Some(0));
    let told = Duration::from_micros(told);
    println!("told {told:?}, took {:?}", began.elapsed());
    assert!(
        began.elapsed() <= told,
        "{told:?}, not {:?}",
        began.elapsed()
    );
    let refusal = held.read().unwrap();
    assert_eq!(refusal.field(b'C').as_deref(), Some("57P01"), "{refusal:?}");
}
