use proptest::prelude::*;

use super::*;
use crate::model::HostPort;

fn at(seconds: u64) -> BootInstant {
    BootInstant::since_boot(Duration::from_secs(1_000_000 + seconds))
}

fn lost() -> Cause {
    Cause::TunnelLost {
        detail: "the line went silent".into(),
    }
}

fn bastion() -> HostPort {
    HostPort {
        host: "bastion".into(),
        port: 22,
    }
}

fn up() -> SessionStateMachine {
    let (mut life, first) = SessionStateMachine::begin(at(0));
    assert_eq!(first, Action::Attempt);
    assert_eq!(life.handle(Event::AttemptSucceeded, at(1), 0.5), None);
    assert_eq!(life.phase(), Phase::Up);
    life
}

#[test]
fn a_lost_line_is_tried_for_within_a_second() {
    let mut life = up();
    assert_eq!(life.handle(Event::WayLost(lost()), at(100), 0.999), None);
    assert_eq!(life.phase(), Phase::Reconnecting);
    let retry = life.retry_at().unwrap();
    assert!(retry.since(at(100)) <= Duration::from_secs(1));
    assert_eq!(
        life.handle(Event::Tick, at(101), 0.0),
        Some(Action::Attempt)
    );
    assert_eq!(life.handle(Event::AttemptSucceeded, at(102), 0.0), None);
    assert_eq!(life.phase(), Phase::Up);
    assert_eq!(life.last_error(), None);
}

#[test]
fn a_flapping_line_is_tried_ever_more_rarely() {
    let mut life = up();
    let mut now = 2;
    let mut waits = Vec::new();
    for _ in 0..8 {
        life.handle(Event::WayLost(lost()), at(now), 1.0);
        waits.push(life.retry_at().unwrap().since(at(now)).as_secs());
        now += 60;
        life.handle(Event::Tick, at(now), 1.0);
        life.handle(Event::AttemptSucceeded, at(now), 1.0);
        // Up for less than STABLE_AFTER.
        now += 10;
    }
    assert_eq!(waits, [0, 1, 2, 4, 8, 16, 30, 30]);
    now += 100;
    life.handle(Event::WayLost(lost()), at(now), 1.0);
    assert_eq!(life.retry_at().unwrap().since(at(now)).as_millis(), 500);
}

#[test]
fn a_tunnel_that_a_new_network_breaks_is_tried_for_within_a_moment() {
    let mut life = up();
    assert_eq!(
        life.handle(Event::Nudged(RetryTrigger::Network), at(100), 0.9),
        None
    );
    // Not all sessions in the same instant.
    assert_eq!(life.handle(Event::WayLost(lost()), at(103), 0.9), None);
    let wait = life.retry_at().unwrap().since(at(103));
    assert_eq!(wait, SessionStateMachine::SPREAD.mul_f64(0.9));
    let retry = life.handle(Event::Tick, at(103) + wait, 0.9);
    assert_eq!(retry, Some(Action::Attempt));
}

#[test]
fn an_attempt_on_the_old_network_gives_way_to_one_on_the_new() {
    let mut life = up();
    life.handle(Event::WayLost(lost()), at(100), 0.5);
    life.handle(Event::Tick, at(101), 0.5);
    assert!(life.is_attempting());
    let again = life.handle(Event::Nudged(RetryTrigger::Network), at(105), 0.5);
    assert_eq!(again, Some(Action::Attempt));
    assert!(life.is_attempting());
    // A network that changes all the time lets an attempt come to its end.
    for change in [105, 106, 107] {
        let again = life.handle(Event::Nudged(RetryTrigger::Network), at(change), 0.5);
        assert_eq!(again, None);
    }
    let again = life.handle(Event::Tick, at(108), 0.5);
    assert_eq!(again, Some(Action::Attempt));
    life.handle(Event::AttemptSucceeded, at(109), 0.5);
    assert_eq!((life.phase(), life.retry_at()), (Phase::Up, None));
}

#[test]
fn a_network_that_changes_all_the_time_does_not_hammer_a_dead_bastion() {
    let (mut life, _) = SessionStateMachine::begin(at(0));
    let unreachable = || Cause::BastionUnreachable {
        bastion: bastion(),
        detail: "connection refused".into(),
    };
    life.handle(Event::AttemptFailed(unreachable()), at(0), 0.9);
    let mut attempts = 0;
    for tenth in 1..=100 {
        let now = at(0) + Duration::from_millis(100 * tenth);
        if life
            .handle(Event::Nudged(RetryTrigger::Network), now, 0.9)
            .is_some()
        {
            attempts += 1;
            life.handle(Event::AttemptFailed(unreachable()), now, 0.9);
        }
    }
    assert_eq!(attempts, 10);
}

#[test]
fn without_a_network_it_looks_for_one_and_never_more_rarely() {
    let mut life = up();
    life.handle(Event::WayLost(lost()), at(100), 0.5);
    let mut now = 101;
    for _ in 0..20 {
        assert!(life.handle(Event::Tick, at(now), 0.5).is_some());
        life.handle(Event::AttemptFailed(Cause::NoNetwork), at(now), 0.5);
        let pause = life.retry_at().unwrap().since(at(now));
        assert_eq!(pause, SessionStateMachine::NO_NETWORK_PAUSE);
        now += pause.as_secs();
    }
    let back = life.handle(Event::Nudged(RetryTrigger::Network), at(now), 0.5);
    assert_eq!(back, Some(Action::Attempt));
}

