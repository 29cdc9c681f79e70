//! What happens to the bastion and to the line there.

use std::time::{Duration, Instant};

use borealis_proto::v1::State;
use borealis_tests::{
    harness::{PATIENCE, eventually},
    sandbox::{BastionAction, BastionKind, Options},
};

use super::{
    apart::{HERE, Names, Wire, apart},
    client::Client,
    line::{Line, Quality, last},
    scene::{Scene, before},
};

/// Killed connections are back within this.
const KILLED: Duration = Duration::from_secs(1);
/// So long after a line has died without a word, the session is up on another.
const HALF_OPEN: Duration = Duration::from_secs(15);
/// So long after the last obstacle is gone, the session is up.
const AGAIN: Duration = Duration::from_secs(15);

/// What clients of a bad line are given.
const PATIENT: Duration = Duration::from_secs(60);

/// How long an outage lasts; the whole 20 s where the environment asks for it.
fn outage() -> Duration {
    let asked = std::env::var("BOREALIS_CHAOS_OUTAGE").ok();
    let seconds = asked.map_or(4, |text| text.parse().expect("seconds"));
    Duration::from_secs(seconds)
}

fn over_a_line(line: &Line, bastion: BastionKind) -> Scene {
    let scene = Scene::prepared(
        Options {
            bastion_seen_at: Some(line.address()),
            ..before(bastion)
        },
        |machine| line.lead_to(machine.sandbox.bastion_port()),
    );
    assert_eq!(scene.machine.wait_for("sushi", |_| true).state(), State::Up);
    scene
}

#[test]
fn killed_connections() {
    let mut scene = Scene::new(before(BastionKind::Sshd));
    scene.measure(KILLED, |scene| {
        scene.bastion(BastionAction::Cut);
        Instant::now()
    });
    // Killed again and again is another matter: a line that flaps is tried more rarely.
    for _ in 0..3 {
        let began = Instant::now();
        scene.bastion(BastionAction::Cut);
        scene.answers_within(AGAIN, began);
    }
    scene.leave();
}

#[test]
fn reset_connections() {
    let mut scene = Scene::new(before(BastionKind::Embedded));
    scene.measure(KILLED, |scene| {
        scene.bastion(BastionAction::Reset);
        Instant::now()
    });
    scene.leave();
}

#[test]
fn sshd_is_away_for_a_while() {
    let scene = Scene::new(before(BastionKind::Sshd));
    scene.bastion(BastionAction::Stop);
    scene.await_down();
    last(outage());
    scene.bastion(BastionAction::Start);
    scene.answers_within(AGAIN, Instant::now());
    scene.leave();
}

#[test]
fn sshd_is_stopped_by_a_signal() {
    let scene = Scene::new(before(BastionKind::Sshd));
    // Shorter than what makes a line a dead one: nothing is lost.
    let broken = || {
        let tally = scene.load.tally();
        tally.broken.load(std::sync::atomic::Ordering::Relaxed)
    };
    let before = broken();
    scene.bastion(BastionAction::Freeze);
    last(Duration::from_secs(2));
    scene.bastion(BastionAction::Thaw);
    scene.answers_within(AGAIN, Instant::now());
    assert_eq!(broken(), before);
    let began = Instant::now();
    scene.bastion(BastionAction::Freeze);
    scene.await_down();
    assert!(began.elapsed() < HALF_OPEN, "{:?}", began.elapsed());
    scene.bastion(BastionAction::Thaw);
    scene.answers_within(AGAIN, Instant::now());
    scene.leave();
}

/// The processes that serve our connections hang; TCP answers for them, and sshd takes new ones.
#[test]
fn the_processes_of_the_connections_hang() {
    let scene = Scene::new(before(BastionKind::Sshd));
    let idle = Client::connect(&scene.url);
    idle.slowest(1);
    let mut active = scene.machine.run("psql");
    active = active.args(&["-XAtqc", "select pg_sleep(603)", &scene.url]);
    let active = active.start();
    let asleep = "select count(*) from pg_stat_activity where query = 'select pg_sleep(603)'";
    eventually(|| match &*scene.machine.query(&scene.url, asleep) {
        "1" => Ok(()),
        count => Err(count.to_owned()),
    });
    let began = Instant::now();
    scene.bastion(BastionAction::FreezeConnections);
    // Nobody tells the daemon: it finds out, and new clients get through a new one.
    scene.answers_within(HALF_OPEN, began);
    // Who was connected is told, and not left waiting.
    assert!(idle.ask(PATIENCE).is_err());
    let told = active.wait_with_output().unwrap();
    assert_eq!(told.status.code(), Some(2), "{told:?}");
    assert!(began.elapsed() < 2 * HALF_OPEN, "{:?}", began.elapsed());
    scene.bastion(BastionAction::Thaw);
    scene.leave();
}

