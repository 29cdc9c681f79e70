//! The ways to a database: targets, roles, modes, bastions.

use borealis_tests::harness::TestMachine;

#[test]
fn a_session_gives_the_contracts_object() {
    let machine = TestMachine::new();
    let opened = machine.json(&["open", "sushi"]);
    let keys: Vec<_> = opened
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    let expected = [
        "name",
        "app",
        "addon",
        "attachment",
        "role",
        "access",
        "mode",
        "state",
        "since",
        "host",
        "port",
        "socket_dir",
        "database",
        "user",
        "connections",
        "bytes",
        "credential",
        "expires_at",
        "next_attempt_at",
        "last_error",
        "password",
        "url",
    ];
    let sorted = |keys: &[&str]| {
        let mut keys: Vec<_> = keys.iter().map(ToString::to_string).collect();
        keys.sort();
        keys
    };
    assert_eq!(sorted(&keys), sorted(&expected));
    for (key, value) in [
        ("name", "sushi"),
        ("app", "sushi"),
        ("addon", "borealis-pg-hex-12345"),
        ("attachment", "DATABASE"),
        ("role", "personal"),
        ("access", "read-only"),
        ("mode", "managed"),
        ("state", "up"),
        ("host", "127.0.0.1"),
        ("user", "sushi"),
    ] {
        assert_eq!(opened[key], value, "{key}");
    }
    assert_eq!(opened["credential"]["generation"], 1);
    assert!(opened["expires_at"].is_null() && opened["last_error"].is_null());
    assert_eq!(
        opened["socket_dir"],
        machine.socket_dir("sushi").display().to_string()
    );

    let shown = machine.json(&["show", "sushi"]);
    assert!(shown.get("password").is_none() && shown.get("url").is_none());
    let revealed = machine.json(&["show", "sushi", "--reveal"]);
    assert_eq!(revealed["url"], opened["url"]);
    machine.leave();
}

#[test]
fn psql_comes_in_over_tcp_over_the_socket_and_through_borealisctl() {
    let machine = TestMachine::new();
    let url = machine.open(&["sushi"]);
    assert_eq!(machine.query(&url, "select 1"), "1");
    let role = machine.query(&url, "select current_user");
    let socket = format!("host={}", machine.socket_dir("sushi").display());
    assert_eq!(machine.query(&socket, "select current_user"), role);
    let through = machine.ctl_ok(&["psql", "sushi", "--", "-XAtc", "select current_user"]);
    assert_eq!(through, role);
    let service = machine
        .run("psql")
        .env(
            "PGSERVICEFILE",
            &machine
                .path("run/borealis/pg_service.conf")
                .display()
                .to_string(),
        )
        .args(&["-XAtc", "select current_user", "service=sushi"])
        .outcome();
    assert_eq!(service.expect_success(), role);
    machine.leave();
}

#[test]
fn clients_that_ask_for_tls_get_it() {
    let machine = TestMachine::new();
    let url = machine.open(&["sushi"]);
    for mode in ["disable", "allow", "prefer", "require"] {
        let outcome = machine.psql(&format!("{url}?sslmode={mode}"), "select 1");
        assert_eq!(outcome.expect_success(), "1", "{mode}");
    }
    let ca = machine.path("state/borealis/tls/ca.pem");
    let full = format!("{url}?sslmode=verify-full&sslrootcert={}", ca.display());
    assert_eq!(machine.query(&full, "select 1"), "1");
    machine.leave();
}

#[test]
fn reading_is_all_that_is_allowed_unless_writing_was_asked_for() {
    let machine = TestMachine::new();
    let reading = machine.open(&["sushi"]);
    let refused = machine.psql(&reading, "create table t (a int)");
    refused.expect_failure(1, &["ERROR"]);
    let writing = machine.open(&["sushi", "-w"]);
    assert_eq!(machine.json(&["show", "sushi-rw"])["access"], "read-write");
    machine.query(&writing, "create table t (a int)");
    assert_eq!(
        machine.query(&writing, "insert into t values (7) returning a"),
        "7"
    );
    machine.query(&writing, "drop table t");
    machine.leave();
}

#[test]
fn targets_in_all_their_forms() {
    let machine = TestMachine::new();
    let named = |args: &[&str]| machine.json(&[&["open"], args].concat())["name"].clone();
    assert_eq!(
        named(&["ramen::BOREALIS_PG_MAROON"]),
        "ramen.borealis_pg_maroon"
    );
    assert_eq!(
        named(&["--app", "ramen", "--addon", "BOREALIS_PG_NAVY"]),
        "ramen.borealis_pg_navy"
    );
    assert_eq!(named(&["borealis-pg-hex-12345"]), "sushi");
    assert_eq!(named(&["--addon", "borealis-pg-hex-12345"]), "sushi");
    assert_eq!(named(&["-a", "sushi"]), "sushi");
    assert_eq!(named(&["sushi", "--role", "app"]), "sushi-app");
    assert_eq!(named(&["sushi", "--role", "app", "-w"]), "sushi-app-rw");
    assert_eq!(named(&["sushi", "--name", "dinner"]), "dinner");
    let listed = machine.json(&["list"]);
    assert_eq!(listed.as_array().unwrap().len(), 6);
    // Each has a port of its own.
    let ports: std::collections::BTreeSet<_> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|session| session["port"].as_u64())
        .collect();
    assert_eq!(ports.len(), 6);
    machine.ctl_ok(&["close", "--all"]);
    assert_eq!(machine.json(&["list"]), serde_json::json!([]));
    machine.leave();
}

