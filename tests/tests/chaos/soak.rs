//! Random faults under steady load, for as long as `BOREALIS_SOAK_MINUTES` says (30), in the
//! order that `BOREALIS_SOAK_SEED` gives. Run with
//! `cargo test -p borealis-tests --test chaos soak -- --ignored --nocapture`.

use std::{
    collections::BTreeMap,
    env,
    time::{Duration, Instant},
};

use borealis_proto::v1::State;
use borealis_tests::sandbox::{
    Access, Action, BastionAction, BastionKind, Fault, Options, PostgresAction,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use rustix::process::Signal;

use super::{
    line::{Line, Quality, last},
    scene::Scene,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Trouble {
    ConnectionsKilled,
    SshdAway,
    SshdStopped,
    LineMute,
    LineBad,
    PostgresRestarted,
    PostgresCrashed,
    BackendsTerminated,
    PasswordRotatedElsewhere,
    KeysRotatedElsewhere,
    CredentialsRotated,
    ApiAmiss,
    GrantsExpired,
    TokenRevoked,
    DaemonStopped,
    DaemonKilled,
}

const TROUBLES: [Trouble; 16] = [
    Trouble::ConnectionsKilled,
    Trouble::SshdAway,
    Trouble::SshdStopped,
    Trouble::LineMute,
    Trouble::LineBad,
    Trouble::PostgresRestarted,
    Trouble::PostgresCrashed,
    Trouble::BackendsTerminated,
    Trouble::PasswordRotatedElsewhere,
    Trouble::KeysRotatedElsewhere,
    Trouble::CredentialsRotated,
    Trouble::ApiAmiss,
    Trouble::GrantsExpired,
    Trouble::TokenRevoked,
    Trouble::DaemonStopped,
    Trouble::DaemonKilled,
];

/// What every fault of this kind came to.
#[derive(Debug, Default)]
struct Came {
    times: u32,
    longest: Duration,
}

#[test]
#[ignore = "takes half an hour"]
fn random_faults_under_load() {
    let number = |name: &str, default: u64| {
        env::var(name).map_or(default, |text| text.parse().expect("a number"))
    };
    let minutes = number("BOREALIS_SOAK_MINUTES", 30);
    let seed = number("BOREALIS_SOAK_SEED", rand::rng().random_range(0..1_000_000));
    println!("{minutes} minutes, seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let line = Line::on_loopback();
    let mut scene = Scene::prepared(
        Options {
            bastion: BastionKind::Sshd,
            bastion_seen_at: Some(line.address()),
            ..Options::default()
        },
        |machine| line.lead_to(machine.sandbox.bastion_port()),
    );
    let began = Instant::now();
    let mut came: BTreeMap<Trouble, Came> = BTreeMap::new();
    while began.elapsed() < Duration::from_secs(minutes * 60) {
        let trouble = TROUBLES[random.random_range(0..TROUBLES.len())];
        let time = Duration::from_millis(random.random_range(200..9000));
        make(trouble, time, &mut scene, &line);
        let over = Instant::now();
        scene
            .machine
            .wait_for("sushi", |session| session.state() == State::Up);
        scene.load.await_answers(20);
        let took = over.elapsed();
        println!(
            "{:>5} s: {trouble:?} for {time:?}, well again after {took:?}",
            began.elapsed().as_secs()
        );
        let wrongs = scene.load.wrongs();
        assert!(wrongs.is_empty(), "{wrongs:#?}");
        let came = came.entry(trouble).or_default();
        came.times += 1;
        came.longest = came.longest.max(took);
        last(Duration::from_millis(random.random_range(500..4000)));
    }
    println!("{came:#?}");
    scene.leave();
}

/// Makes trouble, and ends it after a time.
fn make(trouble: Trouble, time: Duration, scene: &mut Scene, line: &Line) {
    let faults = scene.machine.sandbox.faults().clone();
    let postgres = |action| {
        scene
            .machine
            .sandbox
            .block_on(faults.postgres(action))
            .unwrap()
    };
    match trouble {
        Trouble::ConnectionsKilled => scene.bastion(BastionAction::Cut),
        Trouble::SshdAway => {
            scene.bastion(BastionAction::Stop);
            last(time);
            scene.bastion(BastionAction::Start);
        }
        Trouble::SshdStopped => {
            scene.bastion(BastionAction::Freeze);
            last(time);
            scene.bastion(BastionAction::Thaw);
        }
        Trouble::LineMute => line.mute(),
        Trouble::LineBad => {
            let quality = |delay, loss| Quality {
                delay: Duration::from_millis(delay),
                loss,
            };
            line.set_quality(quality(50, 10));
            last(time);
            line.set_quality(quality(0, 0));
        }
        Trouble::PostgresRestarted => postgres(PostgresAction::Restart),
        Trouble::PostgresCrashed => {
            postgres(PostgresAction::Crash);
            last(time);
            postgres(PostgresAction::Start);
        }
        Trouble::BackendsTerminated => {
            let terminating = faults.terminate_connections(None);
            scene.machine.sandbox.block_on(terminating).unwrap();
        }
        Trouble::PasswordRotatedElsewhere => {
            let rotating = faults.rotate_password_elsewhere("sushi", Some(Access::ReadOnly));
            scene.machine.sandbox.block_on(rotating).unwrap();
        }
        Trouble::KeysRotatedElsewhere => {
            let rotating = faults.rotate_key_elsewhere("sushi", 3);
            scene.machine.sandbox.block_on(rotating).unwrap();
            scene.bastion(BastionAction::Cut);
        }
        Trouble::CredentialsRotated => {
            scene.machine.ctl_ok(&["rotate", "sushi"]);
        }
        Trouble::ApiAmiss => {
            let actions = [
                Action::status(503),
                Action::Drop,
                Action::Garbage,
                Action::Hang,
                Action::delay(Duration::from_secs(1)),
                Action::status(429).header("Retry-After", "1"),
            ];
            let which = usize::try_from(time.as_millis()).unwrap() % actions.len();
            faults.add(Fault::on("**", actions[which].clone()));
            scene.bastion(BastionAction::Cut);
            last(time);
            scene.machine.sandbox.block_on(faults.clear()).unwrap();
        }
        Trouble::GrantsExpired => faults.expire_grants(),
        Trouble::TokenRevoked => {
            faults.revoke_token();
            scene.bastion(BastionAction::Cut);
            last(time);
            faults.restore_token();
        }
        Trouble::DaemonStopped => {
            scene.machine.daemon().signal(Signal::STOP);
            last(time);
            scene.machine.daemon().signal(Signal::CONT);
        }
        Trouble::DaemonKilled => {
            scene.load.set_absent(true);
            scene.machine.kill_daemon();
            scene.machine.start_daemon();
            scene.load.set_absent(false);
        }
    }
}
