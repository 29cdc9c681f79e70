//! An agent at work while everything around it is replaced.

use std::{
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
};

use borealis_tests::{
    harness::{TestMachine, eventually},
    sandbox::{BastionAction, Options},
};
use serde_json::{Value, json};

use crate::agent::Agent;

const CALLS: usize = 200;
/// Another program rotates each second, until it is told to stop; a dot for each time that it could.
const EACH_SECOND: &str =
    r#"until read -r -t 1; do "$1" rotate sushi >/dev/null 2>&1 && printf .; done"#;

/// The calls, some of which the SQL itself lets fail.
fn call(agent: &Agent, number: usize) -> Result<(), String> {
    let (tool, arguments) = match number % 10 {
        0 => ("describe", json!({"table": "orders"})),
        1 => ("list_databases", json!({})),
        2 => ("explain", json!({"sql": "select * from orders"})),
        3 => ("query", json!({"sql": "select 1 / 0"})),
        4 => (
            "query",
            json!({"sql": "select count(*) from big where id < 300000"}),
        ),
        _ => (
            "query",
            json!({"sql": format!("select {number}, pg_sleep(0.2)")}),
        ),
    };
    let result = agent.call(tool, &arguments);
    let told = || format!("{tool} {arguments}: {result}");
    if number % 10 == 3 {
        let text = result["content"][0]["text"].as_str().unwrap_or_default();
        return if text.contains("22012") {
            Ok(())
        } else {
            Err(told())
        };
    }
    if result["isError"] == Value::Bool(true) {
        return Err(told());
    }
    let first = &result["structuredContent"]["rows"][0][0];
    let right = match number % 10 {
        0..=2 => true,
        4 => *first == 299_999,
        _ => *first == number,
    };
    if right { Ok(()) } else { Err(told()) }
}

#[test]
#[allow(
    clippy::print_stdout,
    reason = "numbers, for who asks with --nocapture"
)]
fn two_hundred_calls_outlive_rotations_a_cut_line_and_a_restart() {
    let mut machine = TestMachine::quiet(Options::default());
    machine.open(&["sushi"]);
    let agent = Arc::new(Agent::start(&machine, &["sushi"]));
    let next = Arc::new(AtomicUsize::new(0));
    let done = Arc::new(AtomicUsize::new(0));
    let (tell, failures) = mpsc::channel();
    let callers: Vec<_> = (0..6)
        .map(|_| {
            let (agent, next, done, tell) = (
                Arc::clone(&agent),
                Arc::clone(&next),
                Arc::clone(&done),
                tell.clone(),
            );
            thread::spawn(move || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= CALLS {
                        return;
                    }
                    if let Err(failure) = call(&agent, number) {
                        let _ = tell.send(failure);
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    drop(tell);
    let await_done = |count: usize| {
        eventually(|| {
            let seen = done.load(Ordering::Relaxed);
            (seen >= count)
                .then_some(())
                .ok_or(format!("{seen} of {count} calls are done"))
        });
    };
    let mut rotating = machine
        .run("bash")
        .args(&[
            "-c",
            EACH_SECOND,
            "bash",
            machine.binary("borealisctl").to_str().unwrap(),
        ])
        .start();
    await_done(40);
    let faults = machine.sandbox.faults();
    machine
        .sandbox
        .block_on(faults.bastion(BastionAction::Cut))
        .unwrap();
    await_done(100);
    machine.kill_daemon();
    machine.start_daemon();
    await_done(160);
    machine
        .sandbox
        .block_on(machine.sandbox.faults().bastion(BastionAction::Reset))
        .unwrap();
    for caller in callers {
        caller.join().unwrap();
    }
    let failed: Vec<_> = failures.iter().collect();
    writeln!(rotating.stdin.take().unwrap(), "stop").unwrap();
    let rotations = rotating.wait_with_output().unwrap().stdout.len();
    println!(
        "{CALLS} calls, {} failed; {rotations} rotations, two cut lines, a killed daemon",
        failed.len()
    );
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(rotations > 2, "{rotations}");
    drop(agent);
    machine.leave();
}

#[test]
fn a_call_that_has_to_wait_says_for_what() {
    let mut machine = TestMachine::new();
    machine.open(&["sushi"]);
    let agent = Agent::start(&machine, &[]);
    let bastion = |machine: &TestMachine, action| {
        let faults = machine.sandbox.faults();
        machine.sandbox.block_on(faults.bastion(action)).unwrap();
    };
    let await_told = |id, wanted: &str| {
        eventually(|| {
            let told = agent.progress(id);
            let is_told = told.iter().any(|stage| stage.contains(wanted));
            is_told
                .then_some(())
                .ok_or(format!("{wanted:?} is not told: {told:?}"))
        });
    };
    let ask = json!({"database": "sushi", "sql": "select 1"});
    bastion(&machine, BastionAction::Stop);
    let asked = agent.begin("query", &ask);
    await_told(asked.id, "waiting for sushi, which is reconnecting");
    bastion(&machine, BastionAction::Start);
    let answer = asked.answer();
    let result = &answer["result"]["structuredContent"];
    assert_eq!(result["rows"], json!([[1]]), "{answer}");
    assert!(
        result["notes"].to_string().contains("waiting for sushi"),
        "{answer}"
    );

    machine.kill_daemon();
    let asked = agent.begin("query", &ask);
    await_told(asked.id, "trying again: borealisd is not running");
    machine.start_daemon();
    let answer = asked.answer();
    assert_eq!(
        answer["result"]["structuredContent"]["rows"],
        json!([[1]]),
        "{answer}"
    );
    machine.leave();
}
