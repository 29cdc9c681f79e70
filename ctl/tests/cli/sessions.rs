//! Commands about sessions and the daemon: what is asked, what is printed, exit codes.

use borealis_proto::v1;
use serde_json::json;
use tonic::Code;

use crate::daemon::{Canned, Daemon, Ran, sushi};

fn contract() -> serde_json::Value {
    json!({
        "name": "sushi", "app": "sushi", "addon": "borealis-pg-hex-12345", "attachment": "DATABASE",
        "role": "personal", "access": "read-only", "mode": "managed", "state": "up",
        "since": "2026-11-22T14:15:00Z", "host": "127.0.0.1", "port": 15432,
        "socket_dir": "/run/user/1000/borealis/pg/sushi", "database": "d4f0", "user": "sushi",
        "connections": {"active": 2, "total": 40}, "bytes": {"sent": 1, "received": 2},
        "credential": {"generation": 3, "issued_at": "2026-11-22T14:15:00Z", "rotates_at": "2026-11-22T22:15:00Z"},
        "expires_at": null, "next_attempt_at": null, "last_error": null
    })
}

fn contract_with_secrets() -> serde_json::Value {
    let mut session = contract();
    session["password"] = json!("s3cret word");
    session["url"] = json!("postgresql://sushi:s3cret%20word@127.0.0.1:15432/d4f0");
    session
}

fn trouble() -> v1::Failure {
    v1::Failure {
        code: "bastion-unreachable".into(),
        class: v1::FailureClass::Operation.into(),
        message: "the bastion b.example:22 can't be reached".into(),
        hint: "check the network".into(),
    }
}

#[tokio::test]
async fn json_is_the_contracts() {
    let daemon = Daemon::start(Canned::with(sushi()));
    assert_eq!(
        daemon.run(&["open", "sushi", "-f", "json"]).await.json(),
        contract_with_secrets()
    );
    assert_eq!(
        daemon.run(&["show", "sushi", "-f", "json"]).await.json(),
        contract()
    );
    assert_eq!(
        daemon
            .run(&["show", "sushi", "--reveal", "-f", "json"])
            .await
            .json(),
        contract_with_secrets()
    );
    assert_eq!(
        daemon.run(&["-f", "json", "ls"]).await.json(),
        json!([contract()])
    );
    assert_eq!(
        daemon.run(&["close", "sushi", "-f", "json"]).await.json(),
        json!([contract()])
    );
}

#[tokio::test]
async fn every_key_is_there_when_little_is_known() {
    let daemon = Daemon::start(Canned {
        secrets: v1::Secrets::default(),
        ..Canned::with(v1::Session {
            name: "sushi".into(),
            last_error: Some(trouble()),
            state: v1::State::Reconnecting.into(),
            ..v1::Session::default()
        })
    });
    let shown = daemon
        .run(&["show", "sushi", "--reveal", "-f", "json"])
        .await
        .json();
    let keys = |value: &serde_json::Value| -> Vec<String> {
        value.as_object().unwrap().keys().cloned().collect()
    };
    assert_eq!(keys(&shown), keys(&contract_with_secrets()));
    for null in [
        "database",
        "user",
        "credential",
        "expires_at",
        "since",
        "role",
        "password",
        "url",
    ] {
        assert_eq!(shown[null], json!(null), "{null}");
    }
    assert_eq!(
        shown["last_error"],
        "the bastion b.example:22 can't be reached"
    );
    assert_eq!(shown["connections"], json!({"active": 0, "total": 0}));
}

#[tokio::test]
async fn open_says_how_to_connect() {
    let daemon = Daemon::start(Canned::with(sushi()));
    daemon.run(&["open", "sushi"]).await.assert(
        0,
        "sushi is up: read-only, as your database user, on
borealis-pg-hex-12345 of app sushi

  psql      borealisctl psql sushi
  Socket    postgresql:///d4f0?host=/run/user/1000/borealis/pg/sushi&port=5432
  Host      127.0.0.1
  Port      15432
  Database  d4f0
  User      sushi
  Password  ******** (--reveal shows it)
  URL       postgresql://sushi:********@127.0.0.1:15432/d4f0
",
        "",
    );
    for words in [["open", "sushi", "--reveal"], ["show", "sushi", "--reveal"]] {
        let shown = daemon.run(&words).await.stdout;
        assert!(
            shown.contains("  Password  s3cret word\n")
                && shown.contains("postgresql://sushi:s3cret%20word@127.0.0.1:15432/d4f0\n"),
            "{shown}"
        );
    }
    let hidden = daemon.run(&["show", "sushi"]).await.stdout;
    assert!(!hidden.contains("s3cret"), "{hidden}");
    assert!(
        hidden.contains("postgresql://sushi:********@127.0.0.1:15432/d4f0"),
        "{hidden}"
    );
}

