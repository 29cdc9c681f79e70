//! Attempts to write, to leave the transaction, to run on, to reach beyond the database, to use it up:
//! each is refused or bounded, and the database is afterwards as it was before.

use std::io::{BufRead as _, BufReader, Write as _};

use borealis_tests::harness::{TestMachine, resident};
use serde_json::{Value, json};

use crate::{agent::Agent, reading::admin};

/// What is said of the refusals that are our own.
const OWN: &str = "is not executed here: this reads, and nothing else";
const FUNCTION: &str = "is not called here";
const SEVERAL: &str = "refused: several statements";
/// PostgreSQL's own: a read-only transaction; a right that isn't there; its grammar; its time.
const READ_ONLY: &str = "sqlstate: 25006";
const NO_RIGHT: &str = "sqlstate: 42501";
const GRAMMAR: &str = "sqlstate: 42601";
const NO_CURSOR: &str = "DECLARE CURSOR must not contain data-modifying statements in WITH";
const TIME: &str = "sqlstate: 57014";

/// What is asked with `query`, and what must be said.
const QUERIES: &[(&str, &str)] = &[
    // To write.
    (
        "insert into rolls (name, price, vegetarian, pieces) values ('x', 1, true, 1)",
        OWN,
    ),
    ("update rolls set price = 0", OWN),
    ("/* select */ delete from order_items", OWN),
    ("-- select\n truncate orders cascade", OWN),
    (
        "merge into rolls r using rolls s on r.id = s.id when matched then delete",
        OWN,
    ),
    ("create table stolen as select * from customers", OWN),
    ("drop table orders cascade", OWN),
    ("alter table rolls add column x int", OWN),
    ("comment on table rolls is 'x'", OWN),
    ("grant all on rolls to public", OWN),
    ("refresh materialized view takings", OWN),
    ("vacuum rolls", OWN),
    ("lock table rolls", OWN),
    (
        "with gone as (delete from order_items returning *) select * from gone",
        NO_CURSOR,
    ),
    (
        "with new as (insert into customers values (default) returning 1) table new",
        NO_CURSOR,
    ),
    ("select * into stolen from customers", GRAMMAR),
    ("select * from rolls for update", READ_ONLY),
    ("(select 1 from rolls for key share)", READ_ONLY),
    ("select nextval('rolls_id_seq')", NO_RIGHT),
    ("select setval('rolls_id_seq', 1)", NO_RIGHT),
    ("select hidden_delete()", READ_ONLY),
    ("select hidden_nextval()", READ_ONLY),
    ("select lo_create(0)", FUNCTION),
    ("select lo_from_bytea(0, 'x')", FUNCTION),
    (
        "select query_to_xml('delete from orders', true, true, '')",
        FUNCTION,
    ),
    ("select pg_logical_emit_message(false, 'x', 'y')", FUNCTION),
    // To leave the transaction, or to send something after the query.
    ("commit", OWN),
    ("rollback and chain", OWN),
    ("begin", OWN),
    ("savepoint x", OWN),
    ("prepare transaction 'x'", OWN),
    ("select 1; delete from orders", SEVERAL),
    ("commit; delete from orders", SEVERAL),
    ("; delete from orders", SEVERAL),
    (
        "select $a$;$a$ /* ; /* */ ; */ ; drop table orders",
        SEVERAL,
    ),
    ("select '\\'; drop table orders; --'", SEVERAL),
    ("set transaction read write", OWN),
    ("set session characteristics as transaction read write", OWN),
    ("reset all", OWN),
    ("set role d4f0_rw", OWN),
    ("set session authorization d4f0_rw", OWN),
    ("discard all", OWN),
    (
        "select set_config('transaction_read_only', 'off', false)",
        FUNCTION,
    ),
    ("select hidden_read_write()", "sqlstate: 25001"),
    ("declare c cursor with hold for select 1", OWN),
    ("execute x", OWN),
    ("do $$ begin delete from orders; end $$", OWN),
    ("call hidden_commit()", OWN),
    (
        "explain analyze delete from orders",
        "refused: EXPLAIN is no query",
    ),
    ("select 1) cursor with hold for (select 1", GRAMMAR),
    ("show transaction_read_only; commit", SEVERAL),
    ("listen x", OWN),
    // To reach beyond the database.
    ("copy rolls to program 'touch /tmp/borealis-was-here'", OWN),
    ("copy rolls from '/etc/passwd'", OWN),
    ("copy (select 1) to stdout", OWN),
    ("select pg_read_file('/etc/passwd')", NO_RIGHT),
    ("select pg_ls_dir('.')", NO_RIGHT),
    ("select lo_import('/etc/passwd')", FUNCTION),
    ("select lo_export(1, '/tmp/x')", FUNCTION),
    (
        "select dblink_exec('dbname=d4f0', 'delete from orders')",
        FUNCTION,
    ),
    ("load 'auto_explain'", OWN),
    ("select passwd from pg_shadow", NO_RIGHT),
    // To harm others.
    (
        "select pg_terminate_backend(pid) from pg_stat_activity",
        FUNCTION,
    ),
    (
        "select pg_catalog . \"pg_terminate_backend\" /**/ (pid) from pg_stat_activity",
        FUNCTION,
    ),
    (
        "select U&\"pg\\005fterminate_backend\"(pid) from pg_stat_activity",
        "a name is written with U&",
    ),
    (
        "select E'a'\n'\\'', pg_terminate_backend(pid), '' from pg_stat_activity",
        "a string with escapes",
    ),
    (
        "select pg_cancel_backend(pid) from pg_stat_activity",
        FUNCTION,
    ),
    ("select pg_advisory_lock(1)", FUNCTION),
    ("select pg_try_advisory_xact_lock_shared(1)", FUNCTION),
    ("select pg_reload_conf()", NO_RIGHT),
    ("select pg_switch_wal()", NO_RIGHT),
    ("select pg_create_restore_point('x')", NO_RIGHT),
    ("select pg_stat_reset()", NO_RIGHT),
    ("select pg_promote()", NO_RIGHT),
    ("select pg_create_physical_replication_slot('x')", NO_RIGHT),
    // To use up time and memory.
    ("select pg_sleep(3600)", TIME),
    (
        "with recursive r as (select 1 union all select 1 from r) select count(*) from r",
        TIME,
    ),
    ("select count(*) from big a, big b", TIME),
    ("select hidden_sleep()", TIME),
    (
        "select count(*) from generate_series(1, 100000000000)",
        TIME,
    ),
    (
        "select length(string_agg(repeat('x', 1000), '')) from generate_series(1, 10000000)",
        "sqlstate: ",
    ),
    ("select repeat('x', 2000000000)", "sqlstate: "),
    (
        "select array_agg(g) from generate_series(1, 1000000000) g",
        "sqlstate: ",
    ),
];

