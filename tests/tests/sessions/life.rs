//! A session's life: opened twice, closed, brought back after crashes and cuts.

use borealis_proto::v1::State;
use borealis_tests::{
    harness::TestMachine,
    sandbox::{BastionAction, Options, PostgresAction},
};
use rustix::process::Signal;

fn is(state: State) -> impl Fn(&borealis_proto::v1::Session) -> bool {
    move |session| session.state() == state
}

#[test]
fn opening_twice_gives_the_same_session() {
    let machine = TestMachine::new();
    let first = machine.json(&["open", "sushi"]);
    let second = machine.json(&["open", "sushi"]);
    for key in ["name", "port", "password", "url", "since"] {
        assert_eq!(first[key], second[key], "{key}");
    }
    assert_eq!(machine.json(&["list"]).as_array().unwrap().len(), 1);
    machine.leave();
}

#[test]
fn a_session_that_is_opened_again_keeps_its_port_and_password() {
    let machine = TestMachine::new();
    let other = machine.open(&["ramen::BOREALIS_PG_NAVY"]);
    let before = machine.open(&["sushi"]);
    machine.ctl_ok(&["close", "sushi"]);
    assert!(!machine.socket_dir("sushi").exists());
    machine
        .psql(&before, "select 1")
        .expect_failure(2, &["refused"]);
    // Its port is kept for it meanwhile.
    machine.open(&["sushi", "-w"]);
    assert_eq!(machine.open(&["sushi"]), before);
    assert_eq!(machine.query(&other, "select 1"), "1");
    machine.leave();
}

#[test]
fn what_is_remembered_of_a_target_is_looked_up_again() {
    let machine = TestMachine::new();
    machine.open(&["sushi::DATABASE"]);
    machine.ctl_ok(&["close", "sushi"]);
    machine.open(&["borealis-pg-oval-23456", "--name", "other"]);
    machine.ctl_ok(&["close", "other"]);
    machine
        .sandbox
        .faults()
        .reattach("sushi", "DATABASE", "borealis-pg-oval-23456")
        .unwrap();
    let url = machine.open(&["sushi::DATABASE"]);
    let session = machine.json(&["show", "sushi"]);
    assert_eq!(session["addon"], "borealis-pg-oval-23456");
    assert_eq!(machine.query(&url, "select current_database()"), "d7a1");
    machine.leave();
}

#[test]
fn a_way_that_was_proven_before_is_trusted_but_not_blindly() {
    let machine = TestMachine::new();
    let url = machine.open(&["sushi"]);
    machine.ctl_ok(&["close", "sushi"]);
    let act = |action| {
        machine
            .sandbox
            .block_on(machine.sandbox.faults().postgres(action))
            .unwrap()
    };
    act(PostgresAction::Stop);
    machine.ctl_ok(&["open", "sushi", "--no-wait"]);
    let found_out = machine.wait_for("sushi", |session| {
        session.state() != State::Up && session.last_error.is_some()
    });
    let said = found_out.last_error.unwrap();
    assert_eq!(said.code, "database-unreachable", "{}", said.message);
    act(PostgresAction::Start);
    machine.wait_for("sushi", is(State::Up));
    assert_eq!(machine.query(&url, "select 1"), "1");
    machine.leave();
}

#[test]
fn a_crash_of_the_daemon_changes_nothing_for_clients() {
    let mut machine = TestMachine::new();
    let urls = [
        machine.open(&["sushi"]),
        machine.open(&["sushi", "-w"]),
        machine.open(&["ramen::BOREALIS_PG_MAROON"]),
        machine.open(&["sushi", "--role", "app"]),
    ];
    let before = machine.json(&["list"]);
    machine.kill_daemon();
    machine.start_daemon();
    for url in &urls {
        assert_eq!(machine.query(url, "select 1"), "1");
    }
    let after = machine.json(&["list"]);
    let identity = |list: &serde_json::Value| -> Vec<_> {
        let sessions = list.as_array().unwrap().iter();
        sessions
            .map(|s| (s["name"].clone(), s["port"].clone(), s["database"].clone()))
            .collect()
    };
    assert_eq!(identity(&before), identity(&after));
    machine.leave();
}

