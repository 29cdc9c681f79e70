//! What the tools give: catalogues of any size, typed rows within bounds, plans, errors.

use borealis_tests::harness::{TestMachine, eventually, resident};
use serde_json::{Value, json};
use tokio_postgres::SimpleQueryMessage;

use crate::agent::Agent;

/// Executes SQL as the database's superuser; the first value that comes back.
pub(crate) fn admin(machine: &TestMachine, sql: &str) -> String {
    machine.sandbox.block_on(async {
        let config = machine.sandbox.admin_config("sushi").await.unwrap();
        let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
        let driving = tokio::spawn(connection);
        let said = client.simple_query(sql).await;
        let said = said.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        drop(client);
        driving.await.unwrap().unwrap();
        let row = said.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        });
        row.unwrap_or_default()
    })
}

fn size(value: &Value) -> usize {
    value.to_string().len()
}

#[test]
fn a_catalogue_of_any_size_fits() {
    let machine = TestMachine::new();
    let agent = Agent::start(&machine, &["sushi"]);
    let small = agent.good("describe", &json!({}));
    assert_eq!(small["left_out"], Value::Null);
    assert_eq!(small["database"]["name"], "d4f0");
    let rolls = small["schemas"][0]["tables"].as_array().unwrap();
    let rolls = rolls.iter().find(|table| table["name"] == "rolls").unwrap();
    assert_eq!(rolls["rows"], 12);
    assert!(rolls["bytes"].as_u64().unwrap() > 8000, "{rolls}");

    admin(
        &machine,
        "set role d4f0_rw; create schema wide;
         do $$ begin
             for n in 1..500 loop
                 execute format('create table wide.%I (id int primary key, note text)', 'a_table_with_a_long_name_' || n);
                 execute format('comment on table wide.%I is %L', 'a_table_with_a_long_name_' || n, repeat('told ', 20));
             end loop;
         end $$;
         create table wide.\"Odd \"\" name\" (id bigint references orders on delete cascade, kind text default 'x');
         comment on column wide.\"Odd \"\" name\".kind is 'what it is';
         create index on wide.\"Odd \"\" name\" (kind); analyze",
    );
    let all = agent.good("describe", &json!({"database": "sushi"}));
    assert!(size(&all) <= 32 * 1024, "{}", size(&all));
    let wide = &all["schemas"][1];
    assert_eq!(wide["schema"], "wide");
    assert_eq!(wide["tables"].as_object().unwrap().len(), 501);
    assert!(
        all["left_out"].as_str().unwrap().contains("sizes"),
        "{}",
        all["left_out"]
    );

    let odd = agent.good(
        "describe",
        &json!({"schema": "wide", "table": "Odd \" name"}),
    );
    let odd = &odd["table"];
    assert_eq!(odd["columns"][1]["comment"], "what it is");
    assert_eq!(odd["columns"][1]["default"], "'x'::text");
    assert_eq!(odd["foreign_keys"][0]["references"], "orders");
    assert_eq!(odd["foreign_keys"][0]["columns"], json!(["id"]));
    assert!(
        odd["indexes"][0]["definition"]
            .as_str()
            .unwrap()
            .contains("(kind)"),
        "{odd}"
    );
    let orders = agent.good("describe", &json!({"table": "public.orders"}));
    let referenced = orders["table"]["referenced_by"].as_array().unwrap();
    assert_eq!(referenced.len(), 2, "{orders}");
    let view = agent.good("describe", &json!({"table": "takings"}));
    assert!(
        view["table"]["definition"]
            .as_str()
            .unwrap()
            .contains("GROUP BY"),
        "{view}"
    );
    let said = agent.bad("describe", &json!({"table": "nope"}));
    assert!(said.starts_with("error: there is no table nope"), "{said}");
    machine.leave();
}

