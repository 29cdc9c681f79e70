//! `borealisctl run` and `psql` against a session.

use borealis_tests::harness::TestMachine;

#[test]
fn sql_runs_as_the_apps_user_or_the_persons() {
    let machine = TestMachine::new();
    let app = machine.ctl_ok(&[
        "run",
        "sushi",
        "-d",
        "select current_user as who",
        "-f",
        "json",
    ]);
    assert!(app.contains("\"who\":\"app_ro_"), "{app}");
    let own = machine.ctl_ok(&[
        "run",
        "sushi",
        "-u",
        "-d",
        "select current_user as who",
        "-f",
        "json",
    ]);
    assert!(!own.contains("app_"), "{own}");
    // A session that was opened for one command closes after it.
    for name in ["sushi", "sushi-app"] {
        machine.daemon().wait_until_gone(name, &machine.sandbox);
    }
    // One that was open stays.
    machine.open(&["sushi"]);
    machine.ctl_ok(&["run", "sushi", "-u", "-d", "select 1"]);
    assert_eq!(machine.json(&["list"]).as_array().unwrap().len(), 1);
    machine.leave();
}

#[test]
fn results_in_every_format() {
    let machine = TestMachine::new();
    let sql = "select 1 as n, null as nothing, 'a,\"b\"' as text, true as yes, '{\"k\": [1]}'::jsonb as doc, 1.50 as exact";
    let run = |format: &str| machine.ctl_ok(&["run", "sushi", "-u", "-d", sql, "-f", format]);
    let json: serde_json::Value = serde_json::from_str(&run("json")).unwrap();
    assert_eq!(
        json,
        serde_json::json!([{"n": 1, "nothing": null, "text": "a,\"b\"", "yes": true, "doc": {"k": [1]}, "exact": 1.50}])
    );
    assert_eq!(
        run("csv"),
        "n,nothing,text,yes,doc,exact\n1,,\"a,\"\"b\"\"\",t,\"{\"\"k\"\": [1]}\",1.50"
    );
    assert!(run("yaml").contains("nothing: null"), "{}", run("yaml"));
    let table = run("table");
    assert!(
        table.contains("NULL") && table.ends_with("(1 row)"),
        "{table}"
    );
    machine.leave();
}

#[test]
fn an_error_of_the_database_is_shown_whole() {
    let machine = TestMachine::new();
    let failed = machine.ctl(&["run", "sushi", "-u", "-d", "select nope from orders"]);
    failed.expect_failure(
        1,
        &["column \"nope\" does not exist", "42703", "LINE 1", "^"],
    );
    let failed = machine.ctl(&["run", "sushi", "-u", "-d", "create table t (a int)"]);
    failed.expect_failure(1, &["25006"]);
    machine.leave();
}

#[test]
fn sql_comes_from_a_file_or_standard_input() {
    let machine = TestMachine::new();
    std::fs::write(machine.path("query.sql"), "select 'file' as source;\n").unwrap();
    let from = |args: &[&str], input: &str| {
        let all = [&["run", "sushi", "-u", "-f", "csv"], args].concat();
        machine
            .run(machine.binary("borealisctl"))
            .args(&all)
            .input(input)
            .outcome()
            .expect_success()
    };
    assert_eq!(from(&["-i", "query.sql"], ""), "source\nfile");
    assert_eq!(
        from(&["-i", "-"], "select 'input' as source"),
        "source\ninput"
    );
    let missing = machine.ctl(&["run", "sushi", "-i", "nope.sql"]);
    missing.expect_failure(1, &["nope.sql"]);
    machine.leave();
}