#[test]
fn sessions_declared_in_the_config_are_open_after_the_start() {
    let mut machine = TestMachine::without_daemon(Options::default());
    machine.write_config(
        "[[session]]\ntarget = \"sushi\"\n\n[[session]]\ntarget = \"ramen::BOREALIS_PG_NAVY\"\naccess = \"read-write\"\nname = \"noodles\"\n",
    );
    machine.start_daemon();
    machine.wait_for("noodles", is(State::Up));
    machine.wait_for("sushi", is(State::Up));
    assert_eq!(machine.json(&["show", "noodles"])["access"], "read-write");
    let url = machine.ctl_ok(&["url", "sushi"]);

    // A reload opens what is new, closes what is gone, and leaves alone what is as before.
    let since = machine.json(&["show", "sushi"])["since"].clone();
    machine.write_config(
        "[[session]]\ntarget = \"sushi\"\n\n[[session]]\ntarget = \"sushi\"\nrole = \"app\"\n",
    );
    machine.daemon().signal(Signal::HUP);
    machine.wait_for("sushi-app", is(State::Up));
    let listed = machine.json(&["list"]);
    let names: Vec<_> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["name"].clone())
        .collect();
    assert_eq!(names, ["sushi", "sushi-app"]);
    assert_eq!(machine.json(&["show", "sushi"])["since"], since);
    assert_eq!(machine.query(&url, "select 1"), "1");

    // What can't be read changes nothing, and is said.
    machine.write_bare_config("[[session]]\ntarget = \"sushi\"\nacess = \"read-only\"\n");
    let refused = machine.ctl(&["reload"]);
    refused.expect_failure(1, &["config.toml", "3", "acess", "access"]);
    assert_eq!(machine.json(&["list"]).as_array().unwrap().len(), 2);
    machine.leave();
}

#[test]
fn cut_connections_come_back_by_themselves() {
    let machine = TestMachine::new();
    let url = machine.open(&["sushi"]);
    let cut = |action| {
        machine
            .sandbox
            .block_on(machine.sandbox.faults().bastion(action))
            .unwrap()
    };
    for action in [BastionAction::Cut, BastionAction::Reset] {
        let up = machine.wait_for("sushi", is(State::Up));
        cut(action);
        machine.wait_for("sushi", |now| {
            now.state() == State::Up && now.since != up.since
        });
        assert_eq!(machine.query(&url, "select 1"), "1");
    }
    machine.leave();
}

#[test]
fn a_client_that_comes_while_the_bastion_is_away_is_held() {
    let machine = TestMachine::new();
    let url = machine.open(&["sushi"]);
    let act = |action| {
        machine
            .sandbox
            .block_on(machine.sandbox.faults().bastion(action))
            .unwrap()
    };
    act(BastionAction::Stop);
    machine.wait_for("sushi", is(State::Reconnecting));
    let psql = machine
        .run("psql")
        .args(&["-XAtqc", "select 'held'", &url])
        .start();
    // It is inside, waiting, before the bastion comes back.
    machine.wait_for("sushi", |session| session.last_error.is_some());
    act(BastionAction::Start);
    let output = psql.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "held\n");
    machine.leave();
}

#[test]
fn a_client_that_waits_too_long_is_told_why() {
    let mut machine = TestMachine::without_daemon(Options::default());
    machine.write_config("connect_timeout = \"1s\"\n");
    machine.start_daemon();
    let url = machine.open(&["sushi"]);
    let act = |action| {
        machine
            .sandbox
            .block_on(machine.sandbox.faults().bastion(action))
            .unwrap()
    };
    act(BastionAction::Stop);
    machine.wait_for("sushi", is(State::Reconnecting));
    let refused = machine.psql(&url, "select 1");
    refused.expect_failure(
        2,
        &[
            "FATAL",
            "session \"sushi\"",
            "did not come up within 1 s",
            "HINT",
        ],
    );
    act(BastionAction::Start);
    machine.wait_for("sushi", is(State::Up));
    machine.leave();
}

