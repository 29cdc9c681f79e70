//! What a new user does wrong, and what is then printed: texts in `mistakes/`, read as somebody
//! who has only them. Each says what failed, for what, and what to type next.

use std::{net::TcpListener, process};

use borealis_tests::{
    harness::{Outcome, TestMachine},
    sandbox::Options,
};

use crate::texts;

/// Keeps what was printed under a name; what differs from run to run gets a word in capitals.
#[track_caller]
fn keep(machine: &TestMachine, name: &str, typed: &str, printed: &Outcome, words: &[(&str, &str)]) {
    let code = printed.code.expect("an exit code");
    let mut text = format!(
        "$ {typed}\n{}{}[exit code {code}]\n",
        printed.stdout, printed.stderr
    );
    for (from, to) in words {
        text = text.replace(from, to);
    }
    text = text.replace(machine.path("").to_str().unwrap(), "HOME/");
    texts::compare(&format!("mistakes/{name}.txt"), &text);
}

/// Types a command line whose words have no spaces in them.
#[track_caller]
fn type_in(machine: &TestMachine, name: &str, words: &[&str]) {
    let typed = format!("borealisctl {}", words.join(" "));
    keep(machine, name, &typed, &machine.ctl(words), &[]);
}

#[test]
fn at_the_provider() {
    let mut machine = TestMachine::new();
    type_in(&machine, "wrong-app", &["open", "suhsi"]);
    type_in(&machine, "wrong-app-named", &["open", "--app", "suhsi"]);
    type_in(&machine, "several-add-ons", &["open", "ramen"]);
    type_in(&machine, "no-add-on", &["open", "udon"]);
    type_in(&machine, "no-target", &["open"]);
    type_in(&machine, "add-on-not-ready", &["open", "tempura"]);
    type_in(&machine, "add-on-upgrading", &["open", "miso"]);
    type_in(&machine, "access-revoked", &["open", "wasabi"]);
    machine.sandbox.faults().revoke_token();
    type_in(&machine, "expired-token", &["open", "sushi"]);
    machine.sandbox.faults().restore_token();
    assert_eq!(machine.stop_daemon(), Some(0));
    machine.unset("HEROKU_API_KEY");
    machine.start_daemon();
    type_in(&machine, "not-logged-in", &["open", "sushi"]);
    machine.leave();
}

#[test]
fn at_the_session() {
    let machine = TestMachine::new();
    let squatter = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = squatter.local_addr().unwrap().port().to_string();
    let refused = machine.ctl(&["open", "sushi", "--port", &port]);
    let (_, holder) = refused
        .stderr
        .split_once(" is in use by ")
        .expect("a holder");
    let holder = holder.lines().next().unwrap().to_owned();
    assert!(holder.contains(&process::id().to_string()), "{holder}");
    let words = [(port.as_str(), "PORT"), (&holder, "PROGRAM (PID)")];
    keep(
        &machine,
        "port-taken",
        "borealisctl open sushi --port PORT",
        &refused,
        &words,
    );

    let insert = "insert into orders default values";
    for (name, flags) in [
        ("read-only-insert", &["-u"][..]),
        ("read-only-insert-as-the-app", &[]),
    ] {
        let refused = machine.ctl(&[&["run", "sushi"], flags, &["-d", insert]].concat());
        let flags: String = flags.iter().map(|flag| format!("{flag} ")).collect();
        let typed = format!("borealisctl run sushi {flags}-d '{insert}'");
        keep(&machine, name, &typed, &refused, &[]);
    }
    let url = machine.open(&["sushi"]);
    keep(
        &machine,
        "read-only-insert-with-psql",
        "psql \"$(borealisctl url sushi)\" -c 'insert …'",
        &machine.psql(&url, insert),
        &[],
    );
    let wrong = url.replacen(url.split([':', '@']).nth(2).unwrap(), "guess", 1);
    let port = url.rsplit(['/', ':']).nth(1).unwrap().to_owned();
    keep(
        &machine,
        "wrong-password",
        "psql postgres://sushi:guess@127.0.0.1:PORT/",
        &machine.psql(&wrong, "select 1"),
        &[(&port, "PORT")],
    );
    type_in(&machine, "no-such-session", &["url", "sushi-rw"]);
    type_in(&machine, "typo-in-a-command", &["opne", "sushi"]);
    type_in(
        &machine,
        "typo-in-a-flag",
        &["open", "sushi", "--wirte-access"],
    );

    let nowhere = machine
        .run(machine.binary("borealisctl"))
        .args(&["psql", "sushi"]);
    keep(
        &machine,
        "no-psql",
        "borealisctl psql sushi",
        &nowhere.env("PATH", "/nowhere").outcome(),
        &[],
    );
    machine.leave();
}

#[test]
fn at_the_daemon() {
    let machine = TestMachine::without_daemon(Options::default());
    type_in(&machine, "no-daemon", &["open", "sushi"]);
    type_in(
        &machine,
        "wrong-socket",
        &["--socket", "/run/nobody/borealis.sock", "list"],
    );
    let daemon = |machine: &TestMachine| machine.run(machine.binary("borealisd")).outcome();
    for (name, config) in [
        ("typo-in-a-key", "conect_timeout = \"30s\"\n"),
        ("typo-in-a-value", "connect_timeout = \"soon\"\n"),
        ("typo-in-the-syntax", "connect_timeout = 30s\n"),
        (
            "typo-in-a-session",
            "[[session]]\ntarget = \"sushi\"\nacces = \"read-only\"\n",
        ),
    ] {
        machine.write_bare_config(config);
        keep(&machine, name, "borealisd", &daemon(&machine), &[]);
    }
    machine.write_config("");
    let mut machine = machine;
    machine.start_daemon();
    let pid = machine.daemon().pid().to_string();
    keep(
        &machine,
        "second-daemon",
        "borealisd",
        &daemon(&machine),
        &[(&pid, "PID")],
    );
    machine.write_bare_config("upstream_tls = \"always\"\n");
    type_in(&machine, "typo-before-a-reload", &["reload"]);
    machine.leave();
}
