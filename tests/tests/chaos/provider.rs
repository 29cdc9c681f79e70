//! What happens to the provider's APIs, to the token and to PostgreSQL.

use std::{
    fs,
    time::{Duration, Instant},
};

use borealis_proto::v1::State;
use borealis_tests::sandbox::{Action, BastionAction, BastionKind, Fault, PostgresAction};

use super::scene::{Scene, before};

/// So long after the last obstacle is gone, the session is up.
const AGAIN: Duration = Duration::from_secs(15);

#[test]
fn the_api_is_in_trouble() {
    let mut scene = Scene::new(before(BastionKind::Embedded));
    for (what, action) in [
        ("down", Action::Drop),
        ("failing", Action::status(503)),
        ("slow", Action::delay(Duration::from_secs(2))),
        ("silent", Action::Hang),
        ("garbage", Action::Garbage),
        ("429", Action::status(429).header("Retry-After", "1")),
    ] {
        println!("the API is {what}");
        scene.machine.sandbox.faults().add(Fault::on("**", action));
        // What is held needs no API.
        let began = Instant::now();
        scene.bastion(BastionAction::Cut);
        scene.answers_within(Duration::from_secs(5), began);
        // A daemon that starts now holds nothing.
        scene.load.set_absent(true);
        scene.machine.kill_daemon();
        scene.machine.start_daemon();
        scene.load.set_absent(false);
        if what != "slow" {
            scene.machine.wait_for("sushi", |session| {
                session.state() == State::Opening
                    && (what == "silent" || session.last_error.is_some())
            });
        }
        let faults = scene.machine.sandbox.faults();
        scene.machine.sandbox.block_on(faults.clear()).unwrap();
        scene.answers_within(AGAIN, Instant::now());
    }
    scene.leave();
}

#[test]
fn the_token_is_revoked_and_given_back() {
    let mut netrc = None;
    let mut scene = Scene::prepared(before(BastionKind::Embedded), |machine| {
        machine.unset("HEROKU_API_KEY");
        let path = machine.path(".netrc");
        write_netrc(&path, &machine.sandbox.token());
        netrc = Some(path);
    });
    let netrc = netrc.unwrap();
    let faults = scene.machine.sandbox.faults();
    // A session that is up doesn't notice, and doesn't need it to come back.
    faults.revoke_token();
    let refused = scene.machine.ctl(&["rotate", "sushi"]);
    assert_eq!(refused.code, Some(4), "{refused:?}");
    let began = Instant::now();
    scene.bastion(BastionAction::Cut);
    scene.answers_within(Duration::from_secs(5), began);
    scene.machine.sandbox.faults().restore_token();
    scene.machine.ctl_ok(&["rotate", "sushi"]);
    // One that has nothing waits for a token.
    scene.machine.sandbox.faults().revoke_token();
    scene.load.set_absent(true);
    scene.machine.kill_daemon();
    scene.machine.start_daemon();
    scene
        .machine
        .wait_for("sushi", |session| session.state() == State::Failed);
    write_netrc(&netrc, &scene.machine.sandbox.add_user("other@example.com"));
    let given = Instant::now();
    scene
        .machine
        .wait_for("sushi", |session| session.state() == State::Up);
    scene.load.set_absent(false);
    scene.answers_within(AGAIN, given);
    scene.leave();
}

#[test]
fn postgresql_is_restarted() {
    let scene = Scene::new(before(BastionKind::Embedded));
    for action in [PostgresAction::Restart, PostgresAction::Crash] {
        let faults = scene.machine.sandbox.faults();
        scene
            .machine
            .sandbox
            .block_on(faults.postgres(action))
            .unwrap();
        if action == PostgresAction::Crash {
            let start = faults.postgres(PostgresAction::Start);
            scene.machine.sandbox.block_on(start).unwrap();
        }
        scene.answers_within(AGAIN, Instant::now());
    }
    scene.leave();
}

fn write_netrc(path: &std::path::Path, token: &str) {
    let text = format!("machine 127.0.0.1\n  login me@example.com\n  password {token}\n");
    fs::write(path, text).unwrap();
}
