//! What the reference's `run` does wrong, and ours doesn't.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    time::Duration,
};

use borealis_tests::harness::TestMachine;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

fn run(machine: &TestMachine, format: &str, sql: &str) -> String {
    machine.ctl_ok(&["run", "sushi", "-u", "-f", format, "-d", sql])
}

#[test]
fn the_results_of_all_statements_are_shown() {
    let machine = TestMachine::new();
    let sql = "select 1 as a; select 2 as b";
    assert_eq!(
        run(&machine, "table", sql),
        " a\n---\n 1\n(1 row)\n\n b\n---\n 2\n(1 row)"
    );
    assert_eq!(run(&machine, "csv", sql), "a\n1\n\nb\n2");
    assert_eq!(
        run(&machine, "json", sql),
        "[\n{\"a\":1}\n]\n[\n{\"b\":2}\n]"
    );
    assert_eq!(run(&machine, "yaml", sql), "- a: 1\n---\n- b: 2");
    assert_eq!(run(&machine, "table", ""), "");
    machine.leave();
}

/// What psql shows is what is there.
#[test]
fn values_are_what_they_are_in_every_zone() {
    let mut machine = TestMachine::new();
    let sql = "select null::text as nothing, ''::text as empty, '2026-03-01'::date as day, \
        '2026-03-01 01:02:03.123456'::timestamp as stamp, \
        '2026-03-01 01:02:03.123456+05:30'::timestamptz as moment, \
        array(select generate_series(1, 500)) as long, \
        '{\"a\": {\"b\": {\"c\": {\"d\": [1, {\"e\": [2, 3]}]}}}}'::jsonb as nested, \
        decode(repeat('00ff', 2000), 'hex') as bytes, repeat('x', 100000) as text, \
        '1.10'::numeric as exact, 9223372036854775807 as big, E'a\\nb\\t\"c\"' as lines";
    for zone in ["UTC", "Pacific/Kiritimati", "America/Los_Angeles"] {
        machine.set("TZ", zone);
        let url = machine.open(&["sushi"]);
        // As COPY has it, which tells a NULL from an empty text; psql's own CSV doesn't.
        let copied = format!("copy ({sql}) to stdout (format csv, header)");
        assert!(
            run(&machine, "csv", sql) == machine.query(&url, &copied),
            "{zone}"
        );
        let shown: serde_json::Value = serde_json::from_str(&run(&machine, "json", sql)).unwrap();
        let row = &shown[0];
        assert_eq!((&row["nothing"], &row["empty"]), (&json!(null), &json!("")));
        assert_eq!(row["day"], "2026-03-01", "{zone}");
        assert_eq!(row["stamp"], "2026-03-01 01:02:03.123456", "{zone}");
        assert_eq!(row["nested"]["a"]["b"]["c"]["d"][1]["e"], json!([2, 3]));
        assert_eq!(row["bytes"].as_str().unwrap().len(), 2 + 8000);
        assert_eq!(row["big"], json!(9_223_372_036_854_775_807_i64));
        let table = run(&machine, "table", sql);
        assert!(table.contains(" NULL ") && table.contains(&"x".repeat(100_000)));
    }
    machine.leave();
}

#[test]
fn a_query_ends_with_its_command() {
    let machine = TestMachine::new();
    let url = machine.open(&["sushi"]);
    let count = "select count(*) from pg_stat_activity where query like 'select pg_sleep(601)%'";
    let ends = [
        (Signal::INT, Some(130)),
        (Signal::TERM, Some(143)),
        // The terminal was closed.
        (Signal::HUP, Some(129)),
        (Signal::QUIT, Some(131)),
        // Nothing is left to say so: the server looks itself.
        (Signal::KILL, None),
    ];
    for (signal, code) in ends {
        let slow = ["run", "sushi", "-u", "-d", "select pg_sleep(601)"];
        let mut child = machine
            .run(machine.binary("borealisctl"))
            .args(&slow)
            .start();
        while machine.query(&url, count) != "1" {}
        kill_process(Pid::from_child(&child), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), code);
        while machine.query(&url, count) != "0" {}
    }
    machine.leave();
}

