//! What the reference does wrong with the provider's APIs, and the daemon doesn't.

use std::time::Duration;

use borealis_tests::{
    harness::TestMachine,
    sandbox::{Action, Api, Fault, Options},
};
use rustix::process::{Pid, Signal, kill_process};

const ADDON: &str = "borealis-pg-hex-12345";

/// `leave` looks for the grants.
#[test]
fn no_look_up_that_fails_leaves_a_grant() {
    let machine = TestMachine::new();
    for target in ["nope", "udon", "ramen", "soba::PAPERTRAIL"] {
        for command in [
            &["run", target, "-d", "select 1"][..],
            &["run", target, "-u", "-d", "select 1"],
            &["psql", target],
            &["tunnel", target],
            &["open", target, "--role", "app"],
            &["info", target],
            &["users", "reset", target, "--confirm", target],
            &["upgrade", "info", target],
            &["restore", "execute", target],
        ] {
            machine
                .ctl(command)
                .expect_failure(5, &["error: ", "hint: "]);
        }
    }
    // Nor does one that meets what it can't read.
    let faults = machine.sandbox.faults();
    faults
        .add(Fault::on("/apps/sushi/config-vars", Action::status(200).body("{}")).api(Api::Heroku));
    machine
        .ctl(&["run", "sushi", "-d", "select 1"])
        .expect_failure(1, &["config variable value for sushi is invalid"]);
    machine.leave();
}

#[test]
fn a_grant_that_can_not_be_removed_stops_nothing() {
    let machine = TestMachine::new();
    let fault = Fault::on("/oauth/authorizations/*", Action::status(500)).api(Api::Heroku);
    let fault = machine.sandbox.faults().add(fault.method("DELETE"));
    assert_eq!(
        machine.ctl_ok(&["run", "sushi", "-d", "select 1 as n", "-f", "csv"]),
        "n\n1"
    );
    assert_eq!(
        machine.ctl_ok(&["run", "sushi", "-u", "-e", "echo ran"]),
        "ran"
    );
    machine.ctl_ok(&["info", "sushi"]);
    // It is tried again until it works.
    machine.sandbox.faults().remove(fault);
    machine.leave();
}

/// A POST whose answer is lost may have made a password: asked again it makes one more, and
/// not one for each of many attempts.
#[test]
fn a_lost_answer_makes_no_row_of_passwords() {
    let machine = TestMachine::new();
    let lost = Fault::on("personal-db-users", Action::Drop)
        .after()
        .times(1);
    machine.sandbox.faults().add(lost);
    machine.open(&["sushi"]);
    let issued = machine.sandbox.stats().addons[ADDON].passwords_issued;
    assert!(issued <= 2, "{issued} passwords for one command");
    machine.leave();
}

#[test]
fn an_answer_that_is_cut_is_said_and_not_taken_for_done() {
    let machine = TestMachine::new();
    machine.ctl_ok(&["extensions", "install", "sushi", "cube"]);
    let faults = machine.sandbox.faults();
    for (method, path, command) in [
        ("GET", "pg-extensions", &["extensions", "sushi"][..]),
        ("GET", "db-users", &["users", "sushi"]),
        ("GET", "/heroku/resources/*", &["info", "sushi"]),
        ("GET", "data-integrations", &["integrations", "sushi"]),
        (
            "GET",
            "restore-capabilities",
            &["restore", "capabilities", "sushi"],
        ),
        ("POST", "restore-tokens", &["restore", "execute", "sushi"]),
        ("GET", "pg-version-upgrades", &["upgrade", "info", "sushi"]),
        (
            "POST",
            "pg-version-upgrades",
            &["upgrade", "execute", "sushi"],
        ),
        ("GET", "/apps/sushi/addons", &["info", "sushi"]),
    ] {
        faults.add(Fault::on(path, Action::Truncate).method(method));
        let cut = machine.ctl(command);
        machine.sandbox.block_on(faults.clear()).unwrap();
        cut.expect_failure(1, &["error: ", "hint: "]);
        assert_eq!(cut.stdout, "", "{command:?}");
    }
    machine.leave();
}

#[test]
fn a_call_that_hangs_can_be_left() {
    let machine = TestMachine::new();
    let faults = machine.sandbox.faults();
    let hang = faults.add(Fault::on("pg-extensions", Action::Hang));
    let asked = || machine.sandbox.stats().requests_for("/pg-extensions");
    let mut child = machine
        .run(machine.binary("borealisctl"))
        .args(&["extensions", "sushi"])
        .start();
    while asked() == 0 {
        std::thread::yield_now();
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    faults.remove(hang);
    machine.leave();
}

/// The look-up, then everything else at once; the reference takes six calls in five steps.
#[test]
fn few_calls_stand_before_a_session() {
    let machine = TestMachine::before(Options::default());
    let slow = Fault::on("**", Action::delay(Duration::from_secs(1)));
    machine.sandbox.faults().add(slow);
    let start = std::time::Instant::now();
    machine.open(&["sushi"]);
    let steps = start.elapsed().as_secs();
    assert!(steps <= 5, "{steps} calls after each other");
    machine.leave();
}