#[test]
fn rows_are_typed_and_cut_and_take_no_memory() {
    let machine = TestMachine::new();
    let agent = Agent::start(&machine, &["sushi"]);
    let typed = agent.good(
        "query",
        &json!({"sql": "select 1::int2, 2::int8, 1.50::numeric(6,2), 12345678901234567890.5, true, null, \
            '{\"a\": [1]}'::jsonb, array['x', null, 'y,\"z'], '\\x00ff'::bytea, date '2026-11-29', 'NaN'::float8, \
            array[[1,2],[3,4]], interval '1 day' as waits"}),
    );
    assert_eq!(
        typed["rows"],
        json!([[1, 2, 1.5, "12345678901234567890.5", true, null, {"a": [1]}, ["x", null, "y,\"z"],
            "AP8=", "2026-11-29", "NaN", [[1, 2], [3, 4]], "1 day"]])
    );
    let column = |at: usize| typed["columns"][at].clone();
    assert_eq!(column(2)["type"], "numeric(6,2)");
    assert_eq!(column(7)["type"], "text[]");
    assert_eq!(column(12), json!({"name": "waits", "type": "interval"}));
    assert_eq!(typed["cut"], Value::Null);
    assert_eq!(agent.rows("show transaction_read_only"), json!([["on"]]));
    assert_eq!(
        agent.rows("select current_setting('application_name')"),
        json!([["borealisctl mcp (test-agent)"]])
    );
    assert_eq!(
        agent.good("query", &json!({"sql": "select from rolls limit 2"}))["rows"],
        json!([[], []])
    );

    // 2,000,000 rows of 100 bytes; 1000 of 1 MB; one of 100 MB; an error that quotes half as much.
    let cut = agent.good("query", &json!({"sql": "table big"}));
    assert_eq!(cut["row_count"], 200);
    let because = cut["cut"]["because"].as_str().unwrap();
    assert!(
        because.starts_with("cut after 200 of at least 201 rows"),
        "{because}"
    );
    let cut = agent.good(
        "query",
        &json!({"sql": "select repeat('x', 1000000) from generate_series(1, 1000)"}),
    );
    assert!(size(&cut["rows"]) <= 256 * 1024, "{}", size(&cut["rows"]));
    assert!(
        cut["cut"]["because"]
            .as_str()
            .unwrap()
            .contains("at 262144 bytes"),
        "{}",
        cut["cut"]
    );
    assert_eq!(
        cut["shortened"][0],
        json!({"row": 0, "column": "repeat", "bytes": 1_000_000})
    );
    let wide = agent.good(
        "query",
        &json!({"sql": "select repeat('é', 50000000) as w"}),
    );
    assert_eq!(wide["shortened"][0]["bytes"], 100_000_000);
    let shown = wide["rows"][0][0].as_str().unwrap();
    assert!(
        shown.ends_with("é…") && shown.len() < 5000,
        "{}",
        shown.len()
    );
    let said = agent.bad(
        "query",
        &json!({"sql": "select repeat('x', 50000000)::int"}),
    );
    assert!(
        said.contains("sqlstate: 22P02") && said.len() < 100_000,
        "{}",
        said.len()
    );
    let memory = resident(agent.pid());
    println!("{memory} KiB");
    assert!(memory < 64 * 1024, "{memory} KiB");
    machine.leave();
}

#[test]
fn errors_say_what_is_wrong_where_and_what_to_do() {
    let machine = TestMachine::new();
    let agent = Agent::start(&machine, &["sushi"]);
    let said = agent.bad("query", &json!({"sql": "select name,\n  prize from rolls"}));
    assert_eq!(
        said,
        "error: column \"prize\" does not exist\nsqlstate: 42703\nposition: 16 (line 2, column 3)\n\
         hint: Perhaps you meant to reference the column \"rolls.price\"."
    );
    let said = agent.bad(
        "explain",
        &json!({"sql": "select nope from rolls", "analyze": true}),
    );
    assert!(said.contains("position: 8 (line 1, column 8)"), "{said}");
    let said = agent.bad("query", &json!({"sql": "selec 1"}));
    assert!(said.contains("sqlstate: 42601\nposition: 1 "), "{said}");
    let said = agent.bad("query", &json!({"statement": "select 1"}));
    assert!(said.contains("unknown field `statement`"), "{said}");
    let said = agent.bad("query", &json!({"sql": "select 1", "database": "ramen"}));
    assert_eq!(
        said,
        "error: the database ramen is not served here\nhint: pass one of: sushi"
    );
    let said = agent.bad("write", &json!({}));
    assert!(said.starts_with("error: there is no tool write"), "{said}");
    // PostgreSQL explains to a role what that role may execute.
    let said = agent.bad("explain", &json!({"sql": "update rolls set price = 1"}));
    assert!(said.contains("sqlstate: 42501"), "{said}");
    let plan = agent.good("explain", &json!({"sql": "table rolls"}));
    assert!(
        plan["plan"]
            .as_str()
            .unwrap()
            .starts_with("Seq Scan on public.rolls"),
        "{plan}"
    );
    assert_eq!(agent.leave(), Some(0));
    machine.leave();
}