#[tokio::test]
async fn open_asks_for_what_the_flags_say() {
    let daemon = Daemon::start(Canned::with(sushi()));
    daemon.run(&["open", "sushi"]).await;
    daemon
        .run(&[
            "open",
            "--app",
            "ramen",
            "-o",
            "MAROON",
            "-w",
            "--for",
            "30m",
            "-p",
            "15500",
            "--name",
            "noodles",
            "--role",
            "app",
            "--passthrough",
            "--no-wait",
        ])
        .await;
    let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    let asked = daemon.asked().open;
    assert_eq!(
        asked[0],
        v1::OpenSessionRequest {
            target: Some(v1::Target {
                name: "sushi".into(),
                ..v1::Target::default()
            }),
            // What wasn't said is the daemon's to fill in: an open session is taken as it is.
            wait: seconds(60),
            ..v1::OpenSessionRequest::default()
        }
    );
    assert_eq!(
        asked[1],
        v1::OpenSessionRequest {
            target: Some(v1::Target {
                name: String::new(),
                app: "ramen".into(),
                addon: "MAROON".into(),
            }),
            access: v1::Access::ReadWrite.into(),
            role: v1::Role::App.into(),
            mode: v1::Mode::Passthrough.into(),
            port: 15500,
            name: "noodles".into(),
            grace: None,
            expires_in: seconds(1800),
            wait: None,
        }
    );
}

#[tokio::test]
async fn a_session_that_is_not_up_in_time_stays_and_says_why() {
    let session = v1::Session {
        state: v1::State::Reconnecting.into(),
        last_error: Some(trouble()),
        ..sushi()
    };
    let daemon = Daemon::start(Canned::with(session));
    let ran = daemon
        .run(&["open", "sushi", "--timeout", "5s", "-f", "json"])
        .await;
    let printed: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(printed["state"], "reconnecting");
    ran.assert(
        1,
        &ran.stdout,
        "error: sushi is not up after 5 s: the bastion b.example:22 can't be reached\n\
         hint: check the network; the session stays; `borealisctl show sushi` shows how it fares, \
         `borealisctl close sushi` ends it\n",
    );
    let ran = daemon.run(&["open", "sushi", "--no-wait"]).await;
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
}

#[tokio::test]
async fn the_daemons_failures_keep_message_hint_and_class() {
    for (class, code) in [
        (v1::FailureClass::Operation, 1),
        (v1::FailureClass::Usage, 2),
        (v1::FailureClass::Login, 4),
        (v1::FailureClass::NotFound, 5),
        (v1::FailureClass::Unavailable, 6),
    ] {
        let failure = v1::Failure {
            class: class.into(),
            ..trouble()
        };
        let daemon = Daemon::start(Canned::failing(Code::Unknown, failure));
        for words in [
            &["open", "sushi"][..],
            &["run", "sushi", "-e", "true"],
            &["url", "sushi"],
            &["list", "--watch"],
        ] {
            daemon.run(words).await.assert(
                code,
                "",
                "error: the bastion b.example:22 can't be reached\nhint: check the network\n",
            );
        }
    }
    let bare = Canned {
        failure: Some((Code::NotFound, None)),
        ..Canned::default()
    };
    Daemon::start(bare)
        .run(&["show", "x"])
        .await
        .assert(5, "", "error: said by gRPC\n");
}

