//! `psql` and `run` with a command: environment, streams, signals and exit codes.

use std::{os::unix::fs::PermissionsExt as _, process::Stdio};

use borealis_proto::v1;
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::Child,
};

use crate::daemon::{Canned, Daemon, Ran, sushi};

fn send(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id().unwrap()).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

/// Waits for the child's first line.
async fn first_line(child: &mut Child) -> String {
    let mut line = String::new();
    let stdout = child.stdout.as_mut().unwrap();
    BufReader::new(stdout).read_line(&mut line).await.unwrap();
    line
}

#[tokio::test]
async fn output_arrives_whole_and_unchanged() {
    let daemon = Daemon::start(Canned::with(sushi()));
    let ran = daemon.run(&["run", "sushi", "-e", "seq 1 200000"]).await;
    let expected: String = (1..=200_000).map(|n| format!("{n}\n")).collect();
    assert!(ran.stdout == expected && ran.code == Some(0));

    let bytes = daemon
        .command(&[
            "run",
            "sushi",
            "-e",
            r"printf '\377\000no end'; printf '\376' >&2",
        ])
        .output()
        .await
        .unwrap();
    assert_eq!(bytes.stdout, b"\xff\0no end");
    assert_eq!(bytes.stderr, b"\xfe");
}

#[tokio::test]
async fn exit_codes_are_the_commands() {
    let daemon = Daemon::start(Canned::with(sushi()));
    for (command, code) in [
        ("exit 7", 7),
        ("kill -9 $$", 137),
        ("kill -TERM $$", 143),
        ("true", 0),
    ] {
        daemon
            .run(&["run", "sushi", "-e", command])
            .await
            .assert(code, "", "");
    }
    daemon
        .run(&["run", "sushi", "--", "false"])
        .await
        .assert(1, "", "");
    daemon
        .run(&["run", "sushi", "--", "no-such-command"])
        .await
        .assert(
            127,
            "",
            "error: can't run no-such-command: no such file or directory\n",
        );
}

#[tokio::test]
async fn commands_find_the_database_in_their_environment() {
    let daemon = Daemon::start(Canned::with(sushi()));
    let variables = "echo $PGHOST $PGPORT $PGDATABASE $PGUSER $PGPASSWORD $DATABASE_URL $PGSERVICE $PGSSLMODE $PGAPPNAME";
    let mut command = daemon.command(&["run", "sushi", "-e", variables]);
    command
        .env("PGSERVICE", "elsewhere")
        .env("PGSSLMODE", "require")
        .env("PGAPPNAME", "mine");
    Ran::of(command.output().await.unwrap()).assert(
        0,
        "127.0.0.1 15432 d4f0 sushi s3cret word postgresql://sushi:s3cret%20word@127.0.0.1:15432/d4f0 mine\n",
        "",
    );
    daemon
        .run(&["run", "sushi", "--", "printf", "<%s>", "a b", "$HOME"])
        .await
        .assert(0, "<a b><$HOME>", "");
}

#[tokio::test]
async fn standard_input_is_closed_unless_asked_for() {
    let daemon = Daemon::start(Canned::with(sushi()));
    for (words, expected) in [
        (&["run", "sushi", "-e", "cat"][..], ""),
        (&["run", "sushi", "--stdin", "-e", "cat"], "given"),
    ] {
        let mut child = daemon.command(words).stdin(Stdio::piped()).spawn().unwrap();
        // A child that doesn't read may have ended by now.
        let _ = child.stdin.take().unwrap().write_all(b"given").await;
        Ran::of(child.wait_with_output().await.unwrap()).assert(0, expected, "");
    }
}

#[tokio::test]
async fn run_asks_for_the_apps_user_and_psql_for_the_personal_one() {
    let daemon = Daemon::start(Canned::with(sushi()));
    daemon.run(&["run", "sushi", "-e", "true"]).await;
    daemon
        .run(&["run", "sushi", "-u", "-w", "-p", "5433", "-e", "true"])
        .await;
    daemon
        .run(&["psql", "sushi", "-w", "-b", "/bin/true"])
        .await;
    let asked: Vec<_> = daemon
        .asked()
        .hold
        .iter()
        .map(|request| (request.role(), request.access(), request.port))
        .collect();
    assert_eq!(
        asked,
        [
            (v1::Role::App, v1::Access::ReadOnly, 0),
            (v1::Role::Personal, v1::Access::ReadWrite, 5433),
            (v1::Role::Unspecified, v1::Access::ReadWrite, 0),
        ]
    );
}