#[test]
fn a_call_that_is_cancelled_stops_at_the_server() {
    let machine = TestMachine::new();
    machine.open(&["sushi"]);
    let agent = Agent::start(&machine, &[]);
    let running = "select count(*)::text from pg_stat_activity \
                   where application_name like 'borealisctl mcp%' and state = 'active'";
    let await_count = |wanted: &str| {
        eventually(|| {
            let seen = admin(&machine, running);
            (seen == wanted)
                .then_some(())
                .ok_or(format!("{seen} run, not {wanted}"))
        });
    };
    // More than may run at the same time: the last waits for its turn, and is cancelled there.
    let sleep = json!({"sql": "select pg_sleep(29)"});
    let asked: Vec<_> = (0..5).map(|_| agent.begin("query", &sleep)).collect();
    await_count("4");
    eventually(|| {
        let told = agent.progress(asked[0].id);
        told.contains(&"running".to_owned())
            .then_some(())
            .ok_or(format!("{told:?}"))
    });
    agent.cancel(&asked[4]);
    agent.cancel(&asked[0]);
    await_count("3");
    // What goes on is not touched, and there is a turn for others.
    assert_eq!(agent.rows("select 1"), json!([[1]]));
    // A server that is told to end ends what it runs.
    let pid = agent.pid().to_string();
    machine
        .run("kill")
        .args(&["-TERM", &pid])
        .outcome()
        .expect_success();
    await_count("0");
    machine.leave();
}

#[test]
fn sessions_of_other_kinds_are_refused() {
    let machine = TestMachine::new();
    machine.open(&["sushi", "-w"]);
    machine.open(&["sushi", "--role", "app"]);
    machine.open(&["sushi", "--passthrough", "--name", "raw"]);
    for (name, what) in [
        ("sushi-rw", "a session with write access"),
        ("sushi-app", "a session of the app's database user"),
        ("raw", "a passthrough session"),
    ] {
        let outcome = machine
            .run(machine.binary("borealisctl"))
            .args(&["mcp", name])
            .outcome();
        outcome.expect_failure(2, &[what, "hint: name the app or add-on instead"]);
    }
    let agent = Agent::start(&machine, &[]);
    assert_eq!(
        agent.good("list_databases", &json!({}))["databases"],
        json!([])
    );
    let said = agent.bad("query", &json!({"sql": "select 1", "database": "sushi-rw"}));
    assert!(
        said.contains("sushi-rw is a session with write access"),
        "{said}"
    );
    let said = agent.bad("query", &json!({"sql": "select 1"}));
    assert!(said.contains("no read-only session is open"), "{said}");
    drop(agent);
    // Named by its app, it gets a session of its own, for as long as it lives.
    let agent = Agent::start(&machine, &["sushi"]);
    assert_eq!(
        agent.good("list_databases", &json!({}))["databases"][0]["state"],
        "closed"
    );
    assert_eq!(
        agent.rows("select current_setting('default_transaction_read_only')"),
        json!([["on"]])
    );
    assert_eq!(
        agent.good("list_databases", &json!({}))["databases"][0]["state"],
        "up"
    );
    assert_eq!(agent.leave(), Some(0));
    machine.daemon().wait_until_gone("sushi", &machine.sandbox);
    machine.leave();
}