#[tokio::test]
async fn lists_for_people() {
    let empty = Daemon::start(Canned::default());
    let hint = "no sessions are open; open one with `borealisctl open APP`\n";
    empty.run(&["list"]).await.assert(0, "", hint);
    empty.run(&["list", "--quiet"]).await.assert(0, "", "");
    empty
        .run(&["list", "-f", "json", "--quiet"])
        .await
        .assert(0, "[]\n", "");

    let failed = v1::Session {
        name: "ramen.borealis_pg_maroon-rw".into(),
        state: v1::State::Failed.into(),
        access: v1::Access::ReadWrite.into(),
        last_error: Some(trouble()),
        since: None,
        ..sushi()
    };
    let up = v1::Session {
        since: None,
        ..sushi()
    };
    let daemon = Daemon::start(Canned {
        sessions: vec![failed, up],
        ..Canned::default()
    });
    daemon.run(&["list"]).await.assert(
        0,
        "NAME                         STATE   ACCESS      ADDRESS          CONNS  SINCE
ramen.borealis_pg_maroon-rw  failed  read-write  127.0.0.1:15432  2             the bastion b.example:22 can't be reached
sushi                        up      read-only   127.0.0.1:15432  2
",
        "",
    );
}

#[tokio::test]
async fn csv_and_yaml() {
    let daemon = Daemon::start(Canned::with(sushi()));
    daemon.run(&["list", "-f", "csv"]).await.assert(
        0,
        "name,app,addon,attachment,role,access,mode,state,since,host,port,socket_dir,database,user,\
         connections_active,connections_total,bytes_sent,bytes_received,credential_generation,\
         credential_issued_at,credential_rotates_at,expires_at,next_attempt_at,last_error\n\
         sushi,sushi,borealis-pg-hex-12345,DATABASE,personal,read-only,managed,up,2026-11-22T14:15:00Z,\
         127.0.0.1,15432,/run/user/1000/borealis/pg/sushi,d4f0,sushi,2,40,1,2,3,\
         2026-11-22T14:15:00Z,2026-11-22T22:15:00Z,,,\n",
        "",
    );
    let yaml = daemon.run(&["list", "-f", "yaml"]).await.stdout;
    let read: serde_json::Value = serde_saphyr::from_str(&yaml).unwrap();
    assert_eq!(read, json!([contract()]), "{yaml}");
}

#[tokio::test]
async fn a_watch_prints_every_change_until_the_daemon_ends_it() {
    let daemon = Daemon::start(Canned::with(sushi()));
    let ran = daemon.run(&["list", "--watch", "-f", "json"]).await;
    let lines: Vec<serde_json::Value> = ran
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines, [json!([]), json!([contract()])]);
    assert_eq!(ran.code, Some(3));
}

#[tokio::test]
async fn urls_and_variables() {
    let daemon = Daemon::start(Canned::with(sushi()));
    let url = "postgresql://sushi:s3cret%20word@127.0.0.1:15432/d4f0";
    daemon
        .run(&["url", "sushi"])
        .await
        .assert(0, &format!("{url}\n"), "");
    daemon.run(&["env", "-a", "sushi"]).await.assert(
        0,
        &format!(
            "export PGHOST=/run/user/1000/borealis/pg/sushi\nexport PGPORT=5432\n\
             export PGDATABASE=d4f0\nexport PGUSER=sushi\nexport PGPASSWORD='s3cret word'\n\
             export DATABASE_URL='{url}'\n"
        ),
        "",
    );
    // What is in a container is the socket, where nothing but the mount is needed.
    let dir = "/run/user/1000/borealis/pg/sushi";
    let socket = format!("postgresql:///d4f0?host={dir}&port=5432");
    daemon.run(&["env", "sushi", "--shell", "docker"]).await.assert(
        0,
        &format!(
            "# sushi over its Unix socket: mount {dir} at the same place, and run as the same user.\n\
             PGHOST={dir}\nPGPORT=5432\nPGDATABASE=d4f0\nPGUSER=sushi\nDATABASE_URL={socket}\n"
        ),
        &format!(
            "127.0.0.1 is another machine inside of a container, so it connects through the session's socket:\n\
             docker run --env-file FILE --user \"$(id -u)\" -v {dir}:{dir} …\n"
        ),
    );
    // No password in a project's file.
    daemon
        .run(&["env", "sushi", "--shell", "direnv"])
        .await
        .assert(
            0,
            "eval \"$(borealisctl env sushi)\"\n",
            "the line asks borealisctl each time, so that no password is in the project\n",
        );
    for words in [
        &["url", "sushi", "--socket"][..],
        &["url", "--socket", "sushi"],
        &["url", "--unix-socket", "sushi"],
    ] {
        daemon
            .run(words)
            .await
            .assert(0, &format!("{socket}\n"), "");
    }
    assert_eq!(
        daemon
            .run(&["url", "--socket", "sushi", "-f", "json"])
            .await
            .json(),
        json!({"url": socket})
    );
    let json = daemon.run(&["env", "sushi", "-f", "json"]).await.json();
    assert_eq!(json["DATABASE_URL"], url);

    let new = Canned {
        secrets: v1::Secrets::default(),
        ..Canned::with(sushi())
    };
    Daemon::start(new).run(&["url", "sushi"]).await.assert(
        1,
        "",
        "error: sushi has never been up, so its URL is not known yet\n\
         hint: wait for it with `borealisctl open sushi`\n",
    );
}