#[tokio::test]
async fn the_session_is_held_as_long_as_the_command_runs() {
    let mut daemon = Daemon::start(Canned::with(sushi()));
    let mut child = daemon
        .command(&["run", "sushi", "--stdin", "-e", "echo ready; cat"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    assert_eq!(first_line(&mut child).await, "ready\n");
    assert_eq!(*daemon.held.borrow(), 1);
    drop(child.stdin.take());
    assert!(child.wait().await.unwrap().success());
    daemon.held.wait_for(|held| *held == 0).await.unwrap();
}

#[tokio::test]
async fn the_end_of_the_session_is_told() {
    let daemon = Daemon::start(Canned::with(sushi()));
    let mut child = daemon
        .command(&["run", "sushi", "--stdin", "-e", "echo ready; cat; exit 3"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    assert_eq!(first_line(&mut child).await, "ready\n");
    daemon.end_sessions();
    let mut warning = String::new();
    let stderr = child.stderr.as_mut().unwrap();
    BufReader::new(stderr)
        .read_line(&mut warning)
        .await
        .unwrap();
    assert_eq!(
        warning,
        "warning: the session ended while the command runs: the session was closed\n"
    );
    drop(child.stdin.take());
    assert_eq!(child.wait().await.unwrap().code(), Some(3));
}

#[tokio::test]
async fn signals_reach_the_command_once() {
    let daemon = Daemon::start(Canned::with(sushi()));
    let script =
        "trap 'exit 42' TERM; trap 'exit 43' HUP; echo ready; while :; do sleep 0.05; done";
    for (signal, code) in [(Signal::TERM, 42), (Signal::HUP, 43)] {
        let mut child = daemon
            .command(&["run", "sushi", "-e", script])
            .spawn()
            .unwrap();
        first_line(&mut child).await;
        send(&child, signal);
        assert_eq!(child.wait().await.unwrap().code(), Some(code));
    }
    // The terminal's Ctrl-C and Ctrl-\ reach the command by themselves: borealisctl goes on.
    let mut child = daemon
        .command(&["run", "sushi", "--stdin", "-e", "echo ready; cat; exit 5"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    first_line(&mut child).await;
    send(&child, Signal::INT);
    send(&child, Signal::QUIT);
    drop(child.stdin.take());
    assert_eq!(child.wait().await.unwrap().code(), Some(5));
}

#[tokio::test]
async fn psql_gets_its_arguments_and_no_password_among_them() {
    let daemon = Daemon::start(Canned::with(sushi()));
    let home = tempfile::tempdir().unwrap();
    let psql = home.path().join("psql");
    std::fs::write(
        &psql,
        "#!/bin/sh\necho \"$# $1 $2 $PGHOST $PGPORT ${PGPASSWORD-none} ${DATABASE_URL-none}\"\nexit 9\n",
    )
    .unwrap();
    std::fs::set_permissions(&psql, std::fs::Permissions::from_mode(0o755)).unwrap();
    let psql = psql.to_str().unwrap();
    daemon
        .run(&["psql", "sushi", "-b", psql, "--", "-c", "select 1"])
        .await
        .assert(
            9,
            "2 -c select 1 /run/user/1000/borealis/pg/sushi 5432 none none\n",
            "",
        );
}

#[tokio::test]
async fn a_missing_psql_is_noticed_before_a_session_is_opened() {
    let daemon = Daemon::start(Canned::with(sushi()));
    let mut command = daemon.command(&["psql", "sushi"]);
    command.env("PATH", "/nowhere");
    Ran::of(command.output().await.unwrap()).assert(
        1,
        "",
        "error: psql is not installed, or not on the PATH\n\
         hint: install PostgreSQL's client (such as apt install postgresql-client), or name it with --binary-path\n",
    );
    daemon
        .run(&["psql", "sushi", "-b", "/nowhere/psql"])
        .await
        .assert(
            1,
            "",
            "error: there is no psql at /nowhere/psql\nhint: check --binary-path\n",
        );
    assert!(daemon.asked().hold.is_empty());
}
