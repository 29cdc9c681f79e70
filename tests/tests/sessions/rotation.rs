//! Credentials change behind a session; its clients don't notice.

use borealis_tests::{
    harness::TestMachine,
    sandbox::{Access, Options},
};

#[test]
fn rotating_changes_the_password_and_nothing_else() {
    let machine = TestMachine::new();
    let url = machine.open(&["sushi"]);
    let before = machine.sandbox.stats().addons["borealis-pg-hex-12345"].clone();
    let rotated = machine.json(&["rotate", "sushi"]);
    assert_eq!(rotated[0]["credential"]["generation"], 2, "{rotated}");
    let after = machine.sandbox.stats().addons["borealis-pg-hex-12345"].clone();
    assert_eq!(after.passwords_issued, before.passwords_issued + 1);
    assert_eq!(after.keys_issued, before.keys_issued + 1);
    assert_eq!(machine.query(&url, "select 1"), "1");
    machine.leave();
}

#[test]
fn open_connections_outlive_a_rotation() {
    use std::io::{BufRead as _, BufReader, Write as _};

    let machine = TestMachine::new();
    let url = machine.open(&["sushi"]);
    let mut psql = machine.run("psql").args(&["-XAtq", &url]).start();
    let mut input = psql.stdin.take().unwrap();
    let mut output = BufReader::new(psql.stdout.take().unwrap());
    let mut ask = |sql: &str| {
        let mut line = String::new();
        writeln!(input, "{sql};").unwrap();
        output.read_line(&mut line).unwrap();
        line.trim().to_owned()
    };
    let pid = ask("select pg_backend_pid()");
    for _ in 0..3 {
        machine.ctl_ok(&["rotate", "--all"]);
    }
    assert_eq!(ask("select pg_backend_pid()"), pid);
    drop(input);
    assert!(psql.wait().unwrap().success());
    machine.leave();
}

#[test]
fn another_machine_that_rotates_is_not_noticed() {
    let machine = TestMachine::new();
    let url = machine.open(&["sushi"]);
    let faults = machine.sandbox.faults();
    for _ in 0..3 {
        let elsewhere = faults.rotate_password_elsewhere("sushi", Some(Access::ReadOnly));
        machine.sandbox.block_on(elsewhere).unwrap();
        assert_eq!(machine.query(&url, "select 1"), "1");
    }
    // Also the SSH key: enough new ones for this machine's to be refused.
    machine
        .sandbox
        .block_on(faults.rotate_key_elsewhere("sushi", 5))
        .unwrap();
    let up = machine.wait_for("sushi", |_| true);
    machine
        .sandbox
        .block_on(faults.bastion(borealis_tests::sandbox::BastionAction::Cut))
        .unwrap();
    machine.wait_for("sushi", |now| {
        now.state() == borealis_proto::v1::State::Up && now.since != up.since
    });
    assert_eq!(machine.query(&url, "select 1"), "1");
    machine.leave();
}

#[test]
fn after_an_admins_reset_the_next_client_brings_access_back() {
    let machine = TestMachine::new();
    let url = machine.open(&["sushi"]);
    let app = machine.open(&["sushi", "--role", "app"]);
    machine
        .sandbox
        .block_on(machine.sandbox.faults().reset_users("sushi"))
        .unwrap();
    let issued = || machine.sandbox.stats().addons["borealis-pg-hex-12345"].passwords_issued;
    let before = issued();
    assert_eq!(machine.query(&url, "select 1"), "1");
    assert_eq!(issued(), before + 1);
    // The app's user has a new name and password, which stand in the config variable.
    assert_eq!(machine.query(&app, "select 1"), "1");
    assert_eq!(issued(), before + 1);
    machine.leave();
}

#[test]
fn the_timer_rotates() {
    let mut machine = TestMachine::without_daemon(Options::default());
    machine.write_config("[rotation]\ninterval = \"1s\"\n");
    machine.start_daemon();
    let url = machine.open(&["sushi"]);
    machine.wait_for("sushi", |session| {
        session
            .credential
            .as_ref()
            .is_some_and(|held| held.generation >= 3)
    });
    assert_eq!(machine.query(&url, "select 1"), "1");
    machine.leave();
}

#[test]
fn many_clients_at_once_share_one_renewal() {
    let machine = TestMachine::new();
    let url = machine.open(&["sushi"]);
    let elsewhere = machine
        .sandbox
        .faults()
        .rotate_password_elsewhere("sushi", None);
    machine.sandbox.block_on(elsewhere).unwrap();
    let issued = || machine.sandbox.stats().addons["borealis-pg-hex-12345"].passwords_issued;
    let before = issued();
    let clients: Vec<_> = (0..10)
        .map(|_| {
            machine
                .run("psql")
                .args(&["-XAtqc", "select 1", &url])
                .start()
        })
        .collect();
    for client in clients {
        let output = client.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    assert_eq!(issued(), before + 1);
    machine.leave();
}
