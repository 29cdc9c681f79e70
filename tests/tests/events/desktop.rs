//! What the desktop is told, over a real bus.

use std::fs;

use borealis_tests::{
    harness::{TestMachine, eventually},
    sandbox::Options,
};

use crate::bus::{Asked, Bus, Desktop, Manner};

/// A machine whose daemon, which isn't started yet, has a desktop.
fn machine(manner: Manner) -> (TestMachine, Bus, Desktop) {
    let mut machine = TestMachine::without_daemon(Options::default());
    let bus = Bus::start(&machine.path(""));
    let desktop = bus.desktop(manner);
    machine.set("DBUS_SESSION_BUS_ADDRESS", &bus.address);
    (machine, bus, desktop)
}

const REVOKED: &str = "[[session]]\ntarget = \"wasabi\"\n";

#[test]
fn a_refused_token_is_told_once_and_taken_away_when_it_has_passed() {
    let (mut machine, _bus, desktop) = machine(Manner::Markup);
    machine.unset("HEROKU_API_KEY");
    let token = machine.sandbox.token();
    let netrc = format!("machine 127.0.0.1\n  login me@example.com\n  password {token}\n");
    fs::write(machine.path(".netrc"), netrc).unwrap();
    machine.start_daemon();
    machine.open(&["sushi"]);
    machine.open(&["ramen::BOREALIS_PG_NAVY"]);
    assert_eq!(machine.stop_daemon(), Some(0));
    machine.sandbox.faults().revoke_token();
    machine.start_daemon();
    for session in ["sushi", "ramen.borealis_pg_navy"] {
        machine.wait_for(session, |session| session.last_error.is_some());
    }
    let (number, summary, body) = desktop.next_shown();
    assert_eq!(summary, "Sign in to Heroku again");
    assert!(body.contains("Heroku refused the API token"), "{body}");
    assert!(body.contains("borealisctl login"), "{body}");
    assert!(!body.contains(&token), "{body}");
    assert!(!body.contains(['<', '\'', '"']), "not escaped: {body}");

    machine.sandbox.faults().restore_token();
    machine
        .run(machine.binary("borealisctl"))
        .args(&["login", "--token-stdin", "--file"])
        .input(token)
        .outcome()
        .expect_success();
    for session in ["sushi", "ramen.borealis_pg_navy"] {
        machine.wait_for(session, |session| session.state == 2);
    }
    assert_eq!(desktop.next(), Asked::Closed(number));
    assert_eq!(desktop.all(), []);
    machine.leave();
}

#[test]
fn write_access_that_ends_is_told_five_minutes_before() {
    let (mut machine, _bus, desktop) = machine(Manner::Plain);
    machine.start_daemon();
    // Whoever opens it for so short a time knows.
    machine.open(&["sushi", "-w", "--for", "4m"]);
    machine.open(&["sushi", "--for", "302s"]);
    machine.open(&["ramen::BOREALIS_PG_NAVY", "-w", "--for", "303s"]);
    let (number, summary, body) = desktop.next_shown();
    let name = "ramen.borealis_pg_navy-rw";
    let said = format!("Write access of {name} ends at ");
    assert!(summary.starts_with(&said), "{summary}");
    assert!(body.contains(name), "{body}");
    machine.ctl_ok(&["close", name]);
    assert_eq!(desktop.next(), Asked::Closed(number));
    assert_eq!(desktop.all(), []);
    machine.leave();
}

#[test]
fn two_machines_that_fight_are_told() {
    let (mut machine, _bus, desktop) = machine(Manner::Plain);
    machine.start_daemon();
    let url = machine.open(&["sushi"]);
    let shown = eventually(|| {
        let faults = machine.sandbox.faults();
        let elsewhere = faults.rotate_password_elsewhere("sushi", None);
        machine.sandbox.block_on(elsewhere).unwrap();
        assert_eq!(machine.query(&url, "select 1"), "1");
        match desktop.all().as_slice() {
            [] => Err("nothing is shown".to_owned()),
            [Asked::Shown { summary, body, .. }] => Ok((summary.clone(), body.clone())),
            other => panic!("{other:?}"),
        }
    });
    assert!(shown.0.starts_with("Two of your machines"), "{shown:?}");
    assert!(shown.1.contains("borealis-pg-hex-12345"), "{shown:?}");
    machine.leave();
}

#[test]
fn revoked_access_is_told_unless_nobody_wants_to_know() {
    let (mut machine, _bus, desktop) = machine(Manner::Plain);
    machine.write_config(&format!("notify = false\n{REVOKED}"));
    machine.start_daemon();
    machine.wait_for("wasabi", |session| session.last_error.is_some());
    // By then it would have been told.
    machine.open(&["sushi", "-w", "--for", "302s"]);
    let last = eventually(|| {
        let left = machine.json(&["show", "sushi-rw"])["expires_at"].clone();
        let end: jiff::Timestamp = left.as_str().unwrap().parse().unwrap();
        let left =
            end.duration_since(jiff::Timestamp::try_from(std::time::SystemTime::now()).unwrap());
        match left.as_secs() < 298 {
            true => Ok(left),
            false => Err(format!("{left:?} left")),
        }
    });
    assert_eq!(desktop.all(), [], "{last:?}");
    // A reload applies it, to what is so already too.
    machine.write_config(REVOKED);
    machine.ctl_ok(&["reload"]);
    let mut shown =
        [desktop.next_shown(), desktop.next_shown()].map(|(_, summary, body)| (summary, body));
    shown.sort();
    let [(access, body), (write, _)] = shown;
    assert_eq!(access, "Access to a database was revoked");
    assert!(body.contains("upgrading to a new add-on plan"), "{body}");
    assert!(write.starts_with("Write access of sushi-rw"), "{write}");
    assert_eq!(desktop.all(), []);
    machine.leave();
}

#[test]
fn a_desktop_that_never_answers_or_is_not_there_holds_up_nothing() {
    let (mut machine, bus, desktop) = machine(Manner::Silent);
    machine.write_config(REVOKED);
    machine.start_daemon();
    desktop.next_shown();
    machine.open(&["sushi"]);
    machine.ctl_ok(&["reload"]);
    machine.ctl_ok(&["close", "sushi"]);
    drop((desktop, bus));
    assert_eq!(machine.stop_daemon(), Some(0));
    // Nobody has a bus any more.
    machine.start_daemon();
    machine.open(&["sushi"]);
    eventually(
        || match machine.log().contains("the desktop can't be told") {
            true => Ok(()),
            false => Err("it is not tried".to_owned()),
        },
    );
    assert!(!machine.log().contains("WARN borealisd::notifications"));
    machine.leave();
}
