//! A git checkout with Heroku remotes.

use std::fs;

use borealis_tests::harness::TestMachine;

use crate::ctl_in;

#[test]
fn in_a_checkout_with_one_heroku_remote_nothing_has_to_be_named() {
    let machine = TestMachine::new();
    let dir = machine.path("checkout");
    fs::create_dir(&dir).unwrap();
    let git = |words: &[&str]| {
        machine
            .run("git")
            .args(words)
            .dir(&dir)
            .outcome()
            .expect_success();
    };
    git(&["init", "--quiet"]);
    git(&["remote", "add", "origin", "git@github.com:me/sushi.git"]);
    git(&[
        "remote",
        "add",
        "heroku",
        "https://git.heroku.com/sushi.git",
    ]);
    let ctl = |words: &[&str]| ctl_in(&machine, &dir, words);
    let asked = "select current_database()";
    let psql = ["psql", "--", "-XAtqc", asked];
    assert_eq!(ctl(&psql).expect_success(), "d4f0");
    let run = ["run", "-d", asked, "-f", "csv"];
    assert_eq!(ctl(&run).expect_success(), "current_database\nd4f0");
    let opened = ctl(&["open", "-f", "json"]).expect_success();
    assert!(opened.contains("\"name\": \"sushi\""), "{opened}");
    assert_eq!(ctl(&psql).expect_success(), "d4f0");
    let info = ctl(&["info", "-f", "json"]).expect_success();
    assert!(info.contains("borealis-pg-hex-12345"), "{info}");

    git(&["remote", "add", "other", "git@heroku.com:udon.git"]);
    for words in [&psql[..], &run, &["open"]] {
        let told = "several git remotes are Heroku apps: heroku (sushi), other (udon)";
        ctl(words).expect_failure(5, &[told, "--remote NAME"]);
    }
    assert_eq!(
        ctl(&["psql", "--remote", "heroku", "--", "-XAtqc", asked]).expect_success(),
        "d4f0"
    );
    machine.leave();
}
