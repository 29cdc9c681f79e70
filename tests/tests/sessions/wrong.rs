//! What goes wrong gets the contract's words and exit code.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
};

use borealis_tests::{
    harness::{PATIENCE, TestMachine},
    sandbox::{Action, BastionAction, Fault, Options},
};

#[test]
fn no_daemon() {
    let machine = TestMachine::without_daemon(Options::default());
    for args in [
        &["list"][..],
        &["open", "sushi"],
        &["status"],
        &["run", "sushi", "-d", "select 1"],
    ] {
        machine
            .ctl(args)
            .expect_failure(3, &["error: ", "not running", "hint: ", "borealisd"]);
    }
    machine.leave();
}

#[test]
fn nothing_is_left_of_what_was_refused_for_good() {
    let machine = TestMachine::new();
    for (args, code, words) in [
        (&["open", "nope"][..], 5, &["nope", "hint: "][..]),
        (&["open", "--app", "nope"], 5, &["there is no app nope"]),
        (
            &["open", "sushi::NOPE"],
            5,
            &["app sushi has no add-on or attachment NOPE"],
        ),
        (
            &["open", "--addon", "NOPE"],
            5,
            &["NOPE", "try again with --app"],
        ),
        (
            &["open", "ramen"],
            5,
            &[
                "multiple",
                "ramen::BOREALIS_PG_MAROON",
                "ramen::BOREALIS_PG_NAVY",
            ],
        ),
        (
            &["open", "udon"],
            5,
            &["app udon has no Borealis Isolated Postgres add-on"],
        ),
        (
            &["open", "soba"],
            5,
            &["app soba has no Borealis Isolated Postgres add-on"],
        ),
        (&["open", "tempura"], 6, &["not finished provisioning"]),
        (&["open", "miso"], 6, &["PostgreSQL major version upgrade"]),
        (
            &["open", "wasabi"],
            6,
            &["temporarily revoked", "upgrading to a new add-on plan"],
        ),
        (&["open"], 2, &["--app", "--addon"]),
        (&["open", "sushi", "--name", "../x"], 2, &["../x"]),
        (&["open", "sushi", "-p", "99999"], 2, &["99999"]),
        (
            &["show", "sushi"],
            5,
            &["no session is open for sushi", "borealisctl open sushi"],
        ),
        (&["close", "sushi"], 5, &["no session is open for sushi"]),
        (&["url", "sushi"], 5, &["no session is open for sushi"]),
        (&["rotate", "sushi"], 5, &["no session is open for sushi"]),
        (&["close"], 2, &["--all"]),
    ] {
        machine.ctl(args).expect_failure(code, words);
    }
    assert_eq!(machine.json(&["list"]), serde_json::json!([]));
    machine.leave();
}

#[test]
fn an_add_on_of_another_service() {
    let machine = TestMachine::new();
    let other = machine.ctl(&["open", "soba::PAPERTRAIL"]);
    other.expect_failure(5, &["not a Borealis Isolated Postgres add-on"]);
    machine.leave();
}

#[test]
fn no_token_and_a_refused_one() {
    let mut machine = TestMachine::without_daemon(Options::default());
    machine.unset("HEROKU_API_KEY");
    machine.start_daemon();
    machine
        .ctl(&["open", "sushi"])
        .expect_failure(4, &["not logged in", "hint: ", "heroku login"]);
    // A token that appears in netrc is found without a restart.
    let token = machine.sandbox.token();
    let netrc = format!("machine 127.0.0.1\n  login me@example.com\n  password {token}\n");
    std::fs::write(machine.path(".netrc"), netrc).unwrap();
    let opened = machine.json(&["open", "sushi"]);
    assert_eq!(opened["state"], "up");
    machine.ctl_ok(&["close", "--all"]);
    machine.sandbox.faults().revoke_token();
    machine
        .ctl(&["open", "sushi"])
        .expect_failure(4, &["refused", "netrc", "hint: "]);
    machine.sandbox.faults().restore_token();
    machine.open(&["sushi"]);
    machine.leave();
}

#[test]
fn a_host_key_that_differs_is_never_accepted() {
    for mut machine in [TestMachine::new(), TestMachine::with_sshd()] {
        let act = |machine: &TestMachine, action| {
            machine
                .sandbox
                .block_on(machine.sandbox.faults().bastion(action))
                .unwrap()
        };
        act(&machine, BastionAction::ChangeHostKey);
        let refused = machine.ctl(&["open", "sushi"]);
        refused.expect_failure(
            1,
            &[
                "host key",
                "not the one that the add-on's API gave",
                "hint: ",
            ],
        );
        assert_eq!(machine.json(&["list"]), serde_json::json!([]));
        act(&machine, BastionAction::RestoreHostKey);
        machine.open(&["sushi"]);
        assert_eq!(machine.stop_daemon(), Some(0));
        machine.leave();
    }
}