/// What pg_dump writes as text has psql's own commands in it.
#[test]
fn a_plain_dump_is_executed_by_psql_and_all_or_nothing() {
    let machine = TestMachine::new();
    let run = |words: &[&str]| machine.ctl(&[&["run", "sushi", "-u"], words].concat());
    run(&[
        "-w",
        "-d",
        "create table dumped (n int, t text); insert into dumped values (1, E'\\\\x'), (2, null)",
    ])
    .expect_success();
    let dump = ["--", "pg_dump", "--no-owner", "--no-acl", "-t", "dumped"];
    let dump = run(&dump).expect_success();
    assert!(dump.contains("\n\\.\n"), "{dump}");
    let file = machine.path("dump.sql");
    fs::write(&file, format!("\\set nothing 1\n{dump}\n")).unwrap();
    let file = file.to_str().unwrap();

    // It is there already: nothing of the dump comes in, and the exit code is psql's.
    let again = run(&["-w", "-i", file]);
    again.expect_failure(3, &["psql executes it", "already exists"]);
    run(&["-w", "-d", "drop table dumped"]).expect_success();
    let restored = run(&["-w", "-i", file]);
    assert_eq!(
        (restored.code, restored.stdout.contains("ERROR")),
        (Some(0), false),
        "{restored:?}"
    );
    let rows = run(&["-f", "csv", "-d", "select n, t from dumped order by n"]);
    assert_eq!(rows.expect_success(), "n,t\n1,\\x\n2,");

    // On standard input as well.
    run(&["-w", "-d", "drop table dumped"]).expect_success();
    let input = machine
        .run(machine.binary("borealisctl"))
        .args(&["run", "sushi", "-u", "-w", "-i", "-"])
        .input(fs::read(file).unwrap());
    input.outcome().expect_success();
    let count = ["-f", "csv", "-d", "select count(*) from dumped"];
    assert_eq!(run(&count).expect_success(), "count\n2");
    machine.leave();
}

/// Through the tunnel, whole and unchanged: long, without line breaks, no UTF-8.
#[test]
fn a_commands_output_is_its_own() {
    let machine = TestMachine::new();
    let shell = ["run", "sushi", "-u", "-e"];
    let direct = "head -c 3000000 /dev/zero | tr '\\0' x; printf '\\377\\376'";
    let args = [&shell[..], &[direct]].concat();
    let mut child = machine
        .run(machine.binary("borealisctl"))
        .args(&args)
        .start();
    let mut bytes = Vec::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_end(&mut bytes)
        .unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(bytes.len(), 3_000_002);
    assert_eq!(bytes[3_000_000..], *b"\xff\xfe");
    let copied = machine.ctl_ok(&[
        "run",
        "sushi",
        "-u",
        "-d",
        "copy (select '\\x') to stdout; do $$ begin raise notice 'noticed'; end $$",
    ]);
    assert!(copied.starts_with("\\\\x"), "{copied}");
    let noticed = machine.ctl(&[
        "run",
        "sushi",
        "-u",
        "-d",
        "do $$ begin raise notice 'noticed'; end $$",
    ]);
    assert_eq!(noticed.stderr, "NOTICE:  noticed\n");
    machine.leave();
}

/// Rows come and go: borealisctl's memory doesn't grow with them.
#[test]
fn a_million_rows_need_no_more_memory_than_a_few() {
    const ROWS: usize = 1_000_000;
    let machine = TestMachine::quiet(Default::default());
    machine.open(&["sushi"]);
    let sql =
        format!("select g as number, repeat('x', 60) as text from generate_series(1, {ROWS}) g");
    for (format, lines) in [("csv", ROWS + 1), ("json", ROWS + 2)] {
        let args = ["run", "sushi", "-u", "-f", format, "-d", &sql];
        let mut child = machine
            .run(machine.binary("borealisctl"))
            .args(&args)
            .start();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = Vec::new();
        let mut next = || {
            line.clear();
            stdout.read_until(b'\n', &mut line).unwrap() > 0
        };
        // Up to what the pipe and the last buffers hold it is still at work.
        let sure = lines - 10_000;
        let mut seen = 0;
        while seen < sure && next() {
            seen += 1;
        }
        let peak = peak_kib(child.id());
        while next() {
            seen += 1;
        }
        assert!(child.wait().unwrap().success());
        assert_eq!(seen, lines, "{format}");
        assert!(peak < 30 * 1024, "{format}: {peak} KiB");
    }
    machine.leave();
}

/// The most memory that a process has had, in KiB.
fn peak_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    peak.split_whitespace().next().unwrap().parse().unwrap()
}

/// The reference takes 0.65 s to load and 1.17 s for one query; this bounds no more than that.
#[test]
fn a_query_takes_less_than_the_reference_needs_to_load() {
    let machine = TestMachine::quiet(Default::default());
    machine.open(&["sushi"]);
    let fastest = (0..5).map(|_| {
        let start = std::time::Instant::now();
        run(&machine, "csv", "select 1");
        start.elapsed()
    });
    let fastest = fastest.min().unwrap();
    assert!(fastest < Duration::from_millis(650), "{fastest:?}");
    machine.leave();
}
