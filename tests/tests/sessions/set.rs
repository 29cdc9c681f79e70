//! The set of sessions where two things meet: a close and a stop, two users of one name, a
//! config and what is open, a port and a stranger on it.

use std::{
    io::{BufRead as _, BufReader},
    net::TcpListener,
    process::Child,
};

use borealis_proto::v1::{
    State, WatchSessionsRequest, session_service_client::SessionServiceClient,
};
use borealis_tests::{
    harness::{TestMachine, wire::Wire},
    sandbox::{Action, Fault},
};
use rustix::process::{Pid, Signal, kill_process};

/// `borealisctl tunnel`, up; and its URL.
fn tunnel(machine: &TestMachine, args: &[&str]) -> (Child, String) {
    let run = machine.run(machine.binary("borealisctl"));
    let mut child = run.args(&[&["tunnel"], args].concat()).start();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let url = stdout
        .lines()
        .map(Result::unwrap)
        .find_map(|line| line.trim().strip_prefix("URL: ").map(str::to_owned));
    (child, url.expect("a URL"))
}

fn interrupt(mut child: Child) {
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    child.wait().unwrap();
}

fn start(machine: &TestMachine, args: &[&str]) -> Child {
    let run = machine.run(machine.binary("borealisctl"));
    run.args(args).start()
}

/// The exit code and what was said on standard error.
fn ended(child: Child) -> (Option<i32>, String) {
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), said)
}

fn port(machine: &TestMachine, session: &str) -> u16 {
    let shown = machine.json(&["show", session]);
    u16::try_from(shown["port"].as_u64().unwrap()).unwrap()
}

#[test]
fn somebody_who_leaves_late_ends_no_session_of_others() {
    let machine = TestMachine::new();
    let (early, _) = tunnel(&machine, &["sushi"]);
    machine.ctl_ok(&["close", "sushi"]);
    let (late, url) = tunnel(&machine, &["sushi"]);
    interrupt(early);
    // The first one's leaving is known to the daemon before the last of these.
    for _ in 0..20 {
        assert_eq!(machine.query(&url, "select 1"), "1");
        machine.ctl_ok(&["show", "sushi"]);
    }
    interrupt(late);
    machine.daemon().wait_until_gone("sushi", &machine.sandbox);
    machine.leave();
}

#[test]
fn a_close_that_was_accepted_holds_though_the_daemon_stops_before_its_grace_is_over() {
    let mut machine = TestMachine::new();
    machine.open(&["sushi"]);
    let parameters = [("user", "sushi"), ("database", "d4f0")];
    let (mut client, _) = Wire::log_in(&machine.socket_dir("sushi"), &parameters);
    client.ask("begin; select 1");
    let closing = start(&machine, &["close", "sushi", "--grace", "60s"]);
    machine.wait_for("sushi", |session| session.state() == State::Closing);
    assert_eq!(machine.stop_daemon(), Some(0));
    let (code, said) = ended(closing);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("borealisd is stopping"), "{said}");
    machine.start_daemon();
    assert_eq!(machine.json(&["list"]), serde_json::json!([]));
    machine.leave();
}

#[test]
fn commands_under_way_are_told_that_the_daemon_stops() {
    let mut machine = TestMachine::new();
    let hangs = Action::delay(std::time::Duration::from_secs(600));
    machine.sandbox.faults().add(Fault::on("**", hangs));
    let opening = start(&machine, &["open", "sushi"]);
    let mut watching = start(&machine, &["list", "--watch", "-f", "json"]);
    let stdout = watching.stdout.as_mut().unwrap();
    BufReader::new(stdout)
        .read_line(&mut String::new())
        .unwrap();
    machine.stop_daemon();
    for command in [opening, watching] {
        let (code, said) = ended(command);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("borealisd is stopping"), "{said}");
    }
    machine.start_daemon();
    machine.leave();
}

