//! Fifty sessions of twenty-five add-ons behind one bastion, which lets few log in at once: what
//! happens to a workstation happens to all of them together. What is counted is bounded; what is
//! measured is printed, for who runs it with `--nocapture`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test that meets the unexpected has failed; its figures are for who runs it with --nocapture"
)]

mod fleet;

use std::time::{Duration, Instant};

use borealis_tests::{harness::eventually, sandbox::BastionAction};
use rustix::process::Signal;

use fleet::{ADDONS, Calls, Fleet, SESSIONS};

/// How long the machine sleeps.
const SLEEP: Duration = Duration::from_secs(3600);

/// As ARCHITECTURE's table of calls has them, for each add-on.
const FIRST_OPEN: Calls = Calls {
    look_ups: 4,
    grants: 2,
    keys: 1,
    passwords: 2,
};
const RESTART: Calls = Calls {
    look_ups: 1,
    grants: 2,
    keys: 1,
    passwords: 2,
};
/// Each session has its target looked up again; those of an add-on that do so at once share it.
const ROTATION: Calls = Calls {
    look_ups: 2,
    ..RESTART
};
/// A target is looked up again at each reconnect, and by each session that has not done so for
/// long, as after an hour; nothing else is asked.
const RECONNECT: Calls = Calls {
    look_ups: 2,
    grants: 0,
    keys: 0,
    passwords: 0,
};

/// What a daemon whose sessions are idle has of memory, without the binary, in KiB. With a
/// released binary's 12 MiB it is less than 60 MiB.
const IDLE_MEMORY: u64 = 48 * 1024;
/// How often it may wake, a second.
const WAKE_UPS: f64 = 5.0;
/// Descriptors of a daemon without sessions, two listeners for each, and the tunnels.
const DESCRIPTORS: usize = 64 + 2 * SESSIONS + ADDONS;

#[test]
fn fifty_sessions_go_through_a_day() {
    let mut fleet = Fleet::start();
    fleet.open();
    fleet.expect("open", FIRST_OPEN);
    fleet.all_answer();

    fleet.restart();
    fleet.expect("restart", RESTART);

    sleep_and_wake(&mut fleet);
    fleet.expect("sleep", RECONNECT);
    fleet.all_answer();

    fleet.machine.ctl_ok(&["rotate", "--all"]);
    fleet.all_up("rotation");
    fleet.expect("rotation", ROTATION);

    is_told_at_once(&fleet);
    is_quiet(&fleet);
    fleet.all_answer();
    fleet.leave();
}

/// The daemon stands still, every line dies meanwhile, and the clock has gone on.
fn sleep_and_wake(fleet: &mut Fleet) {
    fleet.machine.daemon().signal(Signal::STOP);
    let faults = fleet.machine.sandbox.faults();
    let cut = faults.bastion(BastionAction::Cut);
    fleet.machine.sandbox.block_on(cut).unwrap();
    let logins = fleet.bastion().logins;
    fleet.skip(SLEEP);
    fleet.machine.daemon().signal(Signal::CONT);
    // It knows by itself: the bastion sees new log-ins before anybody asks for anything.
    eventually(|| match fleet.bastion().logins - logins {
        new if new >= ADDONS as u64 => Ok(()),
        new => Err(format!("{new} new log-ins")),
    });
    fleet.all_up("sleep");
}

/// What a user asks with the daemon full of sessions is answered.
fn is_told_at_once(fleet: &Fleet) {
    for command in ["list", "status", "doctor"] {
        let began = Instant::now();
        let ran = fleet.machine.ctl(&[command]);
        println!("{command}: {:?}", began.elapsed());
        let said = ran.expect_success();
        for name in fleet.names() {
            // `status` tells of what is amiss only.
            assert!(
                command == "status" || said.contains(&name),
                "{name}: {said}"
            );
        }
    }
    let dropped = fleet.bastion().dropped;
    fleet.check(
        dropped == 0,
        format!("doctor: {dropped} log-ins were turned away"),
    );
}

/// Nobody asks anything: the daemon has little, and does little.
fn is_quiet(fleet: &Fleet) {
    let quiet = fleet.await_quiet();
    println!("{quiet:?}");
    fleet.check(quiet.allocated <= IDLE_MEMORY, format!("memory: {quiet:?}"));
    fleet.check(
        quiet.descriptors <= DESCRIPTORS,
        format!("descriptors: {quiet:?}"),
    );
    fleet.check(
        quiet.tunnels == ADDONS as u64,
        format!("tunnels: {quiet:?}"),
    );
    fleet.check(
        quiet.wake_ups_a_second <= WAKE_UPS,
        format!("wake-ups: {quiet:?}"),
    );
    fleet.check(quiet.spilled == 0, format!("spilled: {quiet:?}"));
}
