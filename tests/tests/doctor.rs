//! `doctor`, `events`, `metrics`, `status`, from end to end: what is said of each layer that
//! is broken on purpose.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that meets the unexpected has failed"
)]

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
};

use borealis_tests::{
    harness::{TestMachine, eventually},
    sandbox::{Action, BastionAction, Fault, Options, PostgresAction},
};
use serde_json::Value;

/// The doctor's checks and exit code.
fn doctor(machine: &TestMachine, args: &[&str]) -> (Vec<Value>, Option<i32>) {
    let ran = machine.ctl(&[&["doctor", "-f", "json"], args].concat());
    let checks = serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{ran:?}"));
    (checks, ran.code)
}

/// The check of this id about this subject.
#[track_caller]
fn check<'a>(checks: &'a [Value], subject: &str, id: &str) -> &'a Value {
    let is_it = |check: &&Value| {
        check["id"] == id && check["subject"].as_str().unwrap_or_default() == subject
    };
    checks
        .iter()
        .find(is_it)
        .unwrap_or_else(|| panic!("no {id} of {subject:?} in {checks:#?}"))
}

#[track_caller]
fn assert_check(checks: &[Value], subject: &str, id: &str, outcome: &str, words: &str) {
    let check = check(checks, subject, id);
    assert_eq!(check["outcome"], outcome, "{check}");
    assert!(check["found"].as_str().unwrap().contains(words), "{check}");
    let needs_hint = outcome == "fail";
    assert!(!needs_hint || check["hint"].is_string(), "{check}");
}

const LAYERS: [&str; 11] = [
    "session",
    "addon",
    "addon-state",
    "credentials",
    "dns",
    "bastion",
    "host-key",
    "ssh",
    "channel",
    "tls",
    "database",
];

#[test]
fn everything_is_as_it_should_be() {
    let machine = TestMachine::new();
    machine.open(&["sushi"]);
    let issued = machine.sandbox.stats();
    let (checks, code) = doctor(&machine, &[]);
    for id in [
        "daemon",
        "versions",
        "socket",
        "config",
        "state",
        "ports",
        "token",
        "heroku-api",
        "clock",
    ] {
        assert_eq!(check(&checks, "", id)["outcome"], "ok", "{id}: {checks:#?}");
    }
    for id in LAYERS {
        assert_eq!(
            check(&checks, "sushi", id)["outcome"],
            "ok",
            "{id}: {checks:#?}"
        );
    }
    assert_eq!(code, Some(0));
    let (checks, code) = doctor(&machine, &["ramen::BOREALIS_PG_NAVY"]);
    assert_check(
        &checks,
        "ramen::BOREALIS_PG_NAVY",
        "database",
        "ok",
        "logged in as",
    );
    assert_eq!(code, Some(0));

    // Of the open session nothing was asked for anew.
    let asked =
        |stats: &borealis_tests::sandbox::Stats| stats.addons["borealis-pg-hex-12345"].clone();
    assert_eq!(
        format!("{:?}", asked(&issued)),
        format!("{:?}", asked(&machine.sandbox.stats()))
    );
    let text = machine.ctl_ok(&["doctor"]);
    assert!(text.ends_with("Everything is as it should be."), "{text}");
    machine.leave();
}

#[test]
fn without_a_daemon_what_can_be_checked_is() {
    let machine = TestMachine::without_daemon(Options::default());
    machine.write_bare_config("port_rnage = \"15432-15531\"\n");
    let (checks, code) = doctor(&machine, &[]);
    assert_eq!(code, Some(1));
    assert_check(&checks, "", "daemon", "fail", "not running");
    assert_check(&checks, "", "config", "fail", "port_rnage");
    assert_check(&checks, "", "config", "fail", "config.toml:1");
    let ran = machine
        .run(machine.binary("borealisd"))
        .args(&["--check-config"])
        .outcome();
    ran.expect_failure(2, &["port_rnage"]);
    machine.leave();
}

