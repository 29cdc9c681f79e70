//! `run --db-cmd` against a real PostgreSQL.

use std::{
    io::{BufRead as _, BufReader},
    process::{ChildStdout, Stdio},
    time::Duration,
};

use borealis_proto::v1::Access;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use crate::{
    daemon::{Daemon, Ran},
    postgres::Postgres,
};

async fn sql(daemon: &Daemon, format: &str, sql: &str) -> Ran {
    daemon.run(&["run", "sushi", "-f", format, "-d", sql]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn results_errors_and_notices() {
    let postgres = Postgres::start();
    let daemon = postgres.daemon(Access::ReadOnly);

    for (format, text, expected) in [
        (
            "table",
            "select 1 as n, null::text as t, 'é' as \"lätt\"",
            " n |  t   | lätt\n---+------+------\n 1 | NULL | é\n(1 row)\n",
        ),
        (
            "table",
            "select 1 as a; select 2 as b; select 3 as c",
            " a\n---\n 1\n(1 row)\n\n b\n---\n 2\n(1 row)\n\n c\n---\n 3\n(1 row)\n",
        ),
        (
            "table",
            "begin; select 1 as a; commit",
            "BEGIN\n a\n---\n 1\n(1 row)\nCOMMIT\n",
        ),
        ("json", "begin; select 1 as a; commit", "[\n{\"a\":1}\n]\n"),
        (
            "json",
            "select 1 as a; select 2 as b where false",
            "[\n{\"a\":1}\n]\n[]\n",
        ),
        ("csv", "select 1 as a; select 2 as b", "a\n1\n\nb\n2\n"),
        (
            "table",
            "create table t (n int); insert into t values (1), (2)",
            "CREATE TABLE\nINSERT 0 2\n",
        ),
        ("json", "insert into t values (3)", "[]\n"),
        ("csv", "insert into t values (4)", ""),
        ("csv", "select n from t order by n", "n\n1\n2\n3\n4\n"),
        (
            "csv",
            "select 'a,b' as \"x\"\"y\", null, '' as e",
            "\"x\"\"y\",?column?,e\n\"a,b\",,\"\"\n",
        ),
        (
            "yaml",
            "select 1 as id, 'no' as t",
            "- id: 1\n  t: \"no\"\n",
        ),
        (
            "yaml",
            "select 1 as n, '2026-01-01'::date as d; select 2 as n where false",
            "- \"n\": 1\n  d: \"2026-01-01\"\n---\n[]\n",
        ),
        ("json", "", ""),
        ("table", "", ""),
        ("table", " -- nothing\n", ""),
        (
            "table",
            "copy (select g, null from generate_series(1, 3) g) to stdout",
            "1\t\\N\n2\t\\N\n3\t\\N\n",
        ),
    ] {
        sql(&daemon, format, text).await.assert(0, expected, "");
    }

    let typed = "select 1::int2 as a, 9223372036854775807::int8 as b, 1.10::numeric as c, \
         'NaN'::float8 as d, 1e300::float8 as e, true as f, false as g, '{\"a\": [1, 2.50]}'::json as h, \
         '{\"b\": null}'::jsonb as i, null as j, '2026-03-01 01:02:03.123456'::timestamp as k, \
         array[1,2] as l, '\\x00ff'::bytea as m, 7 as a, 12345678901234567890.123456789 as n, 4::oid as o, \
         '2026-03-01'::date as p";
    let ran = sql(&daemon, "json", typed).await;
    ran.assert(
        0,
        "[\n{\"a\":1,\"b\":9223372036854775807,\"c\":1.10,\"d\":\"NaN\",\"e\":1e+300,\"f\":true,\"g\":false,\
         \"h\":{\"a\":[1,2.50]},\"i\":{\"b\":null},\"j\":null,\"k\":\"2026-03-01 01:02:03.123456\",\
         \"l\":\"{1,2}\",\"m\":\"\\\\x00ff\",\"a_2\":7,\"n\":12345678901234567890.123456789,\"o\":4,\
         \"p\":\"2026-03-01\"}\n]\n",
        "",
    );

    // What came before the error is no less true for it.
    sql(&daemon, "csv", "select 1 as a; select 1/0 as b")
        .await
        .assert(1, "a\n1\n", "error: division by zero (SQLSTATE 22012)\n");
    sql(&daemon, "table", "select *\n  from nope").await.assert(
        1,
        "",
        "error: relation \"nope\" does not exist (SQLSTATE 42P01)\n\
         LINE 2:   from nope\n               ^\n",
    );
    sql(
        &daemon,
        "json",
        "create table u (n int unique); insert into u values (5), (5)",
    )
    .await
    .assert(
        1,
        "",
        "error: duplicate key value violates unique constraint \"u_n_key\" (SQLSTATE 23505)\n\
         DETAIL:  Key (n)=(5) already exists.\n",
    );
    sql(
        &daemon,
        "csv",
        "set transaction read only; create table z (n int)",
    )
    .await
    .assert_error(
        "25006",
        "hint: this session is read-only: add --write-access (-w)\n",
    );
    sql(
        &daemon,
        "csv",
        "do $$ begin raise notice 'hi %', 1 using hint = 'look'; end $$",
    )
    .await
    .assert(0, "", "NOTICE:  hi 1\nHINT:  look\n");
    sql(&daemon, "table", "\\d").await.assert_error(
        "42601",
        "hint: lines that begin with a backslash are psql's own: run them with `borealisctl psql TARGET -- -f FILE`\n",
    );
    // What ends the connection says why.
    sql(
        &daemon,
        "table",
        "select pg_terminate_backend(pg_backend_pid())",
    )
    .await
    .assert_error("57P01", "");

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.sql");
    std::fs::write(&file, "\u{feff}select 1 as n;\nselect 2 as m;\n").unwrap();
    daemon
        .run(&["run", "sushi", "-f", "csv", "-i", file.to_str().unwrap()])
        .await
        .assert(0, "n\n1\n\nm\n2\n", "");
    with_input(
        &daemon,
        &["run", "sushi", "-f", "csv", "-i", "-"],
        b"select 5 as five",
    )
    .await
    .assert(0, "five\n5\n", "");
}

#[tokio::test(flavor = "multi_thread")]
async fn copying_in() {
    let postgres = Postgres::start();
    let daemon = postgres.daemon(Access::ReadWrite);
    let noisy = "create table t (n int); \
        create function say() returns trigger language plpgsql as \
          $$ begin raise notice 'row % %', new.n, repeat('x', 200); return new; end $$; \
        create trigger say before insert on t for each row execute function say()";
    sql(&daemon, "table", noisy).await.assert(
        0,
        "CREATE TABLE\nCREATE FUNCTION\nCREATE TRIGGER\n",
        "",
    );

    // More data, and more notices in answer, than any socket's buffer holds.
    let rows = 50_000;
    let data: String = (0..rows).map(|n| format!("{n}\n")).collect();
    let ran = with_input(
        &daemon,
        &["run", "sushi", "-d", "copy t from stdin"],
        data.as_bytes(),
    )
    .await;
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "COPY 50000\n"));
    assert_eq!(
        ran.stderr
            .lines()
            .filter(|line| line.starts_with("NOTICE:  row "))
            .count(),
        rows
    );

    // An error in the middle ends it, whatever is still to be read.
    let mut data = b"x\n".to_vec();
    data.extend(vec![b'1'; 4 * 1024 * 1024]);
    let ran = with_input(&daemon, &["run", "sushi", "-d", "copy t from stdin"], &data).await;
    ran.assert_error("22P02", "CONTEXT:  COPY t, line 1, column n: \"x\"\n");

    let ran = with_input(&daemon, &["run", "sushi", "-i", "-"], b"copy t from stdin").await;
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.stderr
            .contains("the SQL itself was read from standard input"),
        "{ran:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_does_not_grow_with_the_rows() {
    const ROWS: usize = 100_000;
    let postgres = Postgres::start();
    let daemon = postgres.daemon(Access::ReadOnly);
    let rows = format!("select g as n, repeat('x', 500) as t from generate_series(1, {ROWS}) g");
    for (format, sql, before) in [
        ("csv", rows.clone(), 1),
        ("json", rows.clone(), 1),
        ("json", format!("select 1; {rows}"), 4),
        ("table", rows.clone(), 2),
    ] {
        let mut child = daemon
            .command(&["run", "sushi", "-f", format, "-d", &sql])
            .spawn()
            .unwrap();
        let id = child.id().unwrap();
        let stdout = ChildStdout::from(child.stdout.take().unwrap().into_owned_fd().unwrap());
        let peak = tokio::task::spawn_blocking(move || {
            let mut lines = BufReader::new(stdout).lines();
            // All rows but what the pipe and the last buffers hold.
            let seen = lines
                .by_ref()
                .take(before + ROWS - 2000)
                .filter(|l| l.as_ref().unwrap().contains("xxx"))
                .count();
            assert_eq!(seen, ROWS - 2000);
            let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
            let peak = status
                .lines()
                .find(|line| line.starts_with("VmHWM:"))
                .unwrap();
            let peak: usize = peak.split_whitespace().nth(1).unwrap().parse().unwrap();
            lines.for_each(drop);
            peak
        })
        .await
        .unwrap();
        assert!(child.wait().await.unwrap().success());
        assert!(
            peak < 30 * 1024,
            "{format}: {peak} KiB at the most for 50 MB of rows"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_cancels_the_query() {
    let postgres = Postgres::start();
    let daemon = postgres.daemon(Access::ReadOnly);
    let slow = "do $$ begin raise notice 'started'; perform pg_sleep(3600); end $$";
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let mut child = daemon
            .command(&["run", "sushi", "-d", slow])
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stderr = child.stderr.as_mut().unwrap();
        tokio::io::AsyncBufReadExt::read_line(&mut tokio::io::BufReader::new(stderr), &mut line)
            .await
            .unwrap();
        assert_eq!(line, "NOTICE:  started\n");
        let pid = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(20), child.wait()).await;
        assert_eq!(ended.unwrap().unwrap().code(), Some(code));
        let left = sql(
            &daemon,
            "json",
            "select count(*) as n from pg_stat_activity where query like '%3600%' \
             and state = 'active' and pid <> pg_backend_pid()",
        )
        .await;
        assert_eq!(left.json(), json!([{"n": 0}]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_goes_away_ends_it_quietly() {
    let postgres = Postgres::start();
    let daemon = postgres.daemon(Access::ReadOnly);
    for format in ["csv", "json", "table"] {
        let mut child = daemon
            .command(&[
                "run",
                "sushi",
                "-f",
                format,
                "-d",
                "select * from generate_series(1, 300000)",
            ])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut some = [0; 1];
        tokio::io::AsyncReadExt::read_exact(child.stdout.as_mut().unwrap(), &mut some)
            .await
            .unwrap();
        drop(child.stdout.take());
        Ran::of(child.wait_with_output().await.unwrap()).assert(0, "", "");
    }
}

/// What a table holds is its writers', and not its readers'.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_terminal_would_obey_is_shown_in_every_format() {
    const HOSTILE: &str = "a\u{1b}[2J\u{7}\u{9b}31m\u{202e}\u{2066}\u{feff}z";
    let is_obeyed = |c: char| {
        (c.is_control() && c != '\n') || matches!(c, '\u{202e}' | '\u{2066}' | '\u{feff}')
    };
    let postgres = Postgres::start();
    let daemon = postgres.daemon(Access::ReadOnly);
    let select = format!(
        "select '{HOSTILE}' as \"{HOSTILE}\", '{{\"{HOSTILE}\": \"{}\"}}'::json as j",
        // JSON wants C0 escaped, and nothing else.
        HOSTILE.replace(['\u{1b}', '\u{7}'], "")
    )
    .replacen(&format!("{{\"{HOSTILE}"), "{\"k\u{202e}", 1);
    for format in ["table", "json", "yaml"] {
        let ran = sql(&daemon, format, &select).await;
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
        assert!(!ran.stdout.contains(is_obeyed), "{format}: {ran:?}");
    }
    // Programs get it exactly.
    let json: serde_json::Value =
        serde_json::from_str(&sql(&daemon, "json", &select).await.stdout).unwrap();
    assert_eq!(json[0][HOSTILE], HOSTILE);
    assert_eq!(
        json[0]["j"]["k\u{202e}"],
        "a[2J\u{9b}31m\u{202e}\u{2066}\u{feff}z"
    );
    let yaml: serde_json::Value =
        serde_saphyr::from_str(&sql(&daemon, "yaml", &select).await.stdout).unwrap();
    assert_eq!(yaml, json);
    let csv = sql(&daemon, "csv", &format!("select '{HOSTILE}' as t")).await;
    assert_eq!(csv.stdout, format!("t\n{HOSTILE}\n"));

    // What the database says beside its results.
    for statement in [
        format!("do $$ begin raise notice '{HOSTILE}' using detail = '{HOSTILE}'; end $$"),
        format!(
            "do $$ begin raise '{HOSTILE}' using detail = '{HOSTILE}', hint = '{HOSTILE}'; end $$"
        ),
        format!("select \"{HOSTILE}\" from nowhere"),
        format!("select '{HOSTILE}' bad syntax"),
    ] {
        let ran = sql(&daemon, "table", &statement).await;
        assert!(
            ran.stderr.contains("a\\x1B[2J") || ran.stderr.contains("a [2J"),
            "{ran:?}"
        );
        assert!(!ran.stderr.contains(is_obeyed), "{ran:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_database_behind_the_socket() {
    let postgres = Postgres::start();
    let daemon = postgres.daemon(Access::ReadOnly);
    drop(postgres);
    let ran = sql(&daemon, "csv", "select 1").await;
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.stderr
            .starts_with("error: can't connect to the session's socket "),
        "{ran:?}"
    );
    assert!(
        ran.stderr.ends_with("hint: see `borealisctl list`\n"),
        "{ran:?}"
    );
}

async fn with_input(daemon: &Daemon, words: &[&str], input: &[u8]) -> Ran {
    let mut child = daemon.command(words).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let feeding = tokio::spawn(async move {
        // It may end before it has read everything.
        let _ = stdin.write_all(&input).await;
    });
    let ran = Ran::of(child.wait_with_output().await.unwrap());
    feeding.await.unwrap();
    ran
}

// === impl Ran ===

impl Ran {
    /// One error with this SQLSTATE, nothing on standard output, and how standard error ends.
    #[track_caller]
    fn assert_error(&self, sqlstate: &str, end: &str) {
        assert_eq!((self.code, self.stdout.as_str()), (Some(1), ""), "{self:?}");
        assert!(self.stderr.starts_with("error: "), "{self:?}");
        assert!(
            self.stderr.contains(&format!("(SQLSTATE {sqlstate})\n")),
            "{self:?}"
        );
        assert!(self.stderr.ends_with(end), "{self:?}");
    }
}
