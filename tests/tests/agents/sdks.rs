//! The official Python SDK's client, and the official inspector's command line, list and call every
//! tool. `tests/scripts/drivers` installs them.

use std::path::{Path, PathBuf};

use borealis_tests::harness::TestMachine;
use serde_json::{Value, json};

/// A path below what `tests/scripts/drivers` has installed. Without it these tests fail.
fn installed(below: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/drivers");
    let root = std::env::var_os("BOREALIS_DRIVERS").map_or(root, PathBuf::from);
    let path = root.join(below);
    assert!(
        path.exists(),
        "{} is missing: `tests/scripts/drivers` installs the clients that these tests run \
         (it needs PyPI and the npm registry); `make test` calls it",
        path.display()
    );
    path
}

#[test]
#[allow(
    clippy::print_stdout,
    reason = "versions, for who asks with --nocapture"
)]
fn the_python_sdk_lists_and_calls_every_tool() {
    let machine = TestMachine::new();
    let checks = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/agents/programs/sdk_checks.py");
    let ctl = machine.binary("borealisctl");
    let outcome = machine
        .run(installed("python/bin/python"))
        .args(&[
            checks.to_str().unwrap(),
            ctl.to_str().unwrap(),
            "mcp",
            "sushi",
        ])
        .outcome();
    println!("{}", outcome.expect_success());
    machine.leave();
}

#[test]
fn the_inspector_lists_and_calls_every_tool() {
    let machine = TestMachine::new();
    machine.open(&["sushi"]);
    let inspector = installed("node_modules/.bin/mcp-inspector");
    let ctl = machine.binary("borealisctl");
    let inspect = |args: &[&str]| -> Value {
        // It hands the variables that it is told of to the server, and few others.
        let own: Vec<String> = [
            "HOME",
            "XDG_RUNTIME_DIR",
            "XDG_STATE_HOME",
            "XDG_CONFIG_HOME",
        ]
        .iter()
        .map(|name| {
            let below = match *name {
                "XDG_RUNTIME_DIR" => "run",
                "XDG_STATE_HOME" => "state",
                "XDG_CONFIG_HOME" => "config",
                _ => "",
            };
            format!("{name}={}", machine.path(below).display())
        })
        .collect();
        let mut all = vec![inspector.to_str().unwrap(), "--cli"];
        for variable in &own {
            all.extend(["-e", variable]);
        }
        all.extend([ctl.to_str().unwrap(), "mcp"]);
        all.extend(args);
        let said = machine.run("node").args(&all).outcome().expect_success();
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error} in {said}"))
    };
    let listed = inspect(&["--method", "tools/list"]);
    let names: Vec<_> = listed["tools"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tool| tool["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["list_databases", "describe", "query", "explain"]);
    let call = |tool: &str, arguments: &[&str]| {
        let mut args = vec!["--method", "tools/call", "--tool-name", tool];
        for argument in arguments {
            args.extend(["--tool-arg", argument]);
        }
        let called = inspect(&args);
        assert_ne!(called["isError"], true, "{called}");
        called["structuredContent"].clone()
    };
    assert_eq!(
        call("list_databases", &[])["databases"][0]["database"],
        "sushi"
    );
    let table = call("describe", &["table=rolls"]);
    assert_eq!(table["table"]["primary_key"], json!(["id"]));
    let rows = call("query", &["sql=select count(*) from rolls"]);
    assert_eq!(rows["rows"], json!([[12]]));
    let plan = call("explain", &["sql=select from rolls"]);
    assert!(
        plan["plan"].as_str().unwrap().contains("Seq Scan"),
        "{plan}"
    );
    machine.leave();
}