#[test]
fn a_config_and_a_token_that_went_wrong_meanwhile() {
    let mut machine = TestMachine::without_daemon(Options::default());
    machine.unset("HEROKU_API_KEY");
    machine.start_daemon();
    machine.write_config("max_connections = \"many\"\n");
    let (checks, code) = doctor(&machine, &["sushi"]);
    assert_eq!(code, Some(1));
    assert_check(&checks, "", "config", "fail", "max_connections");
    assert_check(
        &checks,
        "",
        "token",
        "fail",
        "no Heroku API token was found",
    );
    assert_check(&checks, "", "heroku-api", "fail", "not logged in");
    assert_check(&checks, "sushi", "addon", "fail", "not logged in");
    assert_check(
        &checks,
        "sushi",
        "database",
        "skipped",
        "the add-on is not known",
    );
    let token = machine.sandbox.token();
    let ran = machine
        .run(machine.binary("borealisctl"))
        .args(&["doctor", "-f", "json"])
        .env("HEROKU_API_KEY", &token)
        .outcome();
    let checks: Vec<Value> = serde_json::from_str(&ran.stdout).unwrap();
    assert_check(
        &checks,
        "",
        "environment",
        "warn",
        "set in this shell, but not in borealisd's",
    );
    assert!(!ran.stdout.contains(&token));
    machine.leave();
}

#[test]
fn each_layer_of_the_way() {
    let machine = TestMachine::new();
    machine.open(&["sushi"]);
    let faults = machine.sandbox.faults();
    let bastion = |action| machine.sandbox.block_on(faults.bastion(action)).unwrap();
    let postgres = |action| machine.sandbox.block_on(faults.postgres(action)).unwrap();
    let expect = |id: &str, words: &str| {
        let (checks, code) = doctor(&machine, &["sushi"]);
        assert_eq!(code, Some(1), "{checks:#?}");
        assert_check(&checks, "sushi", id, "fail", words);
        let failed = LAYERS.iter().position(|layer| *layer == id).unwrap();
        for later in &LAYERS[failed + 1..] {
            assert_eq!(
                check(&checks, "sushi", later)["outcome"],
                "skipped",
                "{checks:#?}"
            );
        }
    };

    bastion(BastionAction::Stop);
    expect("bastion", "refused");
    bastion(BastionAction::Start);
    bastion(BastionAction::ChangeHostKey);
    expect("host-key", "is not the one that the add-on's API gave");
    bastion(BastionAction::RestoreHostKey);
    bastion(BastionAction::RefuseKeys);
    expect("ssh", "refused the personal SSH key");
    bastion(BastionAction::AcceptKeys);
    postgres(PostgresAction::Stop);
    expect("channel", "can't reach the database server");
    postgres(PostgresAction::Start);

    let heroku = faults.add(Fault::on("/account", Action::Drop));
    let (checks, _) = doctor(&machine, &[]);
    assert_check(&checks, "", "heroku-api", "fail", "Heroku API");
    assert!(faults.remove(heroku));
    let (checks, _) = doctor(&machine, &["wasabi"]);
    assert_check(&checks, "wasabi", "credentials", "fail", "revoked");
    machine.leave();
}