#[tokio::test]
async fn close_and_rotate_name_what_they_did() {
    let daemon = Daemon::start(Canned::with(sushi()));
    daemon
        .run(&["close", "sushi", "--grace", "1m"])
        .await
        .assert(0, "closed sushi\n", "");
    daemon
        .run(&["close", "--all"])
        .await
        .assert(0, "closed sushi\n", "");
    let asked = daemon.asked().close;
    assert_eq!(asked[0].targets[0].name, "sushi");
    assert_eq!(asked[0].grace.map(|grace| grace.seconds), Some(60));
    assert!(asked[1].all && asked[1].targets.is_empty() && asked[1].grace.is_none());

    daemon.run(&["rotate", "sushi"]).await.assert(
        0,
        "rotated sushi: new connections use credential 3\n",
        "",
    );
    for words in [["close"], ["rotate"]] {
        daemon.run(&words).await.assert(
            2,
            "",
            "error: no session was named\n\
             hint: name one or more (`borealisctl list` shows them), or say --all\n",
        );
    }
    assert_eq!(daemon.asked().rotate.len(), 1);
}

#[tokio::test]
async fn usage_errors_need_no_daemon() {
    let home = tempfile::tempdir().unwrap();
    for (words, stderr) in [
        (
            &["open"][..],
            "error: no app, add-on or session was named\nhint: name an app (`sushi` or --app sushi), \
             an add-on (`sushi::ATTACHMENT` or --addon NAME) or an open session\n",
        ),
        (
            &["run", "sushi"],
            "error: there is nothing to run\nhint: give one of --db-cmd SQL, --db-cmd-file FILE, \
             --shell-cmd COMMAND, or -- COMMAND ARGS…\n",
        ),
        (
            &["open", "sushi", "--for", "soon"],
            "error: invalid value 'soon' for '--for <DURATION>': not a duration like 30s, 5m or 1h30m\n\
             hint: see `borealisctl open --help`\n",
        ),
        (
            &["run", "sushi", "-i", "/nowhere/x.sql"],
            "error: can't read /nowhere/x.sql: no such file or directory\n",
        ),
    ] {
        let ran = crate::daemon::command(home.path(), words)
            .output()
            .await
            .unwrap();
        let ran = crate::daemon::Ran::of(ran);
        let code = if words.contains(&"-i") { 1 } else { 2 };
        ran.assert(code, "", stderr);
    }
}

#[tokio::test]
async fn the_daemon_itself() {
    let mut canned = Canned::default();
    canned.info.health = v1::Health::Warning.into();
    canned.info.reasons = vec![trouble()];
    canned.info.pid = 4711;
    canned.reload.opened = vec!["sushi".into()];
    let daemon = Daemon::start(canned);
    let status = daemon.run(&["status", "-f", "json"]).await.json();
    assert_eq!(status["health"], "warning");
    assert_eq!(status["version"], "9.8.7");
    assert_eq!(status["pid"], 4711);
    assert_eq!(status["reasons"][0]["hint"], "check the network");
    let people = daemon.run(&["status"]).await.stdout;
    assert!(people.contains("Health       warning\n"), "{people}");
    daemon
        .run(&["reload"])
        .await
        .assert(0, "opened sushi\n", "");
    assert_eq!(
        daemon.run(&["reload", "-f", "json"]).await.json(),
        json!({"opened": ["sushi"], "closed": [], "changed": [], "later": []})
    );
}

