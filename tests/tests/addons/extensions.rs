//! `extensions`, against a real PostgreSQL's.

use borealis_tests::{
    harness::TestMachine,
    sandbox::{Action, Api, Fault},
};
use serde_json::{Value, json};

fn names(machine: &TestMachine, target: &[&str]) -> Vec<String> {
    let list = machine.json(&[&["extensions"], target].concat());
    let list = list.as_array().unwrap().iter();
    list.map(|extension| extension["name"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn an_extension_is_installed_listed_and_removed() {
    let machine = TestMachine::new();
    assert_eq!(names(&machine, &["sushi"]), [""; 0]);
    let shown = machine.ctl_ok(&["extensions", "install", "sushi", "pg_trgm"]);
    let mut lines = shown
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    assert_eq!(lines.next().unwrap(), ["EXTENSION", "VERSION", "SCHEMA"]);
    assert_eq!(lines.next().unwrap(), ["pg_trgm", "1.6", "ext_pg_trgm"]);
    assert_eq!(
        machine.json(&["extensions", "sushi"]),
        json!([{"name": "pg_trgm", "version": "1.6", "schema": "ext_pg_trgm"}])
    );
    assert_eq!(
        machine.ctl_ok(&["extensions", "sushi", "-f", "csv"]),
        "name,version,schema\npg_trgm,1.6,ext_pg_trgm"
    );
    let url = machine.open(&["sushi"]);
    assert_eq!(
        machine.query(&url, "select ext_pg_trgm.similarity('a', 'a')"),
        "1"
    );
    let removed = machine.json(&["extensions", "remove", "sushi", "pg_trgm", "-c", "pg_trgm"]);
    assert_eq!(removed["addon"], "borealis-pg-hex-12345");
    assert_eq!(names(&machine, &["sushi"]), [""; 0]);
    machine.leave();
}

/// As the reference's doc has them, but for the first words.
#[test]
fn the_references_ways_of_writing_them_work() {
    let machine = TestMachine::new();
    machine.ctl_ok(&["extensions:install", "--app", "sushi", "cube"]);
    let maroon = ["--app", "ramen", "--addon", "BOREALIS_PG_MAROON"];
    machine.ctl_ok(&[&["extensions:install"], &maroon[..], &["bloom"]].concat());
    machine.ctl_ok(&[
        "extensions:install",
        "--suppress-conflict",
        "--addon",
        "borealis-pg-oval-23456",
        "pg_trgm",
    ]);
    assert_eq!(names(&machine, &["--app", "sushi"]), ["cube"]);
    assert_eq!(
        names(&machine, &["ramen::BOREALIS_PG_MAROON"]),
        ["bloom", "pg_trgm"]
    );
    // A session's name is a target too.
    machine.open(&["sushi", "--name", "lunch"]);
    assert_eq!(names(&machine, &["lunch"]), ["cube"]);
    machine.ctl_ok(&[
        "extensions:remove",
        "--confirm",
        "cube",
        "--app",
        "sushi",
        "cube",
    ]);
    assert_eq!(names(&machine, &["lunch"]), [""; 0]);
    machine.leave();
}

#[test]
fn dependencies_are_named_or_installed_first() {
    let machine = TestMachine::new();
    let install = ["extensions", "install", "sushi", "earthdistance"];
    machine.ctl(&install).expect_failure(
        1,
        &[
            "extension earthdistance",
            "unsatisfied dependencies",
            "cube",
            "hint:",
            "--recursive",
        ],
    );
    assert_eq!(names(&machine, &["sushi"]), [""; 0]);
    let installed = machine.json(&[&install[..], &["--recursive"]].concat());
    let order: Vec<_> = installed
        .as_array()
        .unwrap()
        .iter()
        .map(|e| &e["name"])
        .collect();
    assert_eq!(order, ["cube", "earthdistance"]);

    machine
        .ctl(&["extensions", "remove", "sushi", "cube", "-c", "cube"])
        .expect_failure(1, &["extension cube has dependent extensions", "hint:"]);
    // Half of it is there: the rest is installed.
    machine.ctl_ok(&[
        "extensions",
        "remove",
        "sushi",
        "earthdistance",
        "-c",
        "earthdistance",
    ]);
    let installed = machine.json(&[&install[..], &["-r"]].concat());
    assert_eq!(installed[0]["name"], "earthdistance");
    assert_eq!(installed.as_array().unwrap().len(), 1);
    machine.leave();
}

#[test]
fn what_is_there_or_not_there_already() {
    let machine = TestMachine::new();
    let install = ["extensions", "install", "sushi", "cube"];
    let remove = ["extensions", "remove", "sushi", "hstore", "-c", "hstore"];
    machine.ctl_ok(&install);
    machine.ctl(&install).expect_failure(
        1,
        &["extension cube is already installed", "--suppress-conflict"],
    );
    let outcome = machine.ctl(&[&install[..], &["-s"]].concat());
    assert!(
        outcome
            .stderr
            .starts_with("warning: extension cube is already"),
        "{outcome:?}"
    );
    assert_eq!(outcome.expect_success(), "");
    assert_eq!(machine.json(&[&install[..], &["-s"]].concat()), json!([]));
    machine.ctl(&remove).expect_failure(
        1,
        &["extension hstore is not installed", "--suppress-missing"],
    );
    let outcome = machine.ctl(&[&remove[..], &["-s"]].concat());
    assert!(
        outcome
            .stderr
            .starts_with("warning: extension hstore is not"),
        "{outcome:?}"
    );
    outcome.expect_success();
    machine
        .ctl(&["extensions", "install", "sushi", "no/such ext?"])
        .expect_failure(
            1,
            &[
                "no/such ext? is not a supported Postgres extension",
                "hint:",
            ],
        );
    machine
        .ctl(&["extensions", "remove", "sushi", "../x?", "-c", "../x?"])
        .expect_failure(1, &["extension ../x? is not installed"]);
    machine.leave();
}

#[test]
fn a_removal_must_be_confirmed() {
    let machine = TestMachine::new();
    machine.ctl_ok(&["extensions", "install", "sushi", "cube"]);
    let remove = ["extensions", "remove", "sushi", "cube"];
    machine
        .ctl(&remove)
        .expect_failure(2, &["confirmed", "hint:", "--confirm cube"]);
    machine
        .ctl(&[&remove[..], &["-c", "cubes"]].concat())
        .expect_failure(2, &["invalid confirmation provided: expected cube"]);
    assert_eq!(names(&machine, &["sushi"]), ["cube"]);
    machine.leave();
}

#[test]
fn each_target_that_does_not_fit_is_told_and_no_grant_stays() {
    let machine = TestMachine::new();
    for (target, code, words) in [
        ("nowhere", 5, &["nowhere", "hint:"] as &[&str]),
        ("udon", 5, &["app udon has no Borealis"]),
        ("ramen", 5, &["multiple", "ramen::BOREALIS_PG_MAROON"]),
        (
            "papertrail-flat-48151",
            5,
            &["not a Borealis Isolated Postgres add-on"],
        ),
        ("tempura", 6, &["not finished provisioning"]),
        (
            "miso",
            6,
            &["major version upgrade", "borealisctl upgrade cancel"],
        ),
    ] {
        machine
            .ctl(&["extensions", target])
            .expect_failure(code, words);
        machine
            .ctl(&["extensions", "install", target, "cube"])
            .expect_failure(code, words);
        machine.ctl(&["users", target]).expect_failure(code, words);
        machine
            .ctl(&["integrations", target])
            .expect_failure(code, words);
        machine
            .ctl(&["restore", "capabilities", target])
            .expect_failure(code, words);
    }
    machine
        .ctl(&["extensions"])
        .expect_failure(2, &["no app, add-on or session was named"]);
    machine.leave();
}

#[test]
fn what_passes_is_waited_out_and_what_may_have_been_done_is_not_done_twice() {
    let machine = TestMachine::new();
    let faults = machine.sandbox.faults();
    // Lists are simply asked for again.
    for action in [
        Action::status(503),
        Action::Drop,
        Action::Truncate,
        Action::status(429).header("retry-after", "0"),
    ] {
        faults.add(Fault::on("pg-extensions", action).method("GET").times(1));
        assert_eq!(names(&machine, &["sushi"]), [""; 0]);
    }
    // An installation whose answer is lost took place all the same.
    let posts = || machine.sandbox.stats().requests_for("/pg-extensions");
    for (extension, action) in [
        ("cube", Action::Drop),
        ("hstore", Action::Truncate),
        ("seg", Action::status(502)),
    ] {
        let before = posts();
        faults.add(
            Fault::on("pg-extensions", action)
                .method("POST")
                .times(1)
                .after(),
        );
        let installed: Value = machine.json(&["extensions", "install", "sushi", extension]);
        assert_eq!(installed[0]["name"], extension);
        assert_eq!(posts() - before, 2, "one call, one look");
    }
    // One that didn't is said not to be known.
    faults.add(
        Fault::on("pg-extensions", Action::Drop)
            .method("POST")
            .times(1),
    );
    machine
        .ctl(&["extensions", "install", "sushi", "ltree"])
        .expect_failure(
            1,
            &[
                "it is not known whether extension ltree was installed",
                "hint:",
            ],
        );
    machine.leave();
}

#[test]
fn work_that_is_done_stays_done_where_the_grant_can_not_be_removed() {
    let machine = TestMachine::new();
    let fault = Fault::on("/oauth/authorizations/*", Action::status(500));
    let fault = machine
        .sandbox
        .faults()
        .add(fault.api(Api::Heroku).method("DELETE"));
    machine.ctl_ok(&["extensions", "install", "sushi", "cube"]);
    machine.sandbox.faults().remove(fault);
    machine.leave();
}
