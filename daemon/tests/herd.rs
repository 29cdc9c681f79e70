//! A thousand daemons lose one bastion for a minute: how often it is asked meanwhile, and
//! how soon all are up again. Simulated with the machine that decides in the daemon.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test, whose figures are for who runs it with --nocapture"
)]

use std::time::Duration;

use borealisd::{
    model::{Cause, HostPort},
    platform::clock::BootInstant,
    session::machine::{Action, Event, RetryTrigger, SessionStateMachine},
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

const DAEMONS: usize = 1000;
/// Milliseconds.
const OUTAGE: u64 = 60_000;
const LONGEST: u64 = 180_000;
const STEP: u64 = 50;

/// Whether each daemon has a client that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Clients {
    None,
    OneEach,
}

/// How the bastion is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Away {
    /// Its machine refuses connections, after a round trip.
    Refuses,
    /// Nothing answers: an attempt waits for its time limit.
    Silent,
}

struct Daemon {
    life: SessionStateMachine,
    /// When the attempt under way ends.
    ends: Option<u64>,
    /// When the client asks again.
    nudges: Option<u64>,
}

struct Herd {
    /// Attempts begun in each second.
    attempts: Vec<u32>,
    /// When all were up again, after the bastion was.
    all_up: Duration,
    half_up: Duration,
}

fn at(milliseconds: u64) -> BootInstant {
    BootInstant::since_boot(Duration::from_secs(1_000_000) + Duration::from_millis(milliseconds))
}

fn cause() -> Cause {
    Cause::BastionUnreachable {
        bastion: HostPort {
            host: "bastion".into(),
            port: 22,
        },
        detail: "connection refused".into(),
    }
}

fn simulate(clients: Clients, away: Away) -> Herd {
    let mut random = StdRng::seed_from_u64(4);
    let mut daemons: Vec<_> = (0..DAEMONS)
        .map(|_| {
            let began = at(0) - Duration::from_secs(600);
            let (mut life, _) = SessionStateMachine::begin(began);
            life.handle(Event::AttemptSucceeded, began, 0.0);
            Daemon {
                life,
                ends: None,
                // The first client comes within a second.
                nudges: (clients == Clients::OneEach).then(|| random.random_range(0..1000)),
            }
        })
        .collect();
    let mut attempts = vec![0; usize::try_from(LONGEST / 1000).unwrap()];
    let (mut up, mut half_up, mut all_up) = (0, None, None);
    for now in (0..LONGEST).step_by(usize::try_from(STEP).unwrap()) {
        for daemon in &mut daemons {
            let mut events = Vec::new();
            if now == 0 {
                let detail = "the line went silent".into();
                events.push(Event::WayLost(Cause::TunnelLost { detail }));
            }
            let held = daemon.life.phase() != borealisd::session::machine::Phase::Up;
            if daemon.ends.is_some_and(|ends| ends <= now) {
                daemon.ends = None;
                if now < OUTAGE {
                    events.push(Event::AttemptFailed(cause()));
                } else {
                    events.push(Event::AttemptSucceeded);
                    up += 1;
                }
            }
            if held && daemon.nudges.is_some_and(|due| due <= now) {
                events.push(Event::Nudged(RetryTrigger::Client));
                // As a held client does: 5 s, by half more or less.
                daemon.nudges = Some(now + random.random_range(2500..7500));
            }
            events.push(Event::Tick);
            for event in events {
                let jitter = random.random_range(0.0..1.0);
                if let Some(Action::Attempt) = daemon.life.handle(event, at(now), jitter) {
                    attempts[usize::try_from(now / 1000).unwrap()] += 1;
                    let takes = match away {
                        Away::Silent if now < OUTAGE => 15_000,
                        _ => 80,
                    };
                    // What waits for an answer when the bastion is back gets it with the
                    // next packet that TCP sends again.
                    daemon.ends = Some(now + takes);
                }
            }
        }
        if up >= DAEMONS / 2 && half_up.is_none() {
            half_up = Some(now - OUTAGE);
        }
        if up == DAEMONS {
            all_up = Some(now - OUTAGE);
            break;
        }
    }
    Herd {
        attempts,
        half_up: Duration::from_millis(half_up.unwrap()),
        all_up: Duration::from_millis(all_up.unwrap()),
    }
}

#[test]
fn a_thousand_daemons_do_not_stampede() {
    for clients in [Clients::None, Clients::OneEach] {
        for away in [Away::Refuses, Away::Silent] {
            let herd = simulate(clients, away);
            let most = |from: usize, to: usize| *herd.attempts[from..to].iter().max().unwrap();
            let total: u32 = herd.attempts[..60].iter().sum();
            println!(
                "{clients:?}, {away:?}: first second {}, most in a second 1-5: {}, 5-30: {}, \
                 30-60: {}, after: {}; {:.1} attempts each; half up {:?}, all up {:?} after",
                herd.attempts[0],
                most(1, 5),
                most(5, 30),
                most(30, 60),
                most(60, 120),
                f64::from(total) / 1000.0,
                herd.half_up,
                herd.all_up,
            );
            // Everybody tries once at once: most losses are one's own. Then it thins out.
            assert!(herd.attempts[0] <= 2500);
            let bound = match clients {
                Clients::None => 200,
                Clients::OneEach => 300,
            };
            assert!(most(30, 60) <= bound, "{}", most(30, 60));
            assert!(most(60, 120) <= bound, "{}", most(60, 120));
            // No daemon waits longer than the longest backoff and an attempt.
            assert!(herd.all_up <= Duration::from_secs(31), "{:?}", herd.all_up);
        }
    }
}