#[test]
fn a_rotation_that_can_not_be_is_answered_at_once_and_by_name() {
    let machine = TestMachine::new();
    machine.open(&["sushi"]);
    let faults = machine.sandbox.faults();
    let failing = faults.add(Fault::on("**cube-34567**", Action::status(500)));
    machine.ctl_ok(&[
        "open",
        "ramen::BOREALIS_PG_NAVY",
        "--name",
        "ramen",
        "--no-wait",
    ]);
    machine.wait_for("ramen", |session| session.last_error.is_some());
    let rotated = machine.ctl(&["rotate", "--all"]);
    rotated.expect_failure(1, &["ramen"]);
    assert!(!rotated.stderr.contains("sushi"), "{rotated:#?}");
    assert!(rotated.stdout.contains("rotated sushi"), "{rotated:#?}");
    machine
        .ctl(&["rotate", "ramen"])
        .expect_failure(1, &["hint: "]);
    faults.remove(failing);
    machine.wait_for("ramen", |session| session.state() == State::Up);
    machine.ctl_ok(&["rotate", "--all"]);
    machine.leave();
}

#[test]
fn a_config_that_says_read_only_makes_it_so() {
    let mut machine = TestMachine::new();
    machine.open(&["sushi", "-w", "--name", "db"]);
    let before = port(&machine, "db");
    machine
        .write_config("[[session]]\ntarget = \"sushi\"\nname = \"db\"\naccess = \"read-only\"\n");
    machine.ctl_ok(&["reload"]);
    let is_so = |machine: &TestMachine| {
        machine.wait_for("db", |session| {
            session.state() == State::Up && session.declared
        });
        let shown = machine.json(&["show", "db", "--reveal"]);
        assert_eq!(shown["access"], "read-only");
        shown["url"].as_str().unwrap().to_owned()
    };
    let url = is_so(&machine);
    assert_eq!(port(&machine, "db"), before);
    machine
        .psql(&url, "create table written (a int)")
        .expect_failure(1, &["read-only transaction"]);
    // The same where the config was changed while the daemon was away.
    machine.write_config("");
    machine.ctl_ok(&["reload"]);
    machine.daemon().wait_until_gone("db", &machine.sandbox);
    machine.open(&["sushi", "-w", "--name", "db"]);
    machine.stop_daemon();
    machine
        .write_config("[[session]]\ntarget = \"sushi\"\nname = \"db\"\naccess = \"read-only\"\n");
    machine.start_daemon();
    is_so(&machine);
    machine.leave();
}

#[test]
fn who_asks_for_another_access_never_gets_the_session_that_is_open() {
    let machine = TestMachine::new();
    machine.open(&["sushi", "--name", "prod"]);
    for command in [
        &["open", "prod", "-w"][..],
        &["open", "sushi", "-w", "--name", "prod"],
        &["open", "prod", "--role", "app"],
        &["open", "prod", "--passthrough"],
        &["tunnel", "prod", "-w"],
        &["psql", "prod", "-w", "--", "-c", "select 1"],
        &["run", "prod", "-d", "select 1"],
    ] {
        let refused = machine.ctl(command);
        refused.expect_failure(5, &["prod", "personal role, read-only, managed", "hint: "]);
    }
    // Without a word about it, it is what it is.
    assert_eq!(machine.json(&["open", "prod"])["access"], "read-only");
    machine.open(&["sushi", "-w", "--name", "writing"]);
    assert_eq!(machine.json(&["open", "writing"])["access"], "read-write");
    // A name that was made from what it is leads to the one beside it.
    let beside = machine.json(&["open", "sushi", "-w"]);
    assert_eq!(beside["name"], "sushi-rw");
    let ran = machine.ctl_ok(&["run", "sushi-rw", "-u", "-d", "show transaction_read_only"]);
    assert!(ran.contains("on"), "{ran}");
    machine.daemon().wait_until_gone("sushi", &machine.sandbox);
    let names = machine.json(&["list"]);
    let names: Vec<_> = names
        .as_array()
        .unwrap()
        .iter()
        .map(|s| &s["name"])
        .collect();
    assert_eq!(names, ["prod", "sushi-rw", "writing"]);
    machine.leave();
}