#[test]
fn a_router_forgets_the_connections() {
    let line = Line::on_loopback();
    let scene = over_a_line(&line, BastionKind::Sshd);
    let began = Instant::now();
    line.mute();
    scene.answers_within(HALF_OPEN, began);
    scene.leave();
}

#[test]
fn a_bad_line() {
    let line = Line::on_loopback();
    let scene = Scene::prepared(
        Options {
            bastion_seen_at: Some(line.address()),
            ..before(BastionKind::Sshd)
        },
        |machine| {
            machine.write_config(&format!("connect_timeout = \"{}s\"\n", PATIENT.as_secs()));
            line.lead_to(machine.sandbox.bastion_port());
        },
    );
    line.set_quality(Quality {
        delay: Duration::from_millis(100),
        loss: 30,
    });
    scene.load.await_answers(20);
    let began = Instant::now();
    scene.bastion(BastionAction::Cut);
    // An attempt has some twenty round trips, of which half are lost at least once; and what is
    // lost six times over is late enough for the line to count as dead.
    scene.answers_in_the_end(PATIENT, began);
    line.set_quality(Quality {
        delay: Duration::ZERO,
        loss: 0,
    });
    scene.leave();
}

#[test]
fn packets_are_dropped_silently() {
    apart("bastion::packets_are_dropped_silently", || {
        let wire = Wire::lay();
        let line = Line::listen(wire.listener());
        let scene = over_a_line(&line, BastionKind::Sshd);
        let began = Instant::now();
        wire.lose();
        scene.await_down();
        assert!(began.elapsed() < HALF_OPEN, "{:?}", began.elapsed());
        wire.deliver();
        scene.answers_within(AGAIN, Instant::now());
        scene.leave();
    });
}

#[test]
fn the_address_changes() {
    apart("bastion::the_address_changes", || {
        let wire = Wire::lay();
        let line = Line::listen(wire.listener());
        let scene = over_a_line(&line, BastionKind::Embedded);
        // Another network at once.
        let began = Instant::now();
        wire.leave_network();
        wire.join_network("10.77.0.3");
        scene.answers_within(HALF_OPEN, began);
        // None for a while.
        wire.leave_network();
        let waiting = scene.machine.wait_for("sushi", |session| {
            let error = session.last_error.as_ref();
            error.is_some_and(|error| error.code == "no-network")
        });
        assert_eq!(waiting.state(), State::Reconnecting);
        let listed = scene.machine.ctl_ok(&["list"]);
        assert!(listed.contains("network"), "{listed}");
        let attempts = || {
            let metrics = scene.machine.ctl_ok(&["metrics"]);
            let counted = metrics
                .lines()
                .filter(|line| line.starts_with("borealis_session_attempts_total{"));
            counted.map(str::to_owned).collect::<Vec<_>>()
        };
        let before = (
            attempts(),
            scene.machine.sandbox.stats().bastion.connections,
        );
        last(Duration::from_secs(3));
        let after = (
            attempts(),
            scene.machine.sandbox.stats().bastion.connections,
        );
        assert_eq!(before, after, "attempts without a network");
        wire.join_network(HERE);
        // No backoff: it is told that there is a network.
        scene.answers_within(Duration::from_secs(3), Instant::now());
        scene.leave();
    });
}

#[test]
fn names_are_not_found() {
    apart("bastion::names_are_not_found", || {
        let wire = Wire::lay();
        let dir = tempfile::tempdir().unwrap();
        let names = Names::instead(dir.path().to_owned());
        names.set("127.0.0.1 bastion.example");
        let line = Line::on_loopback();
        let scene = Scene::prepared(
            Options {
                bastion_seen_at: Some(("bastion.example".into(), line.address().1)),
                ..before(BastionKind::Embedded)
            },
            |machine| line.lead_to(machine.sandbox.bastion_port()),
        );
        names.set("");
        scene.bastion(BastionAction::Cut);
        let down = scene.machine.wait_for("sushi", |session| {
            let error = session.last_error.as_ref();
            error.is_some_and(|error| error.message.contains("bastion.example"))
        });
        assert_eq!(down.state(), State::Reconnecting);
        names.set("127.0.0.1 bastion.example");
        scene.answers_within(AGAIN, Instant::now());
        scene.leave();
        drop(wire);
    });
}
