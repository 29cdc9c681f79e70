//! What happens to the daemon itself.

use std::{
    fs,
    time::{Duration, Instant},
};

use borealis_tests::sandbox::{BastionKind, Options};
use rustix::process::Signal;

use super::{
    line::{Line, last},
    scene::{Scene, before},
};

/// A daemon that was killed and started again serves within this.
const RESTART: Duration = Duration::from_secs(2);
/// So long after a line has died without a word, the session is up on another.
const HALF_OPEN: Duration = Duration::from_secs(15);

#[test]
fn killed_under_load() {
    let mut scene = Scene::new(before(BastionKind::Sshd));
    for _ in 0..2 {
        scene.load.set_absent(true);
        scene.machine.kill_daemon();
        let began = Instant::now();
        scene.machine.start_daemon();
        scene.load.set_absent(false);
        scene.answers_within(HALF_OPEN, began);
    }
    scene.measure(RESTART, |scene| {
        scene.machine.kill_daemon();
        let began = Instant::now();
        scene.machine.start_daemon();
        began
    });
    scene.leave();
}

#[test]
fn eight_hours_of_sleep() {
    let line = Line::on_loopback();
    let mut clock = None;
    let scene = Scene::prepared(
        Options {
            bastion_seen_at: Some(line.address()),
            ..before(BastionKind::Embedded)
        },
        |machine| {
            line.lead_to(machine.sandbox.bastion_port());
            let file = machine.path("clock");
            machine.set("BOREALIS_TEST_CLOCK", &file.display().to_string());
            clock = Some(file);
        },
    );
    line.mute();
    fs::write(clock.unwrap(), (8 * 3600).to_string()).unwrap();
    scene.answers_within(HALF_OPEN, Instant::now());
    let log = scene.machine.log();
    let seen = log
        .lines()
        .find(|line| line.contains("time has passed unseen"));
    assert!(
        seen.is_some_and(|line| line.contains("seconds=2880")),
        "{seen:?}"
    );
    scene.leave();
}

#[test]
fn suspended() {
    let line = Line::on_loopback();
    let scene = Scene::prepared(
        Options {
            bastion_seen_at: Some(line.address()),
            ..before(BastionKind::Embedded)
        },
        |machine| line.lead_to(machine.sandbox.bastion_port()),
    );
    // For a moment, and nothing else happens: nothing is lost.
    scene.machine.daemon().signal(Signal::STOP);
    last(Duration::from_secs(1));
    scene.machine.daemon().signal(Signal::CONT);
    scene.load.await_answers(10);
    // For long, and the line dies meanwhile without a word.
    scene.machine.daemon().signal(Signal::STOP);
    line.mute();
    last(Duration::from_secs(8));
    scene.machine.daemon().signal(Signal::CONT);
    scene.answers_within(HALF_OPEN, Instant::now());
    assert!(scene.machine.log().contains("time has passed unseen"));
    scene.leave();
}