/// Where things are, and how to change them.
#[test]
fn the_config_is_found_and_changed_only_to_what_the_daemon_takes() {
    let machine = TestMachine::new();
    machine.open(&["sushi"]);
    let file = machine.path("config/borealis/config.toml");
    let shown = file.display().to_string();
    assert_eq!(machine.ctl_ok(&["config", "path"]), shown);
    assert_eq!(machine.json(&["config", "path"])["config_file"], shown);
    let status = machine.ctl_ok(&["status"]);
    let log = machine.path("daemon.log").display().to_string();
    assert!(status.contains(&format!("Log          {log}")), "{status}");

    let before = std::fs::read_to_string(&file).unwrap();
    let edit = |editor: &str| {
        let ctl = machine.run(machine.binary("borealisctl"));
        ctl.args(&["config", "edit"])
            .env("EDITOR", editor)
            .outcome()
    };
    // A mistake is told with its line, and the file stays what it was.
    let wrong = edit("sh -c 'echo max_connection = 5 >>\"$1\"' sh");
    wrong.expect_failure(
        1,
        &[
            &format!("{shown}:2:1"),
            "max_connections",
            "nothing was changed",
        ],
    );
    assert_eq!(std::fs::read_to_string(&file).unwrap(), before);
    edit("true").expect_success();
    edit("false").expect_failure(1, &["the editor (false) failed"]);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), before);

    // What it takes is in force at once. VISUAL goes before EDITOR.
    let declared = "[[session]]\ntarget = \"ramen::BOREALIS_PG_NAVY\"\n";
    std::fs::write(machine.path("more"), declared).unwrap();
    let more = machine.path("more").display().to_string();
    let editor = format!("sh -c 'cat {more} >>\"$1\"' sh");
    let ctl = machine.run(machine.binary("borealisctl"));
    let edited = ctl
        .args(&["config", "edit"])
        .env("EDITOR", "false")
        .env("VISUAL", &editor);
    let said = edited.outcome().expect_success();
    assert_eq!(
        said,
        format!("changed {shown}\nopened ramen.borealis_pg_navy")
    );
    assert_eq!(std::fs::read_to_string(&file).unwrap(), before + declared);
    let left = std::fs::read_dir(file.parent().unwrap()).unwrap().count();
    assert_eq!(left, 1, "a draft is left behind");
    machine.leave();
}

/// `| head -1`: nothing more is printed, so only its reader's end can end it.
#[test]
fn what_is_followed_ends_with_its_reader() {
    let machine = TestMachine::new();
    machine.open(&["sushi"]);
    let ctl = machine.binary("borealisctl").display().to_string();
    for command in ["events --follow", "events --follow -f json", "list --watch"] {
        let line = format!("{ctl} {command} | head -1");
        let ran = machine.run("sh").args(&["-c", &line]).outcome();
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
        assert_eq!(ran.stdout.lines().count(), 1, "{ran:?}");
    }
    machine.leave();
}

#[test]
fn a_port_that_is_somebody_else_s() {
    let mut machine = TestMachine::new();
    let opened = machine.json(&["open", "sushi"]);
    let port = u16::try_from(opened["port"].as_u64().unwrap()).unwrap();
    assert_eq!(machine.stop_daemon(), Some(0));
    let _holder = TcpListener::bind(("127.0.0.1", port)).unwrap();
    machine.start_daemon();
    let (checks, code) = doctor(&machine, &[]);
    assert_eq!(code, Some(1));
    assert_check(
        &checks,
        "sushi",
        "ports",
        "fail",
        &format!("port {port} is in use by doctor"),
    );
    let events = machine.json(&["events", "sushi"]);
    let kinds: Vec<_> = kinds(&events);
    assert!(kinds.contains(&"port-taken"), "{events}");
    machine.leave();
}

fn kinds(events: &Value) -> Vec<&str> {
    let all = events.as_array().unwrap();
    all.iter()
        .map(|event| event["kind"].as_str().unwrap())
        .collect()
}

