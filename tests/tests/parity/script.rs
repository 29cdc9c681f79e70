//! A shell script written for the reference tool runs here, its flags unchanged.

use std::{fs, time::Duration};

use borealis_tests::{harness::Desk, sandbox::Options};

use crate::{free_port, texts};

const KEY: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIHJeBDUC7x5UkuAT5Mn6GvWI65nZI0t1ifJJ6Pu5GRMV";

#[test]
fn runs_once_its_commands_first_words_are_replaced() {
    let mut desk = Desk::before(Options {
        provisioning_time: Duration::ZERO,
        ..Options::default()
    });
    let tools = desk.binary("borealisctl");
    let path = format!(
        "{}:{}",
        tools.parent().unwrap().display(),
        std::env::var("PATH").unwrap()
    );
    desk.set("PATH", &path);
    desk.set("KEY", KEY);
    desk.set("PORT", &free_port());
    let written = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/parity/team.sh");
    let replaced = desk
        .run("sed")
        .args(&["s/heroku borealis-pg:/borealisctl /", written])
        .outcome()
        .expect_success();
    fs::write(desk.path("team.sh"), replaced).unwrap();
    let seed = "insert into migrated values (1, '2026-03-01'), (2, null);\n";
    fs::write(desk.path("seed.sql"), seed).unwrap();

    let ran = desk.run("sh").args(&["team.sh"]).outcome();
    let said = format!("{}--- standard error ---\n{}", ran.stdout, ran.stderr);
    texts::compare("team.txt", &said);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    // Nothing of it stays open.
    for session in ["sushi", "sushi-rw", "sushi-app", "sushi-app-rw", "udon-app"] {
        desk.daemon().wait_until_gone(session, &desk.sandbox);
    }
    desk.leave();
}