#[tokio::test]
async fn shutdown_waits_until_the_daemon_is_gone() {
    // Ends when its standard input does, like a daemon that drains.
    let mut draining = std::process::Command::new("cat")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut canned = Canned::default();
    canned.info.pid = draining.id();
    let daemon = Daemon::start(canned);
    let mut shutdown = daemon.command(&["shutdown"]).spawn().unwrap();
    tokio::select! {
        biased;
        _ = shutdown.wait() => panic!("did not wait"),
        () = tokio::time::sleep(std::time::Duration::from_millis(300)) => {}
    }
    drop(draining.stdin.take());
    let ended = tokio::task::spawn_blocking(move || draining.wait().unwrap());
    assert!(shutdown.wait().await.unwrap().success());
    ended.await.unwrap();
}

#[tokio::test]
async fn completions_and_versions() {
    let home = tempfile::tempdir().unwrap();
    for (words, part) in [
        (
            &["completions", "bash"][..],
            "_BOREALISCTL_COMPLETE=\"bash\"",
        ),
        (&["completions", "zsh"], "#compdef borealisctl"),
        (&["--version"], "borealisctl 0."),
        (&["run", "--help"], "Examples:"),
    ] {
        let ran = crate::daemon::command(home.path(), words)
            .output()
            .await
            .unwrap();
        let ran = crate::daemon::Ran::of(ran);
        assert!(ran.code == Some(0) && ran.stdout.contains(part), "{ran:?}");
    }
}

/// As the scripts of `completions` ask.
#[tokio::test]
async fn a_shell_is_offered_what_is_open() {
    let daemon = Daemon::start(Canned::with(sushi()));
    let asked = async |words: &[&str]| {
        let index = (words.len() - 1).to_string();
        let words = [&["--", "borealisctl"], &words[1..]].concat();
        let ran = daemon
            .command(&words)
            .env("_BOREALISCTL_COMPLETE", "bash")
            .env("_CLAP_COMPLETE_INDEX", index)
            .env("_CLAP_IFS", "\n")
            .output()
            .await
            .unwrap();
        Ran::of(ran)
    };
    let lines = |ran: &Ran| ran.stdout.lines().map(str::to_owned).collect::<Vec<_>>();
    let close = asked(&["", "close", "s"]).await;
    assert_eq!(lines(&close), ["sushi"], "{close:?}");
    let addon = asked(&["", "psql", "-o", "b"]).await;
    assert_eq!(lines(&addon), ["borealis-pg-hex-12345"], "{addon:?}");
    let command = asked(&["", "dock"]).await;
    assert_eq!(lines(&command), [""; 0], "{command:?}");
    drop(daemon);
}

/// The daemon's unit may not look into other programs; the user may.
#[tokio::test]
async fn who_has_a_port_is_found_with_the_users_own_rights() {
    let squatter = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = squatter.local_addr().unwrap().port();
    let in_use = v1::Failure {
        code: "port-in-use".into(),
        message: format!("port {port} is in use"),
        hint: "choose another".into(),
        ..trouble()
    };
    let named = format!("port {port} is in use by cli-");
    let pid = format!("({})", std::process::id());

    let refusing = Daemon::start(Canned::failing(Code::Aborted, in_use.clone()));
    let ran = refusing.run(&["open", "sushi", "-p", "1"]).await;
    assert!(
        ran.stderr.contains(&named) && ran.stderr.contains(&pid),
        "{ran:?}"
    );

    let robbed = v1::Session {
        state: v1::State::Failed.into(),
        port: port.into(),
        last_error: Some(in_use),
        ..sushi()
    };
    let daemon = Daemon::start(Canned::with(robbed));
    for words in [
        &["list"] as &[_],
        &["show", "sushi"],
        &["list", "-f", "json"],
    ] {
        let ran = daemon.run(words).await;
        assert!(
            ran.stdout.contains(&named) && ran.stdout.contains(&pid),
            "{ran:?}"
        );
    }
    // Whoever listens there would be given the password.
    for words in [
        &["url", "sushi"] as &[_],
        &["show", "sushi"],
        &["env", "sushi"],
    ] {
        let ran = daemon.run(words).await;
        let warning = format!("warning: 127.0.0.1:{port} is not sushi's now: {named}");
        assert!(
            ran.stderr.starts_with(&warning) && ran.code == Some(0),
            "{ran:?}"
        );
    }
    // On the socket nobody else can.
    let ran = daemon.run(&["url", "--socket", "sushi"]).await;
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
}
