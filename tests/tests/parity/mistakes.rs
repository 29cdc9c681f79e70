//! What a new user does wrong, and what is then printed: texts in `mistakes/`, read as somebody
//! who has only them. Each says what failed, for what, and what to type next.

use std::{net::TcpListener, process};

use borealis_tests::{
    harness::{Desk, Outcome},
    sandbox::Options,
};

use crate::texts;

/// Keeps what was printed under a name; what differs from run to run gets a word in capitals.
#[track_caller]
fn keep(desk: &Desk, name: &str, typed: &str, printed: &Outcome, words: &[(&str, &str)]) {
    let code = printed.code.expect("an exit code");
    let mut text = format!(
        "$ {typed}\n{}{}[exit code {code}]\n",
        printed.stdout, printed.stderr
    );
    for (from, to) in words {
        text = text.replace(from, to);
    }
    text = text.replace(desk.path("").to_str().unwrap(), "HOME/");
    texts::compare(&format!("mistakes/{name}.txt"), &text);
}

/// Types a command line whose words have no spaces in them.
#[track_caller]
fn type_in(desk: &Desk, name: &str, words: &[&str]) {
    let typed = format!("borealisctl {}", words.join(" "));
    keep(desk, name, &typed, &desk.ctl(words), &[]);
}

#[test]
fn at_the_provider() {
    let mut desk = Desk::new();
    type_in(&desk, "wrong-app", &["open", "suhsi"]);
    type_in(&desk, "wrong-app-named", &["open", "--app", "suhsi"]);
    type_in(&desk, "several-add-ons", &["open", "ramen"]);
    type_in(&desk, "no-add-on", &["open", "udon"]);
    type_in(&desk, "no-target", &["open"]);
    type_in(&desk, "add-on-not-ready", &["open", "tempura"]);
    type_in(&desk, "add-on-upgrading", &["open", "miso"]);
    type_in(&desk, "access-revoked", &["open", "wasabi"]);
    desk.sandbox.faults().revoke_token();
    type_in(&desk, "expired-token", &["open", "sushi"]);
    desk.sandbox.faults().restore_token();
    assert_eq!(desk.stop_daemon(), Some(0));
    desk.unset("HEROKU_API_KEY");
    desk.start_daemon();
    type_in(&desk, "not-logged-in", &["open", "sushi"]);
    desk.leave();
}

#[test]
fn at_the_session() {
    let desk = Desk::new();
    let squatter = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = squatter.local_addr().unwrap().port().to_string();
    let refused = desk.ctl(&["open", "sushi", "--port", &port]);
    let (_, holder) = refused
        .stderr
        .split_once(" is in use by ")
        .expect("a holder");
    let holder = holder.lines().next().unwrap().to_owned();
    assert!(holder.contains(&process::id().to_string()), "{holder}");
    let words = [(port.as_str(), "PORT"), (&holder, "PROGRAM (PID)")];
    keep(
        &desk,
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
        let refused = desk.ctl(&[&["run", "sushi"], flags, &["-d", insert]].concat());
        let flags: String = flags.iter().map(|flag| format!("{flag} ")).collect();
        let typed = format!("borealisctl run sushi {flags}-d '{insert}'");
        keep(&desk, name, &typed, &refused, &[]);
    }
    let url = desk.open(&["sushi"]);
    keep(
        &desk,
        "read-only-insert-with-psql",
        "psql \"$(borealisctl url sushi)\" -c 'insert …'",
        &desk.psql(&url, insert),
        &[],
    );
    let wrong = url.replacen(url.split([':', '@']).nth(2).unwrap(), "guess", 1);
    let port = url.rsplit(['/', ':']).nth(1).unwrap().to_owned();
    keep(
        &desk,
        "wrong-password",
        "psql postgres://sushi:guess@127.0.0.1:PORT/",
        &desk.psql(&wrong, "select 1"),
        &[(&port, "PORT")],
    );
    type_in(&desk, "no-such-session", &["url", "sushi-rw"]);
    type_in(&desk, "typo-in-a-command", &["opne", "sushi"]);
    type_in(
        &desk,
        "typo-in-a-flag",
        &["open", "sushi", "--wirte-access"],
    );

    let nowhere = desk
        .run(desk.binary("borealisctl"))
        .args(&["psql", "sushi"]);
    keep(
        &desk,
        "no-psql",
        "borealisctl psql sushi",
        &nowhere.env("PATH", "/nowhere").outcome(),
        &[],
    );
    desk.leave();
}

#[test]
fn at_the_daemon() {
    let desk = Desk::without_daemon(Options::default());
    type_in(&desk, "no-daemon", &["open", "sushi"]);
    type_in(
        &desk,
        "wrong-socket",
        &["--socket", "/run/nobody/borealis.sock", "list"],
    );
    let daemon = |desk: &Desk| desk.run(desk.binary("borealisd")).outcome();
    for (name, config) in [
        ("typo-in-a-key", "conect_timeout = \"30s\"\n"),
        ("typo-in-a-value", "connect_timeout = \"soon\"\n"),
        ("typo-in-the-syntax", "connect_timeout = 30s\n"),
        (
            "typo-in-a-session",
            "[[session]]\ntarget = \"sushi\"\nacces = \"read-only\"\n",
        ),
    ] {
        desk.write_config(config);
        keep(&desk, name, "borealisd", &daemon(&desk), &[]);
    }
    desk.write_config("");
    let mut desk = desk;
    desk.start_daemon();
    let pid = desk.daemon().pid().to_string();
    keep(
        &desk,
        "second-daemon",
        "borealisd",
        &daemon(&desk),
        &[(&pid, "PID")],
    );
    desk.write_config("upstream_tls = \"always\"\n");
    type_in(&desk, "typo-before-a-reload", &["reload"]);
    desk.leave();
}
