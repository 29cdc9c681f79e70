//! What the reference's tunnel does wrong, and a session doesn't.

use std::{
    io::{BufRead as _, BufReader},
    net::TcpListener,
    process::Child,
    time::{Duration, Instant},
};

use borealis_proto::v1::State;
use borealis_tests::{
    harness::TestMachine,
    sandbox::{BastionAction, Options},
};
use rustix::process::{Pid, Signal, kill_process};
use tokio_postgres::NoTls;

const ADDON: &str = "borealis-pg-hex-12345";

fn passwords(machine: &TestMachine) -> u64 {
    machine.sandbox.stats().addons[ADDON].passwords_issued
}

/// `borealisctl tunnel`, up.
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

fn end(mut child: Child, signal: Signal) -> Option<i32> {
    kill_process(Pid::from_child(&child), signal).unwrap();
    child.wait().unwrap().code()
}

#[test]
fn nobodys_password_is_taken_away() {
    let machine = TestMachine::new();
    let managed = machine.open(&["sushi"]);
    let direct = machine.open(&["sushi", "--passthrough", "--name", "direct"]);
    let before = passwords(&machine);
    let still_good = |after: &str| {
        for url in [&managed, &direct] {
            assert_eq!(machine.query(url, "select 1"), "1", "after {after}");
        }
        assert_eq!(passwords(&machine), before, "after {after}");
    };
    machine.ctl_ok(&["psql", "sushi", "--", "-XAtqc", "select 1"]);
    still_good("psql");
    machine.ctl_ok(&["run", "sushi", "-u", "-d", "select 1"]);
    still_good("run -u");
    let (child, url) = tunnel(&machine, &["--app", "sushi"]);
    assert_eq!(machine.query(&url, "select 1"), "1");
    still_good("tunnel");
    assert_eq!(end(child, Signal::INT), Some(0));
    still_good("the tunnel's end");
    let squatter = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = squatter.local_addr().unwrap().port().to_string();
    machine
        .ctl(&["open", "sushi", "--name", "other", "-p", &port])
        .expect_failure(1, &["in use by"]);
    still_good("an open whose port is taken");
    machine.leave();
}

#[test]
fn a_silent_line_is_noticed_and_its_clients_are_served_in_the_end() {
    let mut machine = TestMachine::without_daemon(Options::default());
    machine.write_config("[keepalive]\ninterval = \"300ms\"\ntimeout = \"1s\"\n");
    machine.start_daemon();
    let url = machine.open(&["sushi"]);
    let act = |action| {
        machine
            .sandbox
            .block_on(machine.sandbox.faults().bastion(action))
            .unwrap()
    };
    act(BastionAction::Freeze);
    let client = machine
        .run("psql")
        .args(&["-XAtqc", "select 'served'", &url])
        .start();
    machine.wait_for("sushi", |session| session.state() == State::Reconnecting);
    act(BastionAction::Thaw);
    let served = client.wait_with_output().unwrap();
    assert!(served.status.success(), "{served:?}");
    assert_eq!(served.stdout, b"served\n");
    machine.leave();
}

#[test]
fn whoever_ends_it_nothing_stays() {
    let mut machine = TestMachine::new();
    for (signal, code) in [
        (Signal::INT, Some(0)),
        (Signal::TERM, None),
        (Signal::KILL, None),
    ] {
        let (child, _) = tunnel(&machine, &["sushi", "-w"]);
        assert_eq!(end(child, signal), code, "{signal:?}");
        machine
            .daemon()
            .wait_until_gone("sushi-rw", &machine.sandbox);
    }
    // The daemon too: its sockets go, and with `leave` its grants.
    machine.open(&["sushi"]);
    let sockets = [
        machine.socket_dir("sushi").join(".s.PGSQL.5432"),
        machine.daemon().socket().to_path_buf(),
    ];
    assert!(sockets.iter().all(|socket| socket.exists()));
    assert_eq!(machine.stop_daemon(), Some(0));
    assert!(!sockets.iter().any(|socket| socket.exists()));
    machine.leave();
}

/// With Nagle's algorithm somewhere on the way each takes 44 ms; a busy machine takes less.
#[test]
fn a_round_trip_waits_for_nobody() {
    let machine = TestMachine::quiet(Options::default());
    let url = machine.open(&["sushi"]);
    let median = machine.sandbox.block_on(async {
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
        let connection = tokio::spawn(connection);
        let mut times = Vec::new();
        for _ in 0..100 {
            let start = Instant::now();
            client.simple_query("select 1").await.unwrap();
            times.push(start.elapsed());
        }
        drop(client);
        connection.await.unwrap().unwrap();
        times.sort();
        times[50]
    });
    assert!(median < Duration::from_millis(30), "{median:?}");
    machine.leave();
}

/// The provider's passwords have characters in them that mean something in a URL.
#[test]
fn urls_are_percent_encoded() {
    let machine = TestMachine::new();
    machine.open(&["sushi", "--passthrough"]);
    for _ in 0..50 {
        let shown = machine.json(&["show", "sushi", "--reveal"]);
        let (password, url) = (
            shown["password"].as_str().unwrap(),
            shown["url"].as_str().unwrap(),
        );
        if password.contains(['@', '/', ':', '%', '#', '?']) {
            assert!(!url.contains(password), "{url}");
            assert_eq!(url.matches('@').count(), 1, "{url}");
            assert_eq!(machine.query(url, "select 1"), "1");
            let env = machine.ctl_ok(&["env", "sushi"]);
            let script = format!("{env}\npsql -XAtqc 'select 2' \"$DATABASE_URL\"");
            assert_eq!(
                machine
                    .run("sh")
                    .args(&["-c", &script])
                    .outcome()
                    .expect_success(),
                "2"
            );
            return machine.leave();
        }
        machine.ctl_ok(&["rotate", "sushi"]);
    }
    panic!("no such password in 50");
}