#[test]
fn a_port_that_a_program_has_for_a_moment_stays_the_sessions() {
    let machine = TestMachine::new();
    machine.open(&["sushi"]);
    let own = port(&machine, "sushi");
    machine.ctl_ok(&["close", "sushi"]);
    let stranger = TcpListener::bind(("127.0.0.1", own)).unwrap();
    let refused = machine.ctl(&["open", "sushi"]);
    let this = format!("({})", std::process::id());
    refused.expect_failure(1, &[&format!("port {own} is in use"), &this, "hint: "]);
    assert_eq!(machine.json(&["list"]), serde_json::json!([]));
    // What runs for a moment does without.
    assert_eq!(
        machine.ctl_ok(&["psql", "sushi", "--", "-XAtc", "select 1"]),
        "1"
    );
    machine.daemon().wait_until_gone("sushi", &machine.sandbox);
    // One that ends in time is waited for.
    let opening = start(&machine, &["open", "sushi"]);
    drop(stranger);
    let (code, said) = ended(opening);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(port(&machine, "sushi"), own);
    // A session that is open is not moved, and it is said how to.
    machine
        .ctl(&["open", "sushi", "-p", "29999"])
        .expect_failure(1, &["sushi", &own.to_string(), "borealisctl close sushi"]);
    machine.leave();
}

#[test]
fn a_session_whose_port_is_a_strangers_is_named_nowhere_and_can_be_moved() {
    let mut machine = TestMachine::new();
    machine.open(&["sushi"]);
    let own = port(&machine, "sushi");
    let service_file = machine.path("run/borealis/pg_service.conf");
    let password_file = machine.path("run/borealis/pgpass");
    machine.stop_daemon();
    let stranger = TcpListener::bind(("127.0.0.1", own)).unwrap();
    machine.start_daemon();
    let failed = machine.wait_for("sushi", |session| session.state() == State::Failed);
    for file in [&service_file, &password_file] {
        let text = std::fs::read_to_string(file).unwrap();
        assert!(
            !text.contains("sushi") && !text.contains(&own.to_string()),
            "{text}"
        );
    }
    assert!(failed.unbound);
    let url = machine.ctl(&["url", "sushi"]);
    assert_eq!(url.code, Some(0));
    assert!(url.stderr.contains("is not sushi's now"), "{url:#?}");
    let elsewhere = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    machine.open(&["sushi", "-p", &elsewhere.to_string()]);
    drop(stranger);
    machine.stop_daemon();
    machine.start_daemon();
    machine.wait_for("sushi", |session| session.state() == State::Up);
    assert_eq!(port(&machine, "sushi"), elsewhere);
    machine.leave();
}

#[test]
fn what_libpq_is_told_follows_rotations_restarts_and_sessions_of_a_moment() {
    let mut machine = TestMachine::new();
    let service_file = machine.path("run/borealis/pg_service.conf");
    let ask = |machine: &TestMachine, service: &str| {
        machine
            .run("psql")
            .env("PGSERVICEFILE", service_file.to_str().unwrap())
            .args(&["-XAtc", "select 1", &format!("service={service}")])
            .outcome()
            .expect_success()
    };
    machine.open(&["sushi", "--passthrough", "--name", "raw"]);
    assert_eq!(ask(&machine, "raw"), "1");
    machine.ctl_ok(&["rotate", "raw"]);
    assert_eq!(ask(&machine, "raw"), "1");
    machine.stop_daemon();
    machine.start_daemon();
    machine.open(&["raw"]);
    assert_eq!(ask(&machine, "raw"), "1");
    // A managed session stands there with its socket, where nobody is asked for a password.
    let (held, _) = tunnel(&machine, &["sushi"]);
    assert_eq!(ask(&machine, "sushi"), "1");
    let text = std::fs::read_to_string(&service_file).unwrap();
    let section = text.split("[sushi]").nth(1).unwrap();
    let socket_dir = machine.socket_dir("sushi");
    assert!(
        section.contains(&format!("host={}\n", socket_dir.display())),
        "{text}"
    );
    assert!(!section.contains("passfile"), "{text}");
    machine.ctl_ok(&["close", "sushi"]);
    let text = std::fs::read_to_string(&service_file).unwrap();
    assert!(!text.contains("[sushi]"), "{text}");
    interrupt(held);
    machine.leave();
}

