//! In a project: a git checkout, a `borealis.toml`, and what other programs import.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that meets the unexpected has failed"
)]

mod checkout;
mod file;
mod programs;

use std::{
    fs,
    path::{Path, PathBuf},
};

use borealis_tests::harness::{Outcome, TestMachine};

/// A directory below the home, with a project file in it.
fn project(machine: &TestMachine, name: &str, text: &str) -> PathBuf {
    let dir = machine.path(name);
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("borealis.toml"), text).unwrap();
    dir
}

/// Runs borealisctl in a directory.
fn ctl_in(machine: &TestMachine, dir: &Path, args: &[&str]) -> Outcome {
    let run = machine.run(machine.binary("borealisctl"));
    run.args(args).dir(dir).outcome()
}

/// The names of the open sessions.
fn open(machine: &TestMachine) -> Vec<String> {
    let sessions = machine.json(&["list"]);
    let names = sessions.as_array().unwrap().iter();
    names
        .map(|session| session["name"].as_str().unwrap().to_owned())
        .collect()
}
