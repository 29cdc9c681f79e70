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

/// Longer than the daemon takes for a time that has passed unseen.
const SLEEP: Duration = Duration::from_secs(8);

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
/// A target is looked up again at each reconnect, and nothing else is asked.
const RECONNECT: Calls = Calls {
    look_ups: 1,
    grants: 0,
    keys: 0,
    passwords: 0,
};

/// Tunnels of an add-on once both its sessions have served clients: one each, and one each that
/// is kept ready. What a burst has made stays for five minutes, longer than a test may wait.
const TUNNELS: u64 = 4 * ADDONS as u64;
/// Resident memory of a daemon whose sessions are idle and have as many tunnels, in KiB. The
/// binary is a debug build; a released one has less.
const IDLE_MEMORY: u64 = 80 * 1024;
/// How often a daemon with so many tunnels may wake for each of them, a second: a probe and its
/// answer every 5 s, with the timers around it.
const WAKE_UPS: f64 = 1.0;
/// Descriptors of a daemon without sessions, two listeners for each, and the tunnels.
const DESCRIPTORS: usize = 64 + 2 * SESSIONS + TUNNELS as usize;

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
    fleet.expect("rotation", RESTART);
    fleet.all_answer();

    is_told_at_once(&fleet);
    is_quiet(&fleet);
    fleet.leave();
}

/// The daemon stands still, and every line dies meanwhile.
fn sleep_and_wake(fleet: &mut Fleet) {
    fleet.machine.daemon().signal(Signal::STOP);
    let faults = fleet.machine.sandbox.faults();
    let cut = faults.bastion(BastionAction::Cut);
    fleet.machine.sandbox.block_on(cut).unwrap();
    let logins = fleet.bastion().logins;
    fleet::last(SLEEP);
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
    fleet.check(quiet.memory <= IDLE_MEMORY, format!("memory: {quiet:?}"));
    fleet.check(
        quiet.descriptors <= DESCRIPTORS,
        format!("descriptors: {quiet:?}"),
    );
    fleet.check(quiet.tunnels <= TUNNELS, format!("tunnels: {quiet:?}"));
    fleet.check(
        quiet.wake_ups_a_second <= WAKE_UPS * TUNNELS as f64,
        format!("wake-ups: {quiet:?}"),
    );
    fleet.check(quiet.spilled == 0, format!("spilled: {quiet:?}"));
}