#[test]
fn a_port_that_is_taken() {
    let machine = TestMachine::new();
    let squatter = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = squatter.local_addr().unwrap().port();
    let refused = machine.ctl(&["open", "sushi", "-p", &port.to_string()]);
    let holder = format!("({})", std::process::id());
    refused.expect_failure(
        1,
        &[&format!("port {port} is in use by"), &holder, "--port"],
    );
    assert_eq!(machine.json(&["list"]), serde_json::json!([]));
    drop(squatter);
    let opened = machine.json(&["open", "sushi", "-p", &port.to_string()]);
    assert_eq!(opened["port"], port);
    machine.leave();
}

#[test]
fn a_wrong_local_password() {
    let machine = TestMachine::new();
    let port = machine.json(&["open", "sushi"])["port"].clone();
    for (user, told) in [
        ("sushi", "password authentication failed"),
        ("postgres", "no session of yours listens here"),
    ] {
        let wrong = format!("postgres://{user}:wrong@127.0.0.1:{port}/");
        let refused = machine.psql(&wrong, "select 1");
        refused.expect_failure(2, &[told, "borealisctl show sushi --reveal"]);
    }
    let events = machine.ctl_ok(&["events", "sushi"]);
    assert!(events.contains("refused a log-in"), "{events}");
    machine.leave();
}

#[test]
fn a_database_that_does_not_exist_is_refused_in_its_servers_words() {
    let machine = TestMachine::new();
    let url = machine.open(&["sushi"]);
    let (server, _) = url.rsplit_once('/').unwrap();
    let refused = machine.psql(&format!("{server}/nope"), "select 1");
    refused.expect_failure(2, &["FATAL:  database \"nope\" does not exist"]);
    assert_eq!(machine.query(&url, "select 1"), "1");
    machine.leave();
}

#[test]
fn garbage_on_the_port() {
    let machine = TestMachine::new();
    let url = machine.open(&["sushi"]);
    let port = u16::try_from(machine.json(&["show", "sushi"])["port"].as_u64().unwrap()).unwrap();
    for garbage in [
        &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
        &[0; 64],
        &[0xff; 64],
        &[0x7f, 0xff, 0xff, 0xff, 0, 3, 0, 0],
        &[0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f, 1, 2, 3],
        b"",
    ] {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(garbage).unwrap();
        // It may have ended already.
        let _ = stream.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        // It ends, with an answer or without; a reset is an end too.
        let _ = stream.read_to_end(&mut answer);
    }
    assert_eq!(machine.query(&url, "select 1"), "1");
    machine.leave();
}