/// The same of `explain`, with `analyze`.
const MEASURED: &[(&str, &str)] = &[
    ("delete from orders", OWN),
    ("create table stolen as select 1", OWN),
    ("analyze delete from orders", OWN),
    (
        "with gone as (delete from orders returning 1) select * from gone",
        NO_CURSOR,
    ),
    ("select hidden_delete()", READ_ONLY),
    ("select pg_terminate_backend(1)", FUNCTION),
    ("select pg_sleep(3600)", TIME),
    ("select 1 into stolen", GRAMMAR),
];

/// The same without.
const PLANNED: &[(&str, &str)] = &[
    ("analyze delete from orders", GRAMMAR),
    ("(analyze) delete from orders", GRAMMAR),
    ("delete from orders; commit", SEVERAL),
    (
        "explain analyze delete from orders",
        "refused: EXPLAIN can't be explained",
    ),
];

/// Functions as an app may have them, with the rights of the owner of everything.
const HIDDEN: &str = "
    set role d4f0_rw;
    create function hidden_delete() returns int language plpgsql security definer
        as 'begin delete from orders; return 1; end';
    create function hidden_nextval() returns bigint language sql security definer
        as $$ select nextval('rolls_id_seq') $$;
    create function hidden_read_write() returns int language plpgsql security definer as $$ begin
        perform set_config('transaction_read_only', 'off', true); delete from orders; return 1; end $$;
    create function hidden_sleep() returns int language plpgsql as $$ begin
        perform set_config('statement_timeout', '0', false); perform pg_sleep(3600); return 1; end $$;
    create procedure hidden_commit() language plpgsql as 'begin commit; delete from orders; end';
    reset role";

