//! Who is connected, which program that is, and what can be done to one connection without the
//! others noticing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that meets the unexpected has failed"
)]

mod client;
mod ending;
mod programs;
mod states;

use borealis_tests::harness::{
    TestMachine, eventually,
    wire::{self, Wire},
};
use serde_json::Value;

/// What `ps` shows of all sessions.
#[track_caller]
fn ps(machine: &TestMachine) -> Vec<Value> {
    let Value::Array(all) = machine.json(&["ps"]) else {
        panic!("ps is no array")
    };
    all
}

/// Waits until `ps` shows a connection that is as wanted.
#[track_caller]
fn wait_for(machine: &TestMachine, wanted: impl Fn(&Value) -> bool) -> Value {
    eventually(|| {
        let all = ps(machine);
        let found = all.iter().find(|connection| wanted(connection));
        found.cloned().ok_or_else(|| format!("{all:#?}"))
    })
}

/// The connection that the server's process of this number serves.
#[track_caller]
fn served_by(machine: &TestMachine, backend: &str) -> Value {
    wait_for(machine, |connection| serves(connection, backend))
}

/// Whether the server's process of this number serves a connection.
fn serves(connection: &Value, backend: &str) -> bool {
    connection["backend_pid"].as_u64() == backend.parse().ok()
}

fn id(connection: &Value) -> String {
    connection["id"].as_u64().unwrap().to_string()
}

/// Runs what answers without a row, and must succeed.
#[track_caller]
fn does(client: &mut Wire, sql: &str) {
    client.send(&wire::query(sql)).unwrap();
    let told = client.until(b'Z').unwrap();
    assert!(told.iter().all(|message| message.tag != b'E'), "{told:?}");
}
