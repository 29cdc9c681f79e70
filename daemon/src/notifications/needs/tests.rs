use proptest::prelude::*;

use super::*;

const ADDON: &str = "borealis-pg-hex-12345";

fn at(seconds: i64) -> Timestamp {
    Timestamp::new(1_795_000_000 + seconds, 0).unwrap()
}

fn failing(number: u64, name: &str, cause: Cause) -> SessionSnapshot {
    let mut session = SessionSnapshot::for_tests(number, name);
    session.status.phase = Phase::Reconnecting;
    session.status.last_error = Some(cause);
    session
}

fn snapshot(sessions: impl IntoIterator<Item = SessionSnapshot>) -> Snapshot {
    Snapshot {
        sessions: sessions.into_iter().collect(),
        ..Snapshot::default()
    }
}

fn token_refused() -> Cause {
    Cause::TokenRefused {
        source: "netrc".into(),
    }
}

fn revoked() -> Cause {
    Cause::AccessRevoked {
        addon: ADDON.into(),
    }
}

/// What is told at that time; all of it is taken.
fn told(needs: &mut Needs, snapshot: &Snapshot, seconds: i64) -> Vec<Topic> {
    let steps = needs.look(snapshot, at(seconds));
    let topics: Vec<_> = steps.to_tell.into_iter().map(|(topic, _)| topic).collect();
    for topic in &topics {
        needs.told(topic, true, at(seconds));
    }
    topics
}

#[test]
fn a_cause_is_told_once_until_it_has_passed() {
    let mut needs = Needs::default();
    let both = snapshot([
        failing(1, "sushi", token_refused()),
        failing(2, "ramen", token_refused()),
    ]);
    assert_eq!(told(&mut needs, &both, 0), [], "it may pass");
    assert_eq!(needs.next_due(), Some(at(2)));
    assert_eq!(told(&mut needs, &both, 2), [Topic::SignIn]);
    assert_eq!(needs.next_due(), None);
    // A network that is away doesn't sign anybody in.
    let away = snapshot([failing(1, "sushi", Cause::NoNetwork)]);
    for (seconds, now) in [(10, &both), (20, &away), (30, &both)] {
        let steps = needs.look(now, at(seconds));
        assert_eq!(steps, Steps::default());
    }
    // One session is closed, the other up: it has passed.
    let well = snapshot([SessionSnapshot::for_tests(2, "ramen")]);
    assert_eq!(needs.look(&well, at(40)).passed, [Topic::SignIn]);
    assert_eq!(told(&mut needs, &both, 50), []);
    assert_eq!(told(&mut needs, &both, 52), [Topic::SignIn]);
}

#[test]
fn what_passes_by_itself_is_not_told() {
    let mut needs = Needs::default();
    let refused = snapshot([failing(1, "sushi", token_refused())]);
    let well = snapshot([SessionSnapshot::for_tests(1, "sushi")]);
    assert_eq!(told(&mut needs, &refused, 0), []);
    assert_eq!(needs.look(&well, at(1)), Steps::default());
    assert_eq!(told(&mut needs, &well, 100), []);
    // At the start of a machine the keychain may be locked for a while.
    let without = snapshot([failing(1, "sushi", Cause::NotLoggedIn)]);
    assert_eq!(told(&mut needs, &without, 200), []);
    assert_eq!(told(&mut needs, &without, 259), []);
    assert_eq!(told(&mut needs, &without, 260), [Topic::SignIn]);
    // Of these the user need not know.
    let mut needs = Needs::default();
    for cause in [Cause::NoNetwork, Cause::DaemonStopping] {
        let passing = snapshot([failing(1, "sushi", cause)]);
        assert_eq!(told(&mut needs, &passing, 0), []);
        assert_eq!(needs.next_due(), None);
    }
}

#[test]
fn each_add_on_whose_access_is_revoked_is_told() {
    let mut needs = Needs::default();
    let other = Cause::AccessRevoked {
        addon: "other".into(),
    };
    let all = snapshot([
        failing(1, "sushi", revoked()),
        failing(2, "sushi-rw", revoked()),
        failing(3, "ramen", other),
    ]);
    told(&mut needs, &all, 0);
    let expected = [ADDON, "other"].map(|addon| Topic::Revoked(addon.into()));
    assert_eq!(told(&mut needs, &all, 2), expected);
}

