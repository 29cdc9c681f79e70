use proptest::prelude::*;
use prost::Message as _;

use super::*;

fn named(name: &str) -> v1::Target {
    v1::Target {
        name: name.into(),
        ..Default::default()
    }
}

fn opening(change: impl FnOnce(&mut v1::OpenSessionRequest)) -> Result<OpenRequest, Cause> {
    let mut request = v1::OpenSessionRequest {
        target: Some(named("sushi")),
        ..Default::default()
    };
    change(&mut request);
    open_request(request)
}

/// What a client reads out of a status.
fn read(status: &Status) -> v1::Failure {
    let details = tonic_types::pb::Status::decode(status.details()).unwrap();
    assert_eq!(details.code, status.code() as i32);
    let [any] = &details.details[..] else {
        panic!("{} details", details.details.len());
    };
    assert!(any.type_url.ends_with("/borealis.control.v1.Failure"));
    v1::Failure::decode(&any.value[..]).unwrap()
}

#[test]
fn a_status_carries_the_whole_failure() {
    for (cause, code, class) in [
        (
            Cause::TargetMissing,
            Code::InvalidArgument,
            v1::FailureClass::Usage,
        ),
        (
            Cause::NotLoggedIn,
            Code::Unauthenticated,
            v1::FailureClass::Login,
        ),
        (
            Cause::AppNotFound {
                app: "süß".into()
            },
            Code::NotFound,
            v1::FailureClass::NotFound,
        ),
        (
            Cause::DaemonStopping,
            Code::Unavailable,
            v1::FailureClass::Operation,
        ),
    ] {
        let status = status(&cause);
        let failure = read(&status);
        assert_eq!(status.code(), code, "{cause}");
        assert_eq!(failure.class(), class, "{cause}");
        assert_eq!(failure.code, cause.kind().code);
        assert_eq!(failure.message, status.message());
        assert_eq!(failure.message, cause.words().sentence);
        assert_eq!(failure.hint, cause.words().hint);
    }
}

#[test]
fn sessions_are_named_or_all_are_meant() {
    assert!(matches!(selection(vec![], true), Ok(Selection::All)));
    let Ok(Selection::Targets(targets)) = selection(vec![named("a"), named("b")], false) else {
        panic!("two targets");
    };
    assert_eq!(
        targets,
        [Target::Word("a".into()), Target::Word("b".into())]
    );
    for (targets, all) in [(vec![], false), (vec![named("a")], true)] {
        let refused = selection(targets, all);
        assert!(matches!(refused, Err(Cause::InvalidRequest { .. })));
    }
    let nameless = selection(vec![named("a"), named(" ")], false);
    assert!(matches!(nameless, Err(Cause::TargetMissing)));
}

#[test]
fn a_session_closes_by_itself_only_where_that_is_asked_for() {
    let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    assert!(opening(|_| {}).unwrap().expiry.is_none());
    let before = crate::platform::clock::timestamp();
    let expiry = opening(|request| request.expires_in = seconds(60));
    let expiry = expiry.unwrap().expiry.unwrap();
    assert_eq!(expiry.grace, Expiry::GRACE);
    let from_now = expiry.at.duration_since(before).as_secs();
    assert!((60..120).contains(&from_now), "{from_now} s");
    let with_grace = opening(|request| {
        request.expires_in = seconds(60);
        request.grace = seconds(5);
    });
    let expiry = with_grace.unwrap().expiry.unwrap();
    assert_eq!(expiry.grace, Duration::from_secs(5));
    for (expires_in, grace) in [
        (None, seconds(5)),
        (seconds(-1), None),
        (seconds(60), seconds(-1)),
        // Beyond the year 9999.
        (seconds(i64::MAX), None),
    ] {
        let refused = opening(|request| {
            request.expires_in = expires_in;
            request.grace = grace;
        });
        assert!(
            matches!(refused, Err(Cause::InvalidRequest { .. })),
            "{expires_in:?}, {grace:?}"
        );
    }
}

#[test]
fn who_uses_a_session_says_what_who_opens_one_does() {
    let used = use_request(v1::UseSessionRequest {
        target: Some(named("sushi")),
        port: 15_432,
        ..Default::default()
    });
    let used = used.unwrap();
    assert_eq!(used.target, Target::Word("sushi".into()));
    assert_eq!(used.port, Some(15_432));
    assert!(used.name.is_none() && used.expiry.is_none());
    let nameless = use_request(v1::UseSessionRequest::default());
    assert!(matches!(nameless, Err(Cause::TargetMissing)));
}

proptest! {
    #[test]
    fn a_port_is_one_or_none_or_refused(asked: u32) {
        match (asked, opening(|request| request.port = asked)) {
            (0, Ok(request)) => prop_assert_eq!(request.port, None),
            (1..=65_535, Ok(request)) => prop_assert_eq!(request.port.map(u32::from), Some(asked)),
            (65_536.., Err(Cause::InvalidRequest { problem })) => {
                prop_assert!(problem.contains(&asked.to_string()));
            }
            (_, answer) => prop_assert!(false, "{} gives {:?}", asked, answer),
        }
    }

    #[test]
    fn a_name_is_taken_as_it_is_or_refused(asked in ".{0,80}") {
        let opened = opening(|request| request.name.clone_from(&asked));
        match opened {
            Ok(request) if asked.is_empty() => prop_assert_eq!(request.name, None),
            Ok(request) => prop_assert_eq!(request.name.map(|name| name.to_string()), Some(asked)),
            Err(Cause::InvalidRequest { .. }) => prop_assert!(SessionName::parse(&asked).is_err()),
            Err(cause) => prop_assert!(false, "{}", cause),
        }
    }

    #[test]
    fn durations_and_moments_come_back_as_they_went(seconds in 0..10_000_000_i64, nanos in 0..1_000_000_000_i32) {
        let sent = prost_types::Duration { seconds, nanos };
        let taken = duration(&sent).unwrap();
        prop_assert_eq!(prost_types::Duration::try_from(taken).unwrap(), sent);
        let moment = Timestamp::new(seconds, nanos).unwrap();
        let sent = timestamp(moment);
        prop_assert_eq!(Timestamp::new(sent.seconds, sent.nanos).unwrap(), moment);
    }

    #[test]
    fn no_text_of_a_client_breaks_a_target(name in ".{0,40}", app in ".{0,40}", addon in ".{0,40}") {
        let nothing = [&name, &app, &addon].iter().all(|text| text.trim().is_empty());
        let asked = target(Some(v1::Target { name, app, addon }));
        prop_assert_eq!(asked.is_err(), nothing);
    }
}