#[test]
fn a_restart_of_postgresql_fails_no_new_connection() {
    let machine = TestMachine::new();
    let url = machine.open(&["sushi"]);
    let act = |action| {
        machine
            .sandbox
            .block_on(machine.sandbox.faults().postgres(action))
            .unwrap()
    };
    act(PostgresAction::Stop);
    let psql = machine
        .run("psql")
        .args(&["-XAtqc", "select 'held'", &url])
        .start();
    act(PostgresAction::Start);
    let output = psql.wait_with_output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "held\n",
        "{output:?}"
    );
    machine.leave();
}

#[test]
fn a_port_that_is_taken_at_the_start_is_waited_for() {
    let mut machine = TestMachine::new();
    let url = machine.open(&["sushi"]);
    let port = u16::try_from(machine.json(&["show", "sushi"])["port"].as_u64().unwrap()).unwrap();
    machine.kill_daemon();
    let squatter = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    machine.start_daemon();
    let failed = machine.wait_for("sushi", is(State::Failed));
    let said = failed.last_error.unwrap().message;
    assert!(
        said.contains(&format!("port {port} is in use by")),
        "{said}"
    );
    assert!(
        said.contains(&format!("({})", std::process::id())),
        "{said}"
    );
    drop(squatter);
    machine.wait_for("sushi", is(State::Up));
    assert_eq!(machine.query(&url, "select 1"), "1");
    machine.leave();
}

#[test]
fn a_session_opened_for_a_time_closes_by_itself() {
    let machine = TestMachine::new();
    let opened = machine.json(&["open", "sushi", "-w", "--for", "2s"]);
    assert!(opened["expires_at"].is_string(), "{opened}");
    machine
        .daemon()
        .wait_until_gone("sushi-rw", &machine.sandbox);
    machine.leave();
}

#[test]
fn closing_with_grace_lets_clients_finish() {
    use std::io::{BufRead as _, BufReader, Write as _};

    let machine = TestMachine::new();
    let url = machine.open(&["sushi"]);
    let mut psql = machine.run("psql").args(&["-XAtq", &url]).start();
    let mut input = psql.stdin.take().unwrap();
    let mut output = BufReader::new(psql.stdout.take().unwrap());
    let mut line = String::new();
    writeln!(input, "begin;\nselect 'in';").unwrap();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "in\n");
    let close = machine
        .run(machine.binary("borealisctl"))
        .args(&["close", "sushi", "--grace", "30s"])
        .start();
    machine.wait_for("sushi", is(State::Closing));
    writeln!(input, "select 'out';").unwrap();
    line.clear();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "out\n");
    drop(input);
    assert!(psql.wait().unwrap().success());
    let closed = close.wait_with_output().unwrap();
    assert!(closed.status.success(), "{closed:?}");
    machine.leave();
}

#[test]
fn an_open_that_comes_while_the_session_is_ending_follows_its_end() {
    use std::io::{BufRead as _, BufReader, Write as _};

    let machine = TestMachine::new();
    let url = machine.open(&["sushi"]);
    let mut psql = machine.run("psql").args(&["-XAtq", &url]).start();
    let mut input = psql.stdin.take().unwrap();
    let mut output = BufReader::new(psql.stdout.take().unwrap());
    writeln!(input, "select 'in';").unwrap();
    output.read_line(&mut String::new()).unwrap();
    let control = machine.binary("borealisctl");
    let close = machine
        .run(&control)
        .args(&["close", "sushi", "--grace", "30s"])
        .start();
    machine.wait_for("sushi", is(State::Closing));
    let open = machine.run(&control).args(&["open", "sushi"]).start();
    let run = machine
        .run(&control)
        .args(&["run", "sushi", "-u", "-d", "select 1"])
        .start();
    drop(input);
    assert!(psql.wait().unwrap().success());
    for child in [close, open, run] {
        let ended = child.wait_with_output().unwrap();
        assert!(ended.status.success(), "{ended:?}");
    }
    assert_eq!(machine.query(&url, "select 1"), "1");
    machine.leave();
}

#[test]
fn what_is_said_to_be_closed_stays_closed_through_a_crash() {
    let mut machine = TestMachine::new();
    for _ in 0..5 {
        machine.open(&["sushi"]);
        machine.ctl_ok(&["close", "sushi"]);
        machine.kill_daemon();
        machine.start_daemon();
        assert_eq!(machine.ctl_ok(&["list", "--format", "json"]), "[]");
    }
    machine.leave();
}