#[test]
fn a_refused_key_is_renewed_once_and_then_waited_for() {
    let (mut life, _) = SessionStateMachine::begin(at(0));
    let refused = || Event::AttemptFailed(Cause::BastionRefusedKey { bastion: bastion() });
    assert_eq!(life.handle(refused(), at(1), 0.5), Some(Action::Attempt));
    assert_eq!(life.handle(refused(), at(2), 0.5), None);
    assert_eq!(life.phase(), Phase::Opening);
    assert!(life.retry_at().is_some());
}

#[test]
fn what_only_the_user_can_mend_is_not_tried_again() {
    let (mut life, _) = SessionStateMachine::begin(at(0));
    let differs = Cause::HostKeyDiffers { bastion: bastion() };
    life.handle(Event::AttemptFailed(differs), at(1), 0.5);
    assert_eq!(life.phase(), Phase::Failed);
    for seconds in [10, 1000, 100_000] {
        assert_eq!(life.handle(Event::Tick, at(seconds), 0.5), None);
        assert_eq!(
            life.handle(Event::Nudged(RetryTrigger::Client), at(seconds), 0.5),
            None
        );
        assert_eq!(
            life.handle(Event::Nudged(RetryTrigger::Network), at(seconds), 0.5),
            None
        );
    }
    let retry = life.handle(Event::Nudged(RetryTrigger::User), at(200_000), 0.5);
    assert_eq!(retry, Some(Action::Attempt));
    assert_eq!(life.phase(), Phase::Opening);
}

#[test]
fn a_tunnel_of_another_session_ends_the_wait_for_one_and_no_other() {
    let mut life = up();
    life.handle(Event::WayLost(lost()), at(100), 0.9);
    let retry = life.handle(Event::Nudged(RetryTrigger::Tunnel), at(100), 0.5);
    assert_eq!(retry, Some(Action::Attempt));
    let unreachable = Cause::DatabaseUnreachable {
        server: bastion(),
        detail: "connection refused".into(),
    };
    life.handle(Event::AttemptFailed(unreachable), at(101), 0.9);
    let none = life.handle(Event::Nudged(RetryTrigger::Tunnel), at(101), 0.5);
    assert_eq!(none, None);
}

#[test]
fn a_new_token_wakes_a_session_that_waits_for_one() {
    let (mut life, _) = SessionStateMachine::begin(at(0));
    life.handle(Event::AttemptFailed(Cause::NotLoggedIn), at(1), 0.5);
    assert_eq!(life.phase(), Phase::Failed);
    let retry = life.handle(Event::Nudged(RetryTrigger::Token), at(2), 0.5);
    assert_eq!(retry, Some(Action::Attempt));
}

#[test]
fn a_connection_pool_does_not_hammer_an_add_on_that_is_not_ready() {
    let (mut life, _) = SessionStateMachine::begin(at(0));
    let provisioning = || Cause::Provisioning {
        addon: "borealis-pg-hex-1".into(),
    };
    life.handle(Event::AttemptFailed(provisioning()), at(0), 0.5);
    let mut attempts = 0;
    for second in 0..60 {
        if life
            .handle(Event::Nudged(RetryTrigger::Client), at(second), 0.5)
            .is_some()
        {
            attempts += 1;
            life.handle(Event::AttemptFailed(provisioning()), at(second), 0.5);
        }
    }
    assert_eq!(attempts, 5);
}

#[test]
fn a_target_that_leads_elsewhere_is_followed_at_once() {
    let moved = || Cause::TargetMoved {
        target: "sushi".into(),
        from: "a".into(),
        to: "b".into(),
    };
    let mut life = up();
    let next = life.handle(Event::WayLost(moved()), at(10), 0.9);
    assert_eq!(next, Some(Action::Attempt));
    assert_eq!(life.phase(), Phase::Reconnecting);
    // What is under way leads to where it led before.
    let mut life = up();
    life.handle(Event::WayLost(lost()), at(10), 0.9);
    life.handle(Event::Tick, at(11), 0.9);
    life.handle(Event::AttemptSucceeded, at(12), 0.9);
    let next = life.handle(Event::WayLost(moved()), at(13), 0.9);
    assert_eq!(next, Some(Action::Attempt));
}

#[test]
fn a_session_that_was_up_goes_on_looking_for_its_target() {
    let gone = || Cause::AddonNotFound {
        addon: "NAVY".into(),
        app: Some("ramen".into()),
    };
    let (mut life, _) = SessionStateMachine::begin(at(0));
    life.handle(Event::AttemptFailed(gone()), at(1), 0.5);
    assert_eq!(life.phase(), Phase::Failed);
    let mut life = up();
    life.handle(Event::WayLost(gone()), at(10), 0.5);
    life.handle(Event::Tick, at(11), 0.5);
    life.handle(Event::AttemptFailed(gone()), at(12), 0.5);
    assert_eq!(life.phase(), Phase::Reconnecting);
    assert_eq!(life.last_error(), Some(&gone()));
    assert!(life.retry_at().is_some());
}

