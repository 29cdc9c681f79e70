//! `borealis.toml`: `up`, `down`, `trust`.

use std::fs;

use borealis_tests::harness::TestMachine;

use crate::{ctl_in, open, project};

const TEAM: &str = "[[session]]\ntarget = \"sushi\"\ndefault = true\n\n\
                    [[session]]\ntarget = \"ramen::BOREALIS_PG_MAROON\"\naccess = \"read-write\"\n";

#[test]
fn one_command_brings_a_projects_sessions_up_and_one_takes_them_down() {
    let machine = TestMachine::new();
    let dir = project(&machine, "team", TEAM);
    let below = dir.join("src/deep");
    fs::create_dir_all(&below).unwrap();
    machine.open(&["ramen::BOREALIS_PG_NAVY"]);
    let ctl = |words: &[&str]| ctl_in(&machine, &below, words);

    // A stranger's, until it is trusted.
    let asks = "is not trusted, and asks for write access to ramen::BOREALIS_PG_MAROON";
    ctl(&["up"]).expect_failure(1, &[asks, "borealisctl trust "]);
    ctl(&["psql", "--", "-c", "select 1"]).expect_failure(1, &[asks]);
    assert_eq!(open(&machine), ["ramen.borealis_pg_navy"]);

    ctl(&["trust"]).expect_success();
    let told = ctl(&["up"]).expect_success();
    let all = [
        "ramen.borealis_pg_maroon-rw",
        "ramen.borealis_pg_navy",
        "sushi",
    ];
    assert_eq!(open(&machine), all);
    for session in ["sushi", "ramen.borealis_pg_maroon-rw"] {
        let shown = machine.json(&["show", session]);
        assert_eq!(shown["state"], "up", "{shown}");
        let port = shown["port"].to_string();
        assert!(told.contains(&port), "{told}");
    }
    let port = machine.json(&["show", "sushi"])["port"].clone();
    ctl(&["up"]).expect_success();
    assert_eq!(open(&machine), all);

    // What commands mean that name nothing.
    let asked = "select current_database()";
    let by_psql = ctl(&["psql", "--", "-XAtqc", asked]).expect_success();
    assert_eq!(by_psql, "d4f0");
    let by_env = machine
        .run("sh")
        .args(&["-c", "eval \"$(\"$1\" env)\" && psql -XAtqc \"$2\"", "sh"])
        .args(&[machine.binary("borealisctl").to_str().unwrap(), asked])
        .dir(&below)
        .outcome();
    assert_eq!(by_env.expect_success(), "d4f0");

    // Changed, it has to be trusted again, and nothing that it lists is touched meanwhile.
    fs::write(dir.join("borealis.toml"), format!("{TEAM}role = \"app\"\n")).unwrap();
    let changed = "has changed since it was trusted, and asks for write access to \
                   ramen::BOREALIS_PG_MAROON, the app's database user of ramen::BOREALIS_PG_MAROON";
    ctl(&["up"]).expect_failure(1, &[changed]);
    ctl(&["down"]).expect_failure(1, &[changed]);
    assert_eq!(open(&machine), all);
    fs::write(dir.join("borealis.toml"), TEAM).unwrap();

    ctl(&["down"]).expect_success();
    assert_eq!(open(&machine), ["ramen.borealis_pg_navy"]);
    let again = ctl(&["down"]);
    assert!(
        again.stderr.contains("nothing of the project was open"),
        "{again:?}"
    );
    assert_eq!(again.code, Some(0));
    ctl(&["show"]).expect_failure(
        5,
        &["the project's session sushi is not open", "borealisctl up"],
    );
    ctl(&["up"]).expect_success();
    assert_eq!(machine.json(&["show", "sushi"])["port"], port);
    machine.leave();
}

#[test]
fn two_projects_that_name_the_same_session_are_told() {
    let machine = TestMachine::new();
    let of = |app: &str| format!("[[session]]\ntarget = \"{app}\"\nname = \"db\"\n");
    let one = project(&machine, "one", &of("sushi"));
    let other = project(&machine, "other", &of("ramen::BOREALIS_PG_NAVY"));
    ctl_in(&machine, &one, &["up"]).expect_success();
    let is_first = || {
        let shown = machine.json(&["show", "db"]);
        assert_eq!(
            (&shown["app"], &shown["state"]),
            (&"sushi".into(), &"up".into())
        );
    };
    let file = other.join("borealis.toml").canonicalize().unwrap();
    let at = format!("{}:1: ", file.display());
    ctl_in(&machine, &other, &["up"]).expect_failure(1, &[&at, "db"]);
    is_first();
    let down = ctl_in(&machine, &other, &["down"]);
    assert_eq!(down.code, Some(0), "{down:?}");
    assert!(
        down.stderr
            .contains("db is open and not what the project lists"),
        "{down:?}"
    );
    is_first();
    ctl_in(&machine, &one, &["down"]).expect_success();
    assert!(open(&machine).is_empty());
    machine.leave();
}

#[test]
fn what_fails_of_a_project_leaves_the_rest_up() {
    let machine = TestMachine::new();
    let text = "[[session]]\ntarget = \"nobodys-app\"\n[[session]]\ntarget = \"sushi\"\n";
    let dir = project(&machine, "team", text);
    ctl_in(&machine, &dir, &["up"]).expect_failure(5, &["borealis.toml:1: ", "nobodys-app"]);
    assert_eq!(open(&machine), ["sushi"]);
    machine.leave();
}