#[test]
fn the_revision_grows_with_changes_alone_and_counters_are_current() {
    let machine = TestMachine::new();
    machine.open(&["sushi"]);
    let revision = || {
        machine.sandbox.block_on(async {
            let socket = machine.daemon().socket().to_owned();
            let channel = borealis_proto::connect::connect(socket).await.unwrap();
            let mut client = SessionServiceClient::new(channel);
            let changes = client.watch_sessions(WatchSessionsRequest {}).await;
            let first = changes.unwrap().into_inner().message().await;
            first.unwrap().unwrap().revision
        })
    };
    let parameters = [("user", "sushi"), ("database", "d4f0")];
    let log_in = || {
        let (mut client, _) = Wire::log_in(&machine.socket_dir("sushi"), &parameters);
        client.ask("select 1");
        client
    };
    // A way that was trusted is proved by the first.
    let first = log_in();
    let before = revision();
    for _ in 0..5 {
        machine.ctl_ok(&["url", "sushi"]);
    }
    let counts = |session: &borealis_proto::v1::Session| session.connections.unwrap().active;
    machine.wait_for("sushi", |session| counts(session) == 1);
    let second = log_in();
    machine.wait_for("sushi", |session| counts(session) == 2);
    drop((first, second));
    machine.wait_for("sushi", |session| counts(session) == 0);
    assert_eq!(revision(), before);
    machine.leave();
}

#[test]
fn opens_and_closes_that_cross_all_end_well() {
    let machine = TestMachine::new();
    machine.open(&["sushi"]);
    let storm = |args: &'static [&'static str], codes: &'static [i32]| {
        let machine = &machine;
        move || {
            for _ in 0..8 {
                let outcome = machine.ctl(args);
                assert!(codes.contains(&outcome.code.unwrap()), "{outcome:#?}");
            }
        }
    };
    std::thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(storm(&["open", "sushi"], &[0]));
        }
        threads.spawn(storm(
            &["psql", "sushi", "--", "-XAtc", "select 1"],
            &[0, 2],
        ));
        // There may be nothing to close.
        threads.spawn(storm(&["close", "sushi"], &[0, 5]));
    });
    machine.leave();
}

#[test]
fn one_entry_that_can_not_be_read_costs_no_other_session() {
    let mut machine = TestMachine::new();
    let url = machine.open(&["sushi"]);
    machine.open(&["ramen::BOREALIS_PG_NAVY", "--name", "ramen"]);
    machine.stop_daemon();
    let file = machine.path("state/borealis/state.json");
    let good = std::fs::read_to_string(&file).unwrap();
    let bad = good.replace("\"name\": \"ramen\"", "\"name\": \"Not A Name\"");
    assert_ne!(bad, good);
    std::fs::write(&file, bad).unwrap();
    machine.start_daemon();
    assert_eq!(machine.query(&url, "select 1"), "1");
    let status = machine.json(&["status"]);
    assert_eq!(status["health"], "warning", "{status}");
    assert!(status.to_string().contains("Not A Name"), "{status}");
    machine.open(&["sushi", "-w"]);
    machine.stop_daemon();
    assert!(
        std::fs::read_to_string(&file)
            .unwrap()
            .contains("Not A Name")
    );
    machine.start_daemon();
    machine.leave();
}

#[test]
fn a_reload_reaches_sessions_that_run_and_says_what_it_does_not() {
    let machine = TestMachine::new();
    let url = machine.open(&["sushi"]);
    machine.write_config("max_connections = 1\n[keepalive]\ninterval = \"7s\"\n");
    let reloaded = machine.ctl(&["reload"]);
    let said = "[keepalive] holds for SSH connections";
    assert!(reloaded.stderr.contains(said), "{reloaded:#?}");
    let parameters = [("user", "sushi"), ("database", "d4f0")];
    let (mut client, _) = Wire::log_in(&machine.socket_dir("sushi"), &parameters);
    client.ask("select 1");
    machine
        .psql(&url, "select 1")
        .expect_failure(2, &["has its 1 connections already"]);
    machine.leave();
}
