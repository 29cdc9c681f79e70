//! What happened is known after a restart, however the daemon ended.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    sync::{Arc, mpsc},
    thread,
    time::SystemTime,
};

use borealis_proto::v1::{ReloadRequest, daemon_service_client::DaemonServiceClient};
use borealis_tests::harness::{PATIENCE, TestMachine, eventually};
use serde_json::Value;

fn events(machine: &TestMachine, args: &[&str]) -> Vec<Value> {
    let events = machine.json(&[&["events"], args].concat());
    events.as_array().unwrap().clone()
}

fn kinds(events: &[Value]) -> Vec<&str> {
    let kinds = events.iter().map(|event| event["kind"].as_str().unwrap());
    kinds.collect()
}

fn sequence(event: &Value) -> u64 {
    event["sequence"].as_u64().unwrap()
}

#[track_caller]
fn assert_grows(events: &[Value]) {
    let sequences: Vec<_> = events.iter().map(sequence).collect();
    assert!(
        sequences.is_sorted_by(|one, next| one < next),
        "{sequences:?}"
    );
}

#[test]
fn events_and_counts_are_there_after_a_restart() {
    let mut machine = TestMachine::new();
    let url = machine.open(&["sushi"]);
    let wrong = url.replacen("sushi:", "sushi:wrong-", 1);
    for _ in 0..3 {
        assert_ne!(machine.psql(&wrong, "select 1").code, Some(0));
    }
    let before = events(&machine, &[]);
    let refused = before
        .iter()
        .find(|event| event["kind"] == "password-refused");
    // psql tries with TLS and without.
    let count = refused.unwrap()["count"].as_u64().unwrap();
    assert!(count >= 3, "{before:#?}");

    assert_eq!(machine.stop_daemon(), Some(0));
    let file = machine.path("state/borealis/events.jsonl");
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    machine.start_daemon();
    machine.wait_for("sushi", |session| session.state == 2);

    let after = events(&machine, &[]);
    assert_eq!(after[..before.len()], before);
    assert_grows(&after);
    let since = kinds(&after[before.len()..]);
    assert!(since.starts_with(&["daemon-stopping"]), "{since:?}");
    assert!(since.contains(&"daemon-started"), "{since:?}");
    let text = machine.ctl_ok(&["events", "sushi"]);
    assert!(text.contains("refused a log-in"), "{text}");
    assert!(text.contains(&format!("({count} times)")), "{text}");
    machine.leave();
}

#[test]
fn since_names_a_time_and_follow_goes_on_from_there() {
    let mut machine = TestMachine::new();
    machine.open(&["sushi"]);
    assert_eq!(machine.stop_daemon(), Some(0));
    // Times are shown to the second: the next daemon starts in another.
    let second = || {
        jiff::Timestamp::try_from(SystemTime::now())
            .unwrap()
            .as_second()
    };
    let stopped = second();
    eventually(|| match second() > stopped {
        true => Ok(()),
        false => Err("the clock stands still".to_owned()),
    });
    machine.start_daemon();
    let all = events(&machine, &[]);
    let started = all
        .iter()
        .rposition(|event| event["kind"] == "daemon-started");
    let at = all[started.unwrap()]["at"].as_str().unwrap();
    let since = events(&machine, &["--since", at]);
    assert!(since.len() < all.len() && kinds(&since).contains(&"daemon-started"));
    assert!(
        since
            .iter()
            .all(|event| event["at"].as_str().unwrap() >= at)
    );
    for long_ago in ["1h", "yesterday", "2020-01-01T00:00:00Z"] {
        assert!(events(&machine, &["--since", long_ago]).len() >= all.len());
    }
    assert_eq!(
        events(&machine, &["--since", "2100-01-01"]),
        [] as [Value; 0]
    );
    machine
        .ctl(&["events", "--since", "soon"])
        .expect_failure(2, &["not a time like"]);

    let mut followed = machine
        .run(machine.binary("borealisctl"))
        .args(&["events", "--since", "1h", "--follow", "-f", "json"])
        .start();
    let (sender, lines) = mpsc::sync_channel(1000);
    let stdout = BufReader::new(followed.stdout.take().unwrap());
    thread::spawn(move || {
        for line in stdout.lines().map_while(Result::ok) {
            let event: Value = serde_json::from_str(&line).unwrap();
            if sender.send(event).is_err() {
                return;
            }
        }
    });
    let mut seen: Vec<Value> = Vec::new();
    while seen.len() < all.len() {
        seen.push(lines.recv_timeout(PATIENCE).unwrap());
    }
    assert_eq!(seen, all);
    machine.ctl_ok(&["reload"]);
    while seen.last().unwrap()["kind"] != "reloaded" {
        seen.push(lines.recv_timeout(PATIENCE).unwrap());
    }
    let numbers: Vec<_> = seen.iter().map(sequence).collect();
    let gapless: Vec<_> = (numbers[0]..).take(numbers.len()).collect();
    assert_eq!(numbers, gapless);
    followed.kill().unwrap();
    followed.wait().unwrap();
    machine.leave();
}

