//! `users` and `integrations`.

use borealis_tests::{
    harness::TestMachine,
    sandbox::{Action, AddonState, Fault},
};

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHJeBDUC7x5UkuAT5Mn6GvWI65nZI0t1ifJJ6Pu5GRMV me@example";

#[test]
fn users_are_listed() {
    let machine = TestMachine::new();
    let users = machine.json(&["users", "sushi"]);
    assert_eq!(users.as_array().unwrap().len(), 1);
    assert_eq!(users[0]["display_name"], serde_json::Value::Null);
    assert_eq!(users[0]["user_type"], "app");
    machine.open(&["sushi"]);
    let users = machine.json(&["users", "--app", "sushi"]);
    assert_eq!(users[1]["user_type"], "personal");
    let table = machine.ctl_ok(&["users", "sushi"]);
    assert!(table.starts_with("ADD-ON USER "), "{table}");
    assert!(table.contains("\nHeroku App User "), "{table}");
    assert!(
        table.contains(users[1]["read_write_username"].as_str().unwrap()),
        "{table}"
    );
    machine.leave();
}

#[test]
fn sessions_come_back_after_a_reset_when_a_client_connects() {
    let machine = TestMachine::new();
    let personal = machine.open(&["sushi", "-w"]);
    let app = machine.open(&["sushi", "--role", "app"]);
    let other = machine.open(&["ramen::BOREALIS_PG_NAVY"]);
    let before = machine.sandbox.stats().addons["borealis-pg-hex-12345"].clone();

    machine
        .ctl(&["users", "reset", "sushi"])
        .expect_failure(2, &["confirmed", "hint:", "--confirm APP"]);
    machine
        .ctl(&["users", "reset", "sushi", "--confirm", "ramen"])
        .expect_failure(2, &["invalid confirmation provided: expected sushi"]);
    let reset = machine.json(&["users:reset", "--app", "sushi", "--confirm", "sushi"]);
    assert_eq!(reset["addon"], "borealis-pg-hex-12345");
    assert_eq!(
        reset["sessions"],
        serde_json::json!(["sushi-app", "sushi-rw"])
    );

    let after = machine.sandbox.stats().addons["borealis-pg-hex-12345"].clone();
    assert_eq!(after.resets, before.resets + 1);
    for url in [&personal, &app, &other] {
        assert_eq!(machine.query(url, "select 1"), "1");
    }
    let told = machine.ctl_ok(&["users", "reset", "sushi", "-c", "sushi"]);
    assert!(
        told.contains("Open session sushi-rw: its connections are cut"),
        "{told}"
    );
    assert!(
        told.contains("Open session sushi-app: its connections go on"),
        "{told}"
    );
    assert_eq!(machine.query(&personal, "select 1"), "1");
    machine.leave();
}

#[test]
fn a_reset_is_refused_for_what_the_add_on_is_doing() {
    let machine = TestMachine::new();
    let reset = ["users", "reset", "sushi", "-c", "sushi"];
    let set = |state| {
        let faults = machine.sandbox.faults();
        machine
            .sandbox
            .block_on(faults.set_state("sushi", state))
            .unwrap();
    };
    set(AddonState::Maintenance);
    machine.ctl(&reset).expect_failure(
        1,
        &[
            "currently undergoing maintenance",
            "try again in a few minutes",
        ],
    );
    set(AddonState::Provisioning);
    machine
        .ctl(&reset)
        .expect_failure(6, &["not finished provisioning"]);
    set(AddonState::Upgrading);
    machine
        .ctl(&reset)
        .expect_failure(6, &["major version upgrade", "upgrade cancel"]);
    set(AddonState::Available);
    let faults = machine.sandbox.faults();
    faults.add(Fault::on("db-users/credentials", Action::status(403)).times(1));
    machine
        .ctl(&reset)
        .expect_failure(6, &["write access", "revoked", "new add-on plan"]);
    faults.add(Fault::on("db-users/credentials", Action::Drop).times(1));
    machine.ctl(&reset).expect_failure(
        1,
        &["it is not known whether the database users were reset"],
    );
    assert_eq!(
        machine.sandbox.stats().addons["borealis-pg-hex-12345"].resets,
        0
    );
    machine.leave();
}

#[test]
fn integrations_are_registered_listed_and_removed() {
    let machine = TestMachine::new();
    let register = |args: &[&str]| machine.ctl(&[&["integrations", "register"], args].concat());
    let words: Vec<&str> = KEY.split(' ').collect();
    let registered = register(
        &[
            &["--app", "sushi", "--name", "etl_1", "-f", "json"],
            &words[..],
        ]
        .concat(),
    );
    let registered: serde_json::Value = serde_json::from_str(&registered.expect_success()).unwrap();
    for key in [
        "db_host",
        "db_port",
        "db_name",
        "db_username",
        "db_password",
        "ssh_host",
        "ssh_port",
        "ssh_username",
        "public_ssh_host_key",
    ] {
        assert!(!registered[key].is_null(), "{key} in {registered}");
    }
    let table = register(&["sushi", "-n", "etl_2", "-w", KEY]).expect_success();
    assert!(table.contains("Database Password"), "{table}");
    register(&["sushi", "-n", "etl_1", KEY]).expect_failure(
        1,
        &[
            "a data integration named etl_1 is already registered",
            "hint:",
        ],
    );
    register(&["sushi", "-n", "Bad Name", KEY])
        .expect_failure(1, &["can't be registered", "name", "hint:"]);
    register(&["sushi", "-n", "x", "no key at all"])
        .expect_failure(1, &["can't be registered", "key"]);
    register(&["sushi", "-n", "x"]).expect_failure(2, &["the SSH public key is missing"]);

    let list = machine.json(&["integrations", "sushi"]);
    assert_eq!(list[0]["name"], "etl_1");
    assert_eq!(
        (&list[0]["write_access"], &list[1]["write_access"]),
        (&false.into(), &true.into())
    );
    assert!(
        list[0]["created_at"].as_str().unwrap().ends_with('Z'),
        "{list}"
    );

    let remove = ["integrations", "remove", "sushi", "--name", "etl_1"];
    machine.ctl(&remove).expect_failure(2, &["--confirm etl_1"]);
    machine.ctl_ok(&[&remove[..], &["--confirm", "etl_1"]].concat());
    machine
        .ctl(&[&remove[..], &["-c", "etl_1"]].concat())
        .expect_failure(1, &["has no data integration named etl_1", "hint:"]);
    machine.ctl_ok(&[
        "integrations:deregister",
        "-a",
        "sushi",
        "-n",
        "etl_2",
        "-c",
        "etl_2",
    ]);
    let outcome = machine.ctl(&["integrations", "sushi"]);
    assert_eq!(outcome.stderr, "no data integrations are registered\n");
    assert_eq!(outcome.expect_success(), "");
    machine.leave();
}
