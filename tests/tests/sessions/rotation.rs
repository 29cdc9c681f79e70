//! Credentials change behind a session; its clients don't notice.

use borealis_tests::{
    harness::Desk,
    sandbox::{Access, Options},
};

#[test]
fn rotating_changes_the_password_and_nothing_else() {
    let desk = Desk::new();
    let url = desk.open(&["sushi"]);
    let before = desk.sandbox.stats().addons["borealis-pg-hex-12345"].clone();
    let rotated = desk.json(&["rotate", "sushi"]);
    assert_eq!(rotated[0]["credential"]["generation"], 2, "{rotated}");
    let after = desk.sandbox.stats().addons["borealis-pg-hex-12345"].clone();
    assert_eq!(after.passwords_issued, before.passwords_issued + 1);
    assert_eq!(after.keys_issued, before.keys_issued + 1);
    assert_eq!(desk.query(&url, "select 1"), "1");
    desk.leave();
}

#[test]
fn open_connections_outlive_a_rotation() {
    use std::io::{BufRead as _, BufReader, Write as _};

    let desk = Desk::new();
    let url = desk.open(&["sushi"]);
    let mut psql = desk.run("psql").args(&["-XAtq", &url]).start();
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
        desk.ctl_ok(&["rotate", "--all"]);
    }
    assert_eq!(ask("select pg_backend_pid()"), pid);
    drop(input);
    assert!(psql.wait().unwrap().success());
    desk.leave();
}

#[test]
fn another_machine_that_rotates_is_not_noticed() {
    let desk = Desk::new();
    let url = desk.open(&["sushi"]);
    let faults = desk.sandbox.faults();
    for _ in 0..3 {
        let elsewhere = faults.rotate_password_elsewhere("sushi", Some(Access::ReadOnly));
        desk.sandbox.block_on(elsewhere).unwrap();
        assert_eq!(desk.query(&url, "select 1"), "1");
    }
    // Also the SSH key: enough new ones for this machine's to be refused.
    desk.sandbox
        .block_on(faults.rotate_key_elsewhere("sushi", 5))
        .unwrap();
    let up = desk.wait_for("sushi", |_| true);
    desk.sandbox
        .block_on(faults.bastion(borealis_tests::sandbox::BastionAction::Cut))
        .unwrap();
    desk.wait_for("sushi", |now| {
        now.state() == borealis_proto::v1::State::Up && now.since != up.since
    });
    assert_eq!(desk.query(&url, "select 1"), "1");
    desk.leave();
}

#[test]
fn after_an_admins_reset_the_next_client_brings_access_back() {
    let desk = Desk::new();
    let url = desk.open(&["sushi"]);
    let app = desk.open(&["sushi", "--role", "app"]);
    desk.sandbox
        .block_on(desk.sandbox.faults().reset_users("sushi"))
        .unwrap();
    let issued = || desk.sandbox.stats().addons["borealis-pg-hex-12345"].passwords_issued;
    let before = issued();
    assert_eq!(desk.query(&url, "select 1"), "1");
    assert_eq!(issued(), before + 1);
    // The app's user has a new name and password, which stand in the config variable.
    assert_eq!(desk.query(&app, "select 1"), "1");
    assert_eq!(issued(), before + 1);
    desk.leave();
}

#[test]
fn the_timer_rotates() {
    let mut desk = Desk::without_daemon(Options::default());
    desk.write_config("[rotation]\ninterval = \"1s\"\n");
    desk.start_daemon();
    let url = desk.open(&["sushi"]);
    desk.wait_for("sushi", |session| {
        session
            .credential
            .as_ref()
            .is_some_and(|held| held.generation >= 3)
    });
    assert_eq!(desk.query(&url, "select 1"), "1");
    desk.leave();
}

#[test]
fn many_clients_at_once_share_one_renewal() {
    let desk = Desk::new();
    let url = desk.open(&["sushi"]);
    let elsewhere = desk
        .sandbox
        .faults()
        .rotate_password_elsewhere("sushi", None);
    desk.sandbox.block_on(elsewhere).unwrap();
    let issued = || desk.sandbox.stats().addons["borealis-pg-hex-12345"].passwords_issued;
    let before = issued();
    let clients: Vec<_> = (0..10)
        .map(|_| desk.run("psql").args(&["-XAtqc", "select 1", &url]).start())
        .collect();
    for client in clients {
        let output = client.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    assert_eq!(issued(), before + 1);
    desk.leave();
}