/// Also while the file is replaced, which happens every 500 events.
#[test]
fn a_daemon_that_is_killed_amid_a_storm_loses_nothing_that_was_written() {
    let mut machine = TestMachine::new();
    let file = machine.path("state/borealis/events.jsonl");
    let written = || -> Vec<Value> {
        let text = fs::read_to_string(&file).unwrap_or_default();
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let lines = text[..whole].lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    };
    let mut last = 0;
    for round in 1..=4 {
        let socket = machine.daemon().socket().to_owned();
        let sandbox = Arc::clone(&machine.sandbox);
        let storm = thread::spawn(move || {
            sandbox.block_on(async {
                let channel = borealis_proto::connect::connect(socket).await.unwrap();
                let mut daemon = DaemonServiceClient::new(channel);
                while daemon.reload(ReloadRequest {}).await.is_ok() {}
            });
        });
        // More each time, so that it is killed at another place.
        let goal = last + 250 + 170 * round;
        eventually(|| match written().last().map_or(0, sequence) {
            reached if reached >= goal => Ok(()),
            reached => Err(format!("{reached} of {goal} events")),
        });
        let before = written();
        machine.kill_daemon();
        storm.join().unwrap();
        machine.start_daemon();
        let after = events(&machine, &[]);
        assert_grows(&after);
        assert!(after.len() <= 500, "{}", after.len());
        let known: Vec<_> = after.iter().map(sequence).collect();
        // The oldest are forgotten, and nothing else.
        let expected = before
            .iter()
            .map(sequence)
            .filter(|number| *number >= known[0]);
        for number in expected {
            assert!(known.contains(&number), "event {number} is lost");
        }
        last = *known.last().unwrap();
        assert_eq!(after.last().unwrap()["kind"], "daemon-started");
    }
    let lines = fs::read_to_string(&file).unwrap().lines().count();
    assert!(lines <= 1000, "{lines} lines");
    machine.leave();
}

#[test]
fn what_is_wrong_in_the_file_costs_nothing_else() {
    let mut machine = TestMachine::new();
    machine.open(&["sushi"]);
    assert_eq!(machine.stop_daemon(), Some(0));
    let file = machine.path("state/borealis/events.jsonl");
    let whole = fs::read_to_string(&file).unwrap();
    let half = &whole[..whole.len() - 20];
    let evil = r#"{"sequence":900,"at":"2026-11-22T14:15:00Z","kind":"x\u001b[2J","message":"a\u001b]0;t\u0007\nb\u202e","later":true}"#;
    fs::write(&file, format!("{evil}\nnonsense\n{half}")).unwrap();
    machine.start_daemon();
    let after = events(&machine, &[]);
    let expected = whole.lines().count() - 1;
    assert_eq!(
        after.iter().filter(|event| sequence(event) < 900).count(),
        expected
    );
    // What another version knows is shown, and steers nothing.
    let text = machine.ctl_ok(&["events"]);
    let shown = text.lines().find(|line| line.contains("14:15:00")).unwrap();
    assert!(
        !shown.contains(['\u{1b}', '\u{7}', '\u{202e}']),
        "{shown:?}"
    );
    let place = after
        .iter()
        .position(|event| sequence(event) == 900)
        .unwrap();
    assert_eq!(
        sequence(&after[place + 1]),
        901,
        "numbers go on: {after:#?}"
    );
    machine.leave();
}