#[test]
fn events_tell_what_happened() {
    let machine = TestMachine::new();
    let mut following = machine
        .run(machine.binary("borealisctl"))
        .args(&["events", "--follow", "-f", "json"])
        .start();
    let mut lines = BufReader::new(following.stdout.take().unwrap()).lines();
    let mut until = |kind: &str| {
        loop {
            let event: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
            if event["kind"] == kind {
                return event;
            }
        }
    };
    assert_eq!(until("daemon-started")["session"], Value::Null);
    machine.ctl(&["open", "nope"]).expect_failure(5, &[]);
    assert_eq!(until("request-refused")["code"], "target-not-found");
    machine.open(&["sushi"]);
    until("session-opened");
    assert_eq!(until("session-up")["session"], "sushi");
    machine.ctl_ok(&["rotate", "sushi"]);
    assert!(
        until("credential-rotated")["message"]
            .as_str()
            .unwrap()
            .contains("generation 2")
    );
    let cut = machine.sandbox.faults().bastion(BastionAction::Cut);
    machine.sandbox.block_on(cut).unwrap();
    assert_eq!(until("tunnel-lost")["code"], "tunnel-lost");
    until("session-up");
    machine.write_config("nonsense = 1\n");
    machine.ctl(&["reload"]).expect_failure(1, &["nonsense"]);
    assert_eq!(until("config-refused")["code"], "config-invalid");
    machine.write_config("");
    machine.ctl_ok(&["reload"]);
    until("reloaded");
    machine.ctl_ok(&["close", "sushi"]);
    assert_eq!(until("session-closed")["session"], "sushi");
    following.kill().unwrap();
    following.wait().unwrap();

    let events = machine.json(&["events"]);
    let numbers: Vec<_> = events
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["sequence"].as_u64().unwrap())
        .collect();
    assert!(numbers.is_sorted() && numbers[0] == 1, "{numbers:?}");
    let of_sushi = machine.json(&["events", "sushi"]);
    assert_eq!(kinds(&of_sushi).first(), Some(&"session-opened"));
    assert!(machine.ctl_ok(&["events"]).contains("sushi  closed"));
    machine.leave();
}

/// The value of the sample that begins like this.
#[track_caller]
fn sample(text: &str, name: &str) -> u64 {
    let line = text.lines().find(|line| line.starts_with(name));
    let value = line.and_then(|line| line.rsplit(' ').next());
    value
        .and_then(|value| value.parse().ok())
        .unwrap_or_else(|| panic!("no {name} in {text}"))
}

#[test]
fn metrics_count() {
    let machine = TestMachine::new();
    let url = machine.open(&["sushi"]);
    assert_eq!(machine.query(&url, "select 1"), "1");
    machine.ctl_ok(&["rotate", "sushi"]);
    let text = machine.ctl_ok(&["metrics"]);
    for (name, value) in [
        ("borealis_sessions{state=\"up\"}", 1),
        ("borealis_session_up{session=\"sushi\"}", 1),
        ("borealis_session_connections_total{session=\"sushi\"}", 1),
        (
            "borealis_session_attempts_total{session=\"sushi\",outcome=\"succeeded\"}",
            1,
        ),
        (
            "borealis_credentials_total{kind=\"database\",outcome=\"succeeded\"}",
            2,
        ),
    ] {
        assert_eq!(sample(&text, name), value, "{name}\n{text}");
    }
    assert!(
        sample(
            &text,
            "borealis_session_received_bytes_total{session=\"sushi\"}"
        ) > 0
    );
    assert!(sample(&text, "borealis_session_tunnels{session=\"sushi\"}") >= 1);
    assert!(
        sample(
            &text,
            "borealis_provider_calls_total{api=\"heroku\",status=\"201\"}"
        ) >= 1
    );
    for secret in machine.sandbox.secrets() {
        assert!(
            !text.contains(&secret.value),
            "a {} is in the metrics",
            secret.kind
        );
    }
    let json = machine.json(&["metrics"]);
    assert!(json.as_array().unwrap().len() > 20);
    machine.leave();
}

#[test]
fn metrics_are_served_where_the_config_says() {
    let mut machine = TestMachine::without_daemon(Options::default());
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    machine.write_config(&format!("metrics_listen = \"{free}\"\n"));
    machine.start_daemon();
    let mut stream = eventually(|| TcpStream::connect(free).map_err(|error| error.to_string()));
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(sample(&answer, "borealis_sessions{state=\"up\"}"), 0);
    machine.write_config("");
    machine.ctl_ok(&["reload"]);
    eventually(|| match TcpStream::connect(free) {
        Ok(_) => Err("it is still served".to_owned()),
        Err(_) => Ok(()),
    });
    machine.leave();
}