#[test]
fn two_machines_that_fight_are_told() {
    let mut needs = Needs::default();
    let mut fight = snapshot([]);
    fight.problems = vec![Cause::CredentialsContested {
        addon: ADDON.into(),
        times: 3,
        within: std::time::Duration::from_secs(600),
    }];
    assert_eq!(told(&mut needs, &fight, 0), [Topic::Fight(ADDON.into())]);
    // Another count is no news.
    fight.problems = vec![Cause::CredentialsContested {
        addon: ADDON.into(),
        times: 4,
        within: std::time::Duration::from_secs(600),
    }];
    assert_eq!(needs.look(&fight, at(1)), Steps::default());
    let passed = needs.look(&snapshot([]), at(2)).passed;
    assert_eq!(passed, [Topic::Fight(ADDON.into())]);
}

#[test]
fn write_access_that_ends_is_told_five_minutes_before() {
    let mut needs = Needs::default();
    let mut session = SessionSnapshot::for_tests(1, "sushi-rw");
    (session.access, session.expires_at) = (Access::ReadWrite, Some(at(1800)));
    let open = snapshot([session.clone()]);
    assert_eq!(told(&mut needs, &open, 0), []);
    assert_eq!(needs.next_due(), Some(at(1500)));
    let topic = Topic::End(session.id, at(1800));
    assert_eq!(told(&mut needs, &open, 1500), std::slice::from_ref(&topic));
    assert_eq!(told(&mut needs, &open, 1501), []);
    // Given more time, it is told before that ends.
    session.expires_at = Some(at(3600));
    let longer = snapshot([session.clone()]);
    assert_eq!(needs.look(&longer, at(1502)).passed, [topic]);
    assert_eq!(told(&mut needs, &longer, 3300).len(), 1);
    assert_eq!(needs.look(&snapshot([]), at(3301)).passed.len(), 1);
    // Whoever opens it for so short a time knows; so does who only reads.
    session.expires_at = Some(at(4000 + 299));
    assert_eq!(told(&mut needs, &snapshot([session.clone()]), 4000), []);
    (session.access, session.expires_at) = (Access::ReadOnly, Some(at(9000)));
    assert_eq!(told(&mut needs, &snapshot([session]), 8999), []);
}

#[test]
fn what_nobody_took_is_tried_again_later() {
    let mut needs = Needs::default();
    let refused = snapshot([failing(1, "sushi", revoked())]);
    needs.look(&refused, at(0));
    let topic = Topic::Revoked(ADDON.into());
    needs.told(&topic, false, at(2));
    assert_eq!(needs.next_due(), Some(at(302)));
    assert_eq!(told(&mut needs, &refused, 301), []);
    assert_eq!(told(&mut needs, &refused, 302), [topic]);
}

#[test]
fn a_message_says_what_and_what_to_do() {
    let mut needs = Needs::default();
    let evil = Cause::AccessRevoked {
        addon: "x\n\u{1b}[2J<b>".into(),
    };
    let two = snapshot([
        failing(1, "sushi", token_refused()),
        failing(2, "ramen", evil),
    ]);
    needs.look(&two, at(0));
    let messages = needs.look(&two, at(2)).to_tell;
    let [(_, sign_in), (_, revoked)] = &messages[..] else {
        panic!("{messages:?}");
    };
    assert_eq!(sign_in.summary, "Sign in to Heroku again");
    assert!(
        sign_in
            .body
            .starts_with("Heroku refused the API token from netrc")
            && sign_in
                .body
                .contains(". Session sushi waits for it. Sign in again with")
            && sign_in.body.ends_with('.'),
        "{}",
        sign_in.body
    );
    assert!(!revoked.body.contains(text::is_unsafe), "{}", revoked.body);
}

proptest! {
    /// However the sessions fare: nothing is told twice unless it has passed in between, and
    /// nothing passes that was not told.
    #[test]
    fn nothing_is_told_twice(
        history in proptest::collection::vec((0..3_u64, 0..5_u8, 0..400_i64), 0..60),
    ) {
        let mut needs = Needs::default();
        let mut sessions = BTreeMap::new();
        let mut open = BTreeSet::new();
        let mut seconds = 0;
        for (number, kind, pause) in history {
            seconds += pause;
            let session = match kind {
                0 => Some(failing(number, "sushi", token_refused())),
                1 => Some(failing(number, "sushi", revoked())),
                2 => Some(failing(number, "sushi", Cause::NoNetwork)),
                3 => Some(SessionSnapshot::for_tests(number, "sushi")),
                _ => None,
            };
            match session {
                Some(session) => sessions.insert(number, session),
                None => sessions.remove(&number),
            };
            let now = snapshot(sessions.values().cloned());
            let steps = needs.look(&now, at(seconds));
            for topic in steps.passed {
                prop_assert!(open.remove(&topic), "{topic:?} was never told");
            }
            for (topic, _) in steps.to_tell {
                prop_assert!(open.insert(topic.clone()), "{topic:?} is told again");
                needs.told(&topic, true, at(seconds));
            }
        }
    }
}
