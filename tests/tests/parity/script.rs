//! A shell script written for the reference tool runs here, its flags unchanged.

use std::{fs, time::Duration};

use borealis_tests::{harness::TestMachine, sandbox::Options};

use crate::{free_port, texts};

const KEY: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIHJeBDUC7x5UkuAT5Mn6GvWI65nZI0t1ifJJ6Pu5GRMV";

#[test]
fn runs_once_its_commands_first_words_are_replaced() {
    let mut machine = TestMachine::before(Options {
        provisioning_time: Duration::ZERO,
        ..Options::default()
    });
    let tools = machine.binary("borealisctl");
    let path = format!(
        "{}:{}",
        tools.parent().unwrap().display(),
        std::env::var("PATH").unwrap()
    );
    machine.set("PATH", &path);
    machine.set("KEY", KEY);
    machine.set("PORT", &free_port());
    let written = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/parity/team.sh");
    let replaced = machine
        .run("sed")
        .args(&["s/heroku borealis-pg:/borealisctl /", written])
        .outcome()
        .expect_success();
    fs::write(machine.path("team.sh"), replaced).unwrap();
    let seed = "insert into migrated values (1, '2026-03-01'), (2, null);\n";
    fs::write(machine.path("seed.sql"), seed).unwrap();

    let ran = machine.run("sh").args(&["team.sh"]).outcome();
    let said = format!("{}--- standard error ---\n{}", ran.stdout, ran.stderr);
    texts::compare("team.txt", &said);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    // Nothing of it stays open.
    for session in ["sushi", "sushi-rw", "sushi-app", "sushi-app-rw", "udon-app"] {
        machine.daemon().wait_until_gone(session, &machine.sandbox);
    }
    machine.leave();
}