#[test]
fn commands_get_the_connection_and_give_their_exit_code() {
    let machine = TestMachine::new();
    let shell = |command: &str| machine.ctl(&["run", "sushi", "-u", "-e", command]);
    let who = shell("psql -XAtqc 'select current_user' \"$DATABASE_URL\"").expect_success();
    assert_eq!(
        shell("psql -XAtqc 'select current_user'").expect_success(),
        who
    );
    assert_eq!(shell("exit 7").code, Some(7));
    assert_eq!(shell("kill -TERM $$").code, Some(128 + 15));
    let long = shell("seq 1 200000").expect_success();
    assert_eq!(long.len(), 1_288_894);
    assert_eq!(shell("cat").expect_success(), "");
    let direct = machine.ctl(&[
        "run",
        "sushi",
        "-u",
        "--",
        "psql",
        "-XAtqc",
        "select current_user",
    ]);
    assert_eq!(direct.expect_success(), who);
    machine.leave();
}

#[test]
fn the_references_flags_work_unchanged() {
    let machine = TestMachine::new();
    let out = machine.ctl_ok(&[
        "run",
        "--app",
        "sushi",
        "--db-cmd",
        "select 1 as one",
        "--format",
        "csv",
        "--personal-user",
    ]);
    assert_eq!(out, "one\n1");
    let out = machine.ctl_ok(&[
        "run",
        "--app",
        "sushi",
        "--shell-cmd",
        "echo $PGHOST",
        "--write-access",
    ]);
    assert_eq!(out, "127.0.0.1");
    let out = machine.ctl_ok(&["psql", "--app", "sushi", "--", "-XAtqc", "select 1"]);
    assert_eq!(out, "1");
    machine.ctl(&["run", "sushi"]).expect_failure(2, &["-d"]);
    machine
        .ctl(&["run", "sushi", "-d", "select 1", "-e", "true"])
        .expect_failure(2, &[]);
    machine.leave();
}

#[test]
fn copy_both_ways() {
    let machine = TestMachine::new();
    let out = machine.ctl_ok(&[
        "run",
        "sushi",
        "-u",
        "-d",
        "copy (select g from generate_series(1, 3) g) to stdout",
    ]);
    assert_eq!(out, "1\n2\n3");
    let into = machine
        .run(machine.binary("borealisctl"))
        .args(&[
            "run",
            "sushi",
            "-u",
            "-w",
            "-d",
            "create temp table t (a int); copy t from stdin; select sum(a) as sum from t",
            "-f",
            "csv",
        ])
        .input("20\n22\n")
        .outcome();
    assert_eq!(into.expect_success(), "sum\n42");
    machine.leave();
}

#[test]
fn two_commands_at_once_share_a_session() {
    use std::io::{BufRead as _, BufReader, Write as _};

    let machine = TestMachine::new();
    // The first says that it runs, and waits for a line.
    let mut first = machine
        .run(machine.binary("borealisctl"))
        .args(&[
            "run",
            "sushi",
            "-u",
            "--stdin",
            "-e",
            "echo in; read line; psql -XAtqc 'select 1'",
        ])
        .start();
    let mut output = BufReader::new(first.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "in\n");
    machine.ctl_ok(&["run", "sushi", "-u", "-d", "select 1"]);
    // The second's end did not take the session from the first.
    writeln!(first.stdin.take().unwrap(), "go on").unwrap();
    line.clear();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "1\n");
    assert!(first.wait().unwrap().success());
    machine.daemon().wait_until_gone("sushi", &machine.sandbox);
    machine.leave();
}

#[test]
fn env_and_url_for_other_programs() {
    let machine = TestMachine::new();
    let url = machine.open(&["sushi"]);
    assert_eq!(machine.ctl_ok(&["url", "sushi"]), url);
    let script = format!(
        "eval \"$('{}' env sushi)\"; psql -XAtqc 'select 1'; psql -XAtqc 'select 2' \"$DATABASE_URL\"",
        machine.binary("borealisctl").display()
    );
    let outcome = machine.run("sh").args(&["-c", &script]).outcome();
    assert_eq!(outcome.expect_success(), "1\n2");
    machine.leave();
}
