//! What the reference's tunnel does wrong, and a session doesn't.

use std::{
    io::{BufRead as _, BufReader},
    net::TcpListener,
    process::Child,
    time::{Duration, Instant},
};

use borealis_proto::v1::State;
use borealis_tests::{
    harness::Desk,
    sandbox::{BastionAction, Options},
};
use rustix::process::{Pid, Signal, kill_process};
use tokio_postgres::NoTls;

const ADDON: &str = "borealis-pg-hex-12345";

fn passwords(desk: &Desk) -> u64 {
    desk.sandbox.stats().addons[ADDON].passwords_issued
}

/// `borealisctl tunnel`, up.
fn tunnel(desk: &Desk, args: &[&str]) -> (Child, String) {
    let run = desk.run(desk.binary("borealisctl"));
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
    let desk = Desk::new();
    let managed = desk.open(&["sushi"]);
    let direct = desk.open(&["sushi", "--passthrough", "--name", "direct"]);
    let before = passwords(&desk);
    let still_good = |after: &str| {
        for url in [&managed, &direct] {
            assert_eq!(desk.query(url, "select 1"), "1", "after {after}");
        }
        assert_eq!(passwords(&desk), before, "after {after}");
    };
    desk.ctl_ok(&["psql", "sushi", "--", "-XAtqc", "select 1"]);
    still_good("psql");
    desk.ctl_ok(&["run", "sushi", "-u", "-d", "select 1"]);
    still_good("run -u");
    let (child, url) = tunnel(&desk, &["--app", "sushi"]);
    assert_eq!(desk.query(&url, "select 1"), "1");
    still_good("tunnel");
    assert_eq!(end(child, Signal::INT), Some(0));
    still_good("the tunnel's end");
    let squatter = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = squatter.local_addr().unwrap().port().to_string();
    desk.ctl(&["open", "sushi", "--name", "other", "-p", &port])
        .expect_failure(1, &["in use by"]);
    still_good("an open whose port is taken");
    desk.leave();
}

#[test]
fn a_silent_line_is_noticed_and_its_clients_are_served_in_the_end() {
    let mut desk = Desk::without_daemon(Options::default());
    desk.write_config("[keepalive]\ninterval = \"300ms\"\ntimeout = \"1s\"\n");
    desk.start_daemon();
    let url = desk.open(&["sushi"]);
    let act = |action| {
        desk.sandbox
            .block_on(desk.sandbox.faults().bastion(action))
            .unwrap()
    };
    act(BastionAction::Freeze);
    let client = desk
        .run("psql")
        .args(&["-XAtqc", "select 'served'", &url])
        .start();
    desk.wait_for("sushi", |session| session.state() == State::Reconnecting);
    act(BastionAction::Thaw);
    let served = client.wait_with_output().unwrap();
    assert!(served.status.success(), "{served:?}");
    assert_eq!(served.stdout, b"served\n");
    desk.leave();
}

#[test]
fn whoever_ends_it_nothing_stays() {
    let mut desk = Desk::new();
    for (signal, code) in [
        (Signal::INT, Some(0)),
        (Signal::TERM, None),
        (Signal::KILL, None),
    ] {
        let (child, _) = tunnel(&desk, &["sushi", "-w"]);
        assert_eq!(end(child, signal), code, "{signal:?}");
        desk.daemon().wait_until_gone("sushi-rw", &desk.sandbox);
    }
    // The daemon too: its sockets go, and with `leave` its grants.
    desk.open(&["sushi"]);
    let sockets = [
        desk.socket_dir("sushi").join(".s.PGSQL.5432"),
        desk.daemon().socket().to_path_buf(),
    ];
    assert!(sockets.iter().all(|socket| socket.exists()));
    assert_eq!(desk.stop_daemon(), Some(0));
    assert!(!sockets.iter().any(|socket| socket.exists()));
    desk.leave();
}

/// With Nagle's algorithm somewhere on the way each takes 44 ms; a busy machine takes less.
#[test]
fn a_round_trip_waits_for_nobody() {
    let desk = Desk::quiet(Options::default());
    let url = desk.open(&["sushi"]);
    let median = desk.sandbox.block_on(async {
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
    desk.leave();
}

/// The provider's passwords have characters in them that mean something in a URL.
#[test]
fn urls_are_percent_encoded() {
    let desk = Desk::new();
    desk.open(&["sushi", "--passthrough"]);
    for _ in 0..50 {
        let shown = desk.json(&["show", "sushi", "--reveal"]);
        let (password, url) = (
            shown["password"].as_str().unwrap(),
            shown["url"].as_str().unwrap(),
        );
        if password.contains(['@', '/', ':', '%', '#', '?']) {
            assert!(!url.contains(password), "{url}");
            assert_eq!(url.matches('@').count(), 1, "{url}");
            assert_eq!(desk.query(url, "select 1"), "1");
            let env = desk.ctl_ok(&["env", "sushi"]);
            let script = format!("{env}\npsql -XAtqc 'select 2' \"$DATABASE_URL\"");
            assert_eq!(
                desk.run("sh")
                    .args(&["-c", &script])
                    .outcome()
                    .expect_success(),
                "2"
            );
            return desk.leave();
        }
        desk.ctl_ok(&["rotate", "sushi"]);
    }
    panic!("no such password in 50");
}