#[test]
fn the_apps_own_user() {
    let machine = TestMachine::new();
    let personal = machine.open(&["sushi"]);
    let app = machine.open(&["sushi", "--role", "app"]);
    let who = "select current_user";
    assert_ne!(machine.query(&personal, who), machine.query(&app, who));
    assert!(machine.query(&app, who).starts_with("app_ro_"));
    let shown = machine.json(&["show", "sushi-app"]);
    assert!(shown["credential"]["rotates_at"].is_null(), "{shown}");
    machine.leave();
}

#[test]
fn passthrough_hands_out_the_credentials_themselves() {
    let machine = TestMachine::new();
    let managed = machine.open(&["sushi"]);
    let url = machine.open(&["sushi", "--passthrough", "--name", "raw"]);
    let shown = machine.json(&["show", "raw", "--reveal"]);
    assert_eq!(shown["mode"], "passthrough");
    assert_eq!(shown["url"], url);
    let role = machine.query(&managed, "select current_user");
    assert_eq!(shown["user"], role);
    assert_eq!(machine.query(&url, "select current_user"), role);
    // The database's own TLS, from end to end.
    let encrypted = format!("{url}?sslmode=require");
    assert_eq!(
        machine.query(
            &encrypted,
            "select ssl from pg_stat_ssl where pid = pg_backend_pid()"
        ),
        "t"
    );
    machine.leave();
}

#[test]
fn through_openssh() {
    let machine = TestMachine::with_sshd();
    let url = machine.open(&["sushi"]);
    assert_eq!(machine.query(&url, "select count(*) > 0 from orders"), "t");
    // Several at a time, each with a bulk of data.
    let sum = machine.query(&url, "select sum(g) from generate_series(1, 300000) g");
    assert_eq!(sum, "45000150000");
    let bulk =
        machine
            .run("psql")
            .args(&["-XAtqc", "select g from generate_series(1, 200000) g", &url]);
    assert_eq!(bulk.outcome().expect_success().lines().count(), 200_000);
    machine.ctl_ok(&["rotate", "sushi"]);
    assert_eq!(machine.query(&url, "select 1"), "1");
    machine.leave();
}

#[test]
fn a_bulk_transfer_gives_no_memory_back_and_forth() {
    const MIB: u64 = 64;
    let machine = TestMachine::with_sshd();
    let url = machine.open(&["sushi", "--passthrough"]);
    let rows = format!(
        "copy (select repeat('x', 1023) from generate_series(1, {})) to '/dev/null'",
        MIB * 1024
    );
    let bulk = format!("\\{rows}");
    // The first gets the daemon the memory that such a transfer takes.
    machine.query(&url, &bulk);
    let before = machine.daemon().page_faults();
    machine.query(&url, &bulk);
    let faults = machine.daemon().page_faults() - before;
    // One for every packet would be 2,048; there were two to four for each.
    assert!(faults < 2_048, "{faults} page faults");
    machine.leave();
}

#[test]
fn what_a_client_asks_for_reaches_the_database() {
    let machine = TestMachine::new();
    let url = machine.open(&["sushi"]);
    let own = format!("{url}?application_name=dinner&options=-c%20work_mem%3D7MB");
    assert_eq!(machine.query(&own, "show application_name"), "dinner");
    assert_eq!(machine.query(&own, "show work_mem"), "7MB");
    // A client that names no database, or its own user's name, gets the session's.
    let shown = machine.json(&["show", "sushi", "--reveal"]);
    let bare = format!(
        "host=127.0.0.1 port={} user=sushi password={}",
        shown["port"],
        shown["password"].as_str().unwrap()
    );
    assert_eq!(
        machine.query(&bare, "select current_database()"),
        shown["database"].as_str().unwrap()
    );
    machine.leave();
}

#[test]
fn a_query_can_be_cancelled() {
    use std::io::{BufRead as _, BufReader, Write as _};

    use rustix::process::{Pid, Signal, kill_process};

    let machine = TestMachine::new();
    let url = machine.open(&["sushi"]);
    for mode in ["disable", "require"] {
        let mut psql = machine
            .run("psql")
            .args(&["-XAtq", &format!("{url}?sslmode={mode}")])
            .start();
        let mut input = psql.stdin.take().unwrap();
        let mut output = BufReader::new(psql.stdout.take().unwrap());
        writeln!(input, "select 'begun';\nselect pg_sleep(600);").unwrap();
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert_eq!(line, "begun\n");
        // The query is seen to run before it is cancelled.
        let asleep = "select count(*) from pg_stat_activity where query like '%pg_sleep(600)%' and pid <> pg_backend_pid()";
        while machine.query(&url, asleep) != "1" {}
        kill_process(Pid::from_child(&psql), Signal::INT).unwrap();
        // psql ends a script that was cancelled.
        let ended = psql.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(
            said.contains("canceling statement due to user request"),
            "{mode}: {said}"
        );
        while machine.query(&url, asleep) != "0" {}
    }
    machine.leave();
}
