//! `restore`, with data that is really copied.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    time::Duration,
};

use borealis_tests::{
    harness::TestMachine,
    sandbox::{Action, Fault, Options},
};
use rustix::process::{Pid, Signal, kill_process};

/// Created at once, so that nothing waits for it.
fn quick() -> TestMachine {
    TestMachine::before(Options {
        provisioning_time: Duration::ZERO,
        ..Options::default()
    })
}

/// Never finished while a test runs.
fn slow() -> TestMachine {
    TestMachine::before(Options {
        provisioning_time: Duration::from_secs(3600),
        ..Options::default()
    })
}

fn created(machine: &TestMachine) -> u64 {
    machine
        .sandbox
        .stats()
        .requests_for("POST /apps/sushi/addons")
}

#[test]
fn capabilities_are_shown() {
    let machine = TestMachine::new();
    let shown = machine.json(&["restore", "capabilities", "sushi"]);
    assert_eq!(
        (&shown["clone_supported"], &shown["restore_supported"]),
        (&true.into(), &true.into())
    );
    assert!(
        shown["latest_restorable_time"]
            .as_str()
            .unwrap()
            .ends_with('Z'),
        "{shown}"
    );
    let table = machine.ctl_ok(&["restore:capabilities", "-a", "sushi"]);
    assert!(
        table.contains("Point-in-time Restore Supported  Yes"),
        "{table}"
    );
    machine.leave();
}

#[test]
fn a_clone_is_waited_for_and_holds_the_data() {
    let machine = quick();
    let source = machine.open(&["sushi"]);
    let clone = machine.ctl(&[
        "restore",
        "execute",
        "sushi",
        "--as",
        "COPY",
        "--destination-app",
        "udon",
        "--wait",
        "-f",
        "json",
    ]);
    let clone: serde_json::Value = serde_json::from_str(&clone.expect_success()).unwrap();
    assert_eq!(
        (&clone["app"], &clone["attachment"]),
        (&"udon".into(), &"COPY".into())
    );
    assert_eq!(
        (&clone["source_addon"], &clone["status"]),
        (&"borealis-pg-hex-12345".into(), &"available".into())
    );
    let copy = machine.open(&["udon"]);
    let tables = "select count(*) from information_schema.tables where table_schema = 'public'";
    assert_eq!(machine.query(&copy, tables), machine.query(&source, tables));
    let info = machine.json(&["info", "udon", "--wait"]);
    assert_eq!(info["restore_source_addon_name"], "borealis-pg-hex-12345");
    // Seen to its end: the same words ask for another one.
    let another = machine.json(&["restore", "execute", "sushi"]);
    assert_ne!(another["addon"], clone["addon"]);
    machine.leave();
}

#[test]
fn an_interrupted_wait_is_gone_on_with_and_nothing_is_started_twice() {
    let mut machine = slow();
    let args = [
        "restore",
        "execute",
        "sushi",
        "-t",
        "2026-11-22T12:00:00+01:00",
        "--wait",
    ];
    let mut waiting = machine
        .run(machine.binary("borealisctl"))
        .args(&args)
        .start();
    let mut shown = String::new();
    let mut stdout = BufReader::new(waiting.stdout.take().unwrap());
    stdout.read_line(&mut shown).unwrap();
    assert!(shown.contains("is being created on app sushi: borealis-pg-hex-12345 as it was on 2026-11-22 11:00:00 UTC"), "{shown}");
    let addon = shown.split(' ').next().unwrap().to_owned();
    let mut stderr = BufReader::new(waiting.stderr.take().unwrap());
    let mut told = String::new();
    stderr.read_line(&mut told).unwrap();
    assert_eq!(told, format!("{addon}: Provisioning\n"));
    kill_process(Pid::from_child(&waiting), Signal::INT).unwrap();
    assert_eq!(waiting.wait().unwrap().code(), Some(130));
    told.clear();
    stderr.read_to_string(&mut told).unwrap();
    assert!(
        told.contains(&format!("borealisctl info {addon} --wait")),
        "{told}"
    );

    // The same words go on where it was; other words are another restore.
    let mut waiting = machine
        .run(machine.binary("borealisctl"))
        .args(&args)
        .start();
    shown.clear();
    BufReader::new(waiting.stdout.take().unwrap())
        .read_line(&mut shown)
        .unwrap();
    assert!(
        shown.starts_with(&format!("{addon} was asked for before")),
        "{shown}"
    );
    kill_process(Pid::from_child(&waiting), Signal::INT).unwrap();
    assert_eq!(waiting.wait().unwrap().code(), Some(130));
    assert_eq!(created(&machine), 1);

    // A daemon that doesn't remember it finds it at the provider.
    machine.kill_daemon();
    machine.start_daemon();
    let mut args = args;
    args[2] = "sushi::DATABASE";
    machine
        .ctl(&args)
        .expect_failure(1, &["under way already", &addon, "hint:", "--wait"]);
    assert_eq!(created(&machine), 1);
    machine.json(&["restore", "execute", "sushi::DATABASE"]);
    assert_eq!(created(&machine), 2);
    machine.leave();
}

#[test]
fn what_is_wrong_with_a_restore_is_told() {
    let machine = quick();
    let restore = |args: &[&str]| machine.ctl(&[&["restore", "execute", "sushi"], args].concat());
    restore(&["-t", "tomorrow"]).expect_failure(2, &["ISO 8601"]);
    restore(&["-d", "nowhere"]).expect_failure(5, &["there is no app nowhere"]);
    restore(&["--as", "DATABASE"]).expect_failure(1, &["Name DATABASE is already taken."]);
    machine
        .ctl(&["restore", "execute", "tempura"])
        .expect_failure(6, &["not finished provisioning"]);
    let faults = machine.sandbox.faults();
    let refused =
        Action::status(400).body(r#"{"reason": "Multi-tenant plans are not supported!"}"#);
    faults.add(Fault::on("restore-tokens", refused).times(1));
    restore(&[]).expect_failure(
        1,
        &["can't be restored or cloned: Multi-tenant plans are not supported!"],
    );
    let before = created(&machine);
    faults.add(
        Fault::on("/apps/sushi/addons", Action::Drop)
            .method("POST")
            .times(1)
            .after(),
    );
    restore(&[]).expect_failure(1, &["it is not known whether", "heroku addons --app sushi"]);
    assert_eq!(created(&machine), before + 1);
    machine.leave();
}

#[test]
fn a_provisioning_that_is_cancelled_ends_the_wait() {
    let machine = slow();
    let clone = machine.json(&["restore", "execute", "sushi"]);
    let addon = clone["addon"].as_str().unwrap();
    let gone = Fault::on(&format!("/addons/{addon}"), Action::status(404));
    machine.sandbox.faults().add(gone);
    machine
        .ctl(&["info", addon, "--wait"])
        .expect_failure(1, &["provisioning was cancelled", addon]);
    machine.leave();
}