#[test]
fn another_user_has_no_business_here() {
    if !rustix::process::geteuid().is_root() {
        // Only root can become somebody else.
        return;
    }
    use std::os::unix::{fs::PermissionsExt as _, process::CommandExt as _};

    let machine = TestMachine::new();
    machine.open(&["sushi"]);
    let mode = |path: &str| {
        std::fs::metadata(machine.path(path))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(mode("run/borealis"), 0o700);
    assert_eq!(mode("run/borealis/control.sock"), 0o600);
    assert_eq!(mode("run/borealis/pg/sushi/.s.PGSQL.5432"), 0o600);
    // Even where somebody opens all doors, the peer's uid is looked at.
    for open in [
        "",
        "run",
        "run/borealis",
        "run/borealis/control.sock",
        "run/borealis/pg",
        "run/borealis/pg/sushi",
        "run/borealis/pg/sushi/.s.PGSQL.5432",
    ] {
        std::fs::set_permissions(machine.path(open), std::fs::Permissions::from_mode(0o777))
            .unwrap();
    }
    let copy = |name: &str| {
        let copy = machine.path(name);
        std::fs::copy(machine.binary(name), &copy).unwrap();
        copy
    };
    let stranger = |program: &std::path::Path, args: &[&str]| {
        std::process::Command::new(program)
            .uid(65534)
            .gid(65534)
            .args(args)
            .env_clear()
            .output()
            .unwrap()
    };
    let socket = machine
        .path("run/borealis/control.sock")
        .display()
        .to_string();
    let refused = stranger(&copy("borealisctl"), &["--socket", &socket, "list"]);
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    let session = format!("host={} user=sushi", machine.socket_dir("sushi").display());
    let psql = std::path::Path::new("/usr/bin/psql");
    let refused = stranger(psql, &["-XAtqc", "select 1", &session]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && said.contains("FATAL"),
        "{said}"
    );
    for close in [
        "run",
        "run/borealis",
        "run/borealis/pg",
        "run/borealis/pg/sushi",
    ] {
        std::fs::set_permissions(machine.path(close), std::fs::Permissions::from_mode(0o700))
            .unwrap();
    }
    for close in [
        "run/borealis/control.sock",
        "run/borealis/pg/sushi/.s.PGSQL.5432",
    ] {
        std::fs::set_permissions(machine.path(close), std::fs::Permissions::from_mode(0o600))
            .unwrap();
    }
    machine.leave();
}

#[test]
fn a_second_daemon_says_who_is_there() {
    let machine = TestMachine::new();
    let second = machine.run(machine.binary("borealisd")).outcome();
    let pid = format!("pid {}", machine.daemon().pid());
    second.expect_failure(1, &["running already", &pid]);
    let other = machine.path("other.sock").display().to_string();
    let second = machine
        .run(machine.binary("borealisd"))
        .args(&["--socket", &other])
        .outcome();
    second.expect_failure(1, &["state directory", &pid]);
    assert!(machine.json(&["list"]).is_array());
    machine.leave();
}

#[test]
fn a_wrong_config_is_refused_with_file_line_and_what_is_accepted() {
    let machine = TestMachine::without_daemon(Options::default());
    for (config, words) in [
        (
            "connect_timeout = \"soon\"\n",
            &["config.toml:1", "connect_timeout", "soon"][..],
        ),
        (
            "\n\nwarm_conections = 1\n",
            &["config.toml:3", "warm_conections", "warm_connections"],
        ),
        (
            "upstream_tls = \"always\"\n",
            &["config.toml:1", "always", "prefer", "verify-ca"],
        ),
        ("port_range = \"20-10\"\n", &["config.toml:1", "20-10"]),
        (
            "[[session]]\ntarget = \"sushi\"\naccess = \"write\"\n",
            &["config.toml:3", "write", "read-only", "read-write"],
        ),
    ] {
        machine.write_bare_config(config);
        let refused = machine.run(machine.binary("borealisd")).outcome();
        assert_ne!(refused.code, Some(0));
        for word in words {
            assert!(refused.stderr.contains(word), "{word} in {refused:#?}");
        }
    }
    machine.leave();
}

#[test]
fn the_provider_in_trouble() {
    let machine = TestMachine::new();
    let faults = machine.sandbox.faults();
    // What passes is tried again.
    for action in [
        Action::status(503),
        Action::status(429).header("Retry-After", "1"),
        Action::Drop,
        Action::Garbage,
        Action::Truncate,
    ] {
        faults.add(Fault::on("personal-db-users", action).times(1));
        machine.open(&["sushi"]);
        machine.ctl_ok(&["close", "sushi"]);
        machine.ctl_ok(&["rotate", "--all"]);
        machine.sandbox.block_on(faults.clear()).unwrap();
        // New credentials are asked for again only by a new daemon or a rotation.
        machine.open(&["sushi"]);
        faults.add(Fault::on("personal-db-users", Action::status(503)).times(1));
        machine.ctl_ok(&["rotate", "sushi"]);
        machine.ctl_ok(&["close", "sushi"]);
    }
    machine.leave();
}

#[test]
fn a_provider_that_stays_away_keeps_the_session_trying() {
    let machine = TestMachine::new();
    let faults = machine.sandbox.faults();
    faults.add(Fault::on("personal-db-users", Action::status(503)));
    let opened = machine.ctl(&["open", "sushi", "--timeout", "3s"]);
    opened.expect_failure(1, &["sushi is not up after 3 s", "hint: "]);
    assert_eq!(machine.json(&["list"]).as_array().unwrap().len(), 1);
    machine.sandbox.block_on(faults.clear()).unwrap();
    machine.wait_for("sushi", |session| {
        session.state() == borealis_proto::v1::State::Up
    });
    machine.leave();
}

#[test]
fn plain_http_is_for_loopback_only() {
    let mut machine = TestMachine::without_daemon(Options::default());
    machine.set("HEROKU_API_URL", "http://api.example.com");
    let refused = machine.run(machine.binary("borealisd")).outcome();
    assert_ne!(refused.code, Some(0));
    assert!(
        refused.stderr.contains("HEROKU_API_URL") && refused.stderr.contains("https"),
        "{refused:#?}"
    );
    machine.leave();
}