/// Everything that is in the database, as the provider's superuser dumps it.
fn dumped(machine: &TestMachine) -> String {
    let config = machine
        .sandbox
        .block_on(machine.sandbox.admin_config("sushi"))
        .unwrap();
    let [tokio_postgres::config::Host::Unix(dir)] = config.get_hosts() else {
        panic!("not one socket");
    };
    let port = config.get_ports()[0].to_string();
    machine
        .run("pg_dump")
        .args(&[
            "-h",
            dir.to_str().unwrap(),
            "-p",
            &port,
            "-U",
            config.get_user().unwrap(),
        ])
        .args(&["-b", config.get_dbname().unwrap()])
        .outcome()
        .expect_success()
        .lines()
        // Newer ones write a random word into a line of psql's.
        .filter(|line| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict"))
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
#[allow(
    clippy::print_stdout,
    reason = "numbers, for who asks with --nocapture"
)]
fn everything_is_refused_or_bounded_and_changes_nothing() {
    let machine = TestMachine::new();
    machine.open(&["sushi"]);
    admin(&machine, HIDDEN);
    let before = dumped(&machine);
    // The user's own work, as the same database user.
    let mut psql = machine
        .run(machine.binary("borealisctl"))
        .args(&["psql", "sushi", "--", "-XAtq"])
        .start();
    let mut told = BufReader::new(psql.stdout.take().unwrap()).lines();
    let mut ask = |number: u32| {
        let stdin = psql.stdin.as_mut().unwrap();
        writeln!(stdin, "select {number};").unwrap();
        assert_eq!(told.next().unwrap().unwrap(), number.to_string());
    };
    ask(1);
    let agent = Agent::start(&machine, &["sushi", "--timeout", "1s"]);
    let attempts = QUERIES
        .iter()
        .map(|(sql, said)| ("query", json!({"sql": sql}), said))
        .chain(
            MEASURED
                .iter()
                .map(|(sql, said)| ("explain", json!({"sql": sql, "analyze": true}), said)),
        )
        .chain(
            PLANNED
                .iter()
                .map(|(sql, said)| ("explain", json!({"sql": sql}), said)),
        );
    // All are begun before any is waited for: what one does must not lead through for another.
    let asked: Vec<_> = attempts
        .map(|(tool, arguments, said)| (agent.begin(tool, &arguments), arguments, said))
        .collect();
    let count = asked.len();
    let mut wrong = Vec::new();
    for (asked, arguments, said) in asked {
        let answer = asked.answer();
        let result = &answer["result"];
        let text = result["content"][0]["text"].as_str().unwrap_or_default();
        if result["isError"] != Value::Bool(true) || !text.contains(said) {
            wrong.push(format!("{arguments}: not {said:?} but {text}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let memory = resident(agent.pid());
    println!("{count} attempts, none led through; the server has {memory} KiB");
    assert!(memory < 64 * 1024, "{memory} KiB");
    assert_eq!(
        agent.rows("select count(*) from pg_locks where locktype = 'advisory'"),
        json!([[0]])
    );
    ask(2);
    drop(psql.stdin.take());
    psql.wait().unwrap();
    assert!(dumped(&machine) == before, "the database has changed");
    assert_eq!(agent.leave(), Some(0));
    machine.leave();
}

#[test]
fn a_database_user_whom_nothing_holds_back_is_not_used() {
    let machine = TestMachine::new();
    let agent = Agent::start(&machine, &["sushi"]);
    let user = agent.rows("select current_user::text");
    let user = user[0][0].as_str().unwrap();
    for (give, take, said) in [
        (
            format!("alter role \"{user}\" superuser"),
            format!("alter role \"{user}\" nosuperuser"),
            "nothing was asked: the database user is a superuser",
        ),
        (
            format!("grant pg_execute_server_program to \"{user}\""),
            format!("revoke pg_execute_server_program from \"{user}\""),
            "nothing was asked: the database user may reach files or programs of the server",
        ),
    ] {
        admin(&machine, &give);
        let refused = agent.bad("query", &json!({"sql": "select 1"}));
        assert!(refused.contains(said), "{refused}");
        admin(&machine, &take);
        assert_eq!(agent.rows("select 1"), json!([[1]]));
    }
    machine.leave();
}