fn cause() -> impl Strategy<Value = Cause> {
    prop_oneof![
        Just(lost()),
        Just(Cause::NotLoggedIn),
        Just(Cause::NoNetwork),
        Just(Cause::AccessRevoked { addon: "a".into() }),
        Just(Cause::HostKeyDiffers { bastion: bastion() }),
        Just(Cause::BastionRefusedKey { bastion: bastion() }),
        Just(Cause::DatabaseRefusedLogin {
            sqlstate: "28P01".into(),
            message: String::new().into()
        }),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        Just(Event::AttemptSucceeded),
        cause().prop_map(Event::AttemptFailed),
        Just(Event::WayLost(lost())),
        prop_oneof![
            Just(RetryTrigger::Client),
            Just(RetryTrigger::User),
            Just(RetryTrigger::Network),
            Just(RetryTrigger::Token),
            Just(RetryTrigger::Tunnel)
        ]
        .prop_map(Event::Nudged),
        Just(Event::Tick),
        Just(Event::Tick),
    ]
}

/// What an onlooker counts of a session: what it was told, and how often it tried.
#[derive(Debug, Default)]
struct Onlooker {
    is_up: bool,
    attempts: u32,
    /// Reasons to try at once that came from outside.
    reasons: u32,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    /// Over any history: it says that it is up exactly where the last it heard of the way was
    /// good; it gives up only for what waiting doesn't change; what clients and timers bring
    /// about is no more than one attempt a second; and it waits no longer than it may.
    #[test]
    fn it_tells_the_truth_and_hammers_nobody(
        history in proptest::collection::vec((event(), 0_u64..60, 0.5..1.0_f64), 0..60),
        close in proptest::option::of(0_usize..200)
    ) {
        let (mut life, _) = SessionStateMachine::begin(at(0));
        let mut seen = Onlooker::default();
        let (mut now, mut closed) = (0, false);
        for (number, (event, passed, jitter)) in history.into_iter().enumerate() {
            now += passed;
            let event = if close == Some(number) { Event::Close } else { event };
            let ends = matches!(event, Event::AttemptSucceeded | Event::AttemptFailed(_));
            if ends && !life.is_attempting() {
                continue;
            }
            closed |= event == Event::Close;
            match &event {
                Event::AttemptSucceeded => seen.is_up = true,
                Event::WayLost(_) => {
                    seen.is_up = false;
                    seen.reasons += 1;
                }
                Event::AttemptFailed(cause) => {
                    seen.reasons += u32::from(cause.retry() == Retry::NewLease);
                }
                Event::Nudged(RetryTrigger::Client) | Event::Close | Event::Tick => {}
                Event::Nudged(_) => seen.reasons += 1,
            }
            let did = life.handle(event.clone(), at(now), jitter);
            seen.attempts += u32::from(did.is_some());
            prop_assert!(did.is_none() || !closed, "nothing begins while it closes");
            prop_assert_eq!(life.phase() == Phase::Closing, closed);
            prop_assert!(closed || (life.phase() == Phase::Up) == seen.is_up, "{:?}", event);
            if life.phase() == Phase::Failed {
                let retry = life.last_error().map(Cause::retry);
                prop_assert!(matches!(retry, Some(Retry::Never | Retry::WhenTokenChanges)));
            }
            let most = u64::from(seen.reasons) + now + 1;
            prop_assert!(u64::from(seen.attempts) <= most, "{:?} in {} s", seen, now);
            if let Some(retry_at) = life.retry_at() {
                let longest = SessionStateMachine::SLOW.mul_f64(1.25).max(Backoff::CAP);
                prop_assert!(retry_at.since(at(now)) <= longest);
            }
        }
    }
}

proptest! {
    /// Over any history: at most one attempt at a time, and a session that is not up, not
    /// closing and not waiting for the user always has a next step.
    #[test]
    fn it_never_gets_stuck(
        history in proptest::collection::vec((event(), 0_u64..200, 0.0..1.0_f64), 0..200)
    ) {
        let (mut life, _) = SessionStateMachine::begin(at(0));
        let mut attempting = true;
        let mut now = 0;
        for (event, passed, jitter) in history {
            now += passed;
            let ends = matches!(event, Event::AttemptSucceeded | Event::AttemptFailed(_));
            if ends && !attempting {
                continue;
            }
            attempting &= !ends;
            let replaces = life.retry_at().is_some() || event == Event::Nudged(RetryTrigger::Network);
            if let Some(Action::Attempt) = life.handle(event, at(now), jitter) {
                prop_assert!(!attempting || replaces, "a second attempt at a time");
                attempting = true;
            }
            prop_assert_eq!(life.is_attempting(), attempting);
            if matches!(life.phase(), Phase::Opening | Phase::Reconnecting) {
                prop_assert!(attempting || life.retry_at().is_some(), "stuck");
            }
        }
    }
}
