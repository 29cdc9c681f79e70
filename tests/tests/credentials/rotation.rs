//! Credentials that change while clients work.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use borealis_tests::{
    harness::TestMachine,
    sandbox::{Access, Options},
};

use crate::load::{self, Connections, Pgbench, load_time};

/// The way of the tests that follow: a session under load.
fn under_load(connections: Connections, mut rotate: impl FnMut(&TestMachine)) {
    let machine = TestMachine::quiet(Options::default());
    load::prepare(&machine);
    let url = machine.open(&["sushi"]);
    let mut pgbench = Pgbench::start(&machine, &url, 16, connections);
    let mut rotations = 0;
    while !pgbench.has_ended() {
        let began = Instant::now();
        rotate(&machine);
        rotations += 1;
        #[allow(
            clippy::disallowed_methods,
            reason = "the pace of the load; nothing is waited for"
        )]
        thread::sleep(Duration::from_secs(1).saturating_sub(began.elapsed()));
    }
    let done = pgbench.finish();
    report(&format!(
        "{connections:?}: {done} transactions, {rotations} rotations"
    ));
    machine.leave();
}

fn report(text: &str) {
    #[allow(
        clippy::print_stdout,
        reason = "numbers for who asks for them with --nocapture"
    )]
    {
        println!("{text} in {:?}", load_time());
    }
}

fn by_command(machine: &TestMachine) {
    machine.ctl_ok(&["rotate", "sushi"]);
}

fn elsewhere(machine: &TestMachine) {
    let faults = machine.sandbox.faults();
    let rotating = faults.rotate_password_elsewhere("sushi", Some(Access::ReadOnly));
    machine.sandbox.block_on(rotating).unwrap();
}

#[test]
fn by_command_under_new_connections() {
    under_load(Connections::Each, by_command);
}

#[test]
fn by_command_under_open_connections() {
    under_load(Connections::Kept, by_command);
}

#[test]
fn elsewhere_under_new_connections() {
    under_load(Connections::Each, elsewhere);
}

#[test]
fn elsewhere_under_open_connections() {
    under_load(Connections::Kept, elsewhere);
}

/// An admin's reset cuts the connections that are open: those are counted apart.
fn reset_under_load(connections: Connections) {
    let machine = TestMachine::quiet(Options::default());
    let url = machine.open(&["sushi"]);
    let stop = Arc::new(AtomicBool::new(false));
    let tally = thread::scope(|scope| {
        let running = scope.spawn(|| {
            machine
                .sandbox
                .block_on(load::clients(&url, 16, connections, Arc::clone(&stop)))
        });
        let end = Instant::now() + load_time();
        while Instant::now() < end && !running.is_finished() {
            let pace = if load_time() > Duration::from_secs(30) {
                10
            } else {
                2
            };
            #[allow(
                clippy::disallowed_methods,
                reason = "the pace of the load; nothing is waited for"
            )]
            thread::sleep(Duration::from_secs(pace));
            machine
                .sandbox
                .block_on(machine.sandbox.faults().reset_users("sushi"))
                .unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        running.join().expect("no client failed")
    });
    report(&format!("{connections:?} with resets: {tally:?}"));
    assert!(tally.done.load(Ordering::Relaxed) > 0, "{tally:?}");
    machine.leave();
}

#[test]
fn an_admins_reset_under_new_connections() {
    reset_under_load(Connections::Each);
}

#[test]
fn an_admins_reset_under_open_connections() {
    reset_under_load(Connections::Kept);
}

#[test]
fn two_machines_of_one_user_share_their_credentials_and_are_told() {
    let first = TestMachine::quiet(Options::default());
    load::prepare(&first);
    let mut second = first.another_machine();
    second.set("BOREALIS_LOG", "info");
    second.start_daemon();
    let benches = [&first, &second].map(|machine| {
        let url = machine.open(&["sushi"]);
        Pgbench::start(machine, &url, 4, Connections::Each)
    });
    let done = benches.map(Pgbench::finish);
    report(&format!("two machines: {done:?} transactions"));
    for machine in [&first, &second] {
        let status = machine.json(&["status"]);
        assert_eq!(status["health"], "warning", "{status}");
        let said = status.to_string();
        assert!(
            said.contains("another machine of yours seems to use it too"),
            "{status}"
        );
        assert!(said.contains("--role app"), "{status}");
        // Nothing is wrong with the session.
        assert_eq!(machine.json(&["show", "sushi"])["state"], "up");
        assert!(machine.json(&["show", "sushi"])["last_error"].is_null());
    }
    let mut first = first;
    assert_eq!(first.stop_daemon(), Some(0));
    second.leave();
    first.leave();
}

#[test]
fn a_timer_does_not_undo_an_admins_reset() {
    let mut machine = TestMachine::without_daemon(Options::default());
    // Long enough for the reset to be done before the next is due, on a busy machine too.
    machine.write_config("[rotation]\ninterval = \"8s\"\n");
    machine.start_daemon();
    let url = machine.open(&["sushi"]);
    // Right after a rotation, so that none is under way.
    machine.ctl_ok(&["rotate", "sushi"]);
    machine
        .sandbox
        .block_on(machine.sandbox.faults().reset_users("sushi"))
        .unwrap();
    let issued = || machine.sandbox.stats().addons["borealis-pg-hex-12345"].passwords_issued;
    let before = issued();
    let planned = |session: &borealis_proto::v1::Session| {
        session
            .credential
            .as_ref()
            .is_some_and(|held| held.rotates_at.is_some())
    };
    machine.wait_for("sushi", |session| !planned(session));
    assert_eq!(issued(), before);
    assert_eq!(machine.query(&url, "select 1"), "1");
    assert_eq!(issued(), before + 1);
    machine.wait_for("sushi", planned);
    machine.leave();
}
