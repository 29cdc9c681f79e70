use super::*;
use crate::{
    model::HostPort,
    proxy::testing::{Answer, World, startup, until},
};

const ENOUGH: Duration = Duration::from_secs(1);

/// The error that a database gives which answers a log-in like that.
async fn error_of(answer: Answer) -> LoginError {
    let world = World::new(0);
    world.database.answer([answer]);
    let lease = world.database.current_lease().unwrap();
    let channel = world.database.channel(&lease.credential.server).await;
    let logging_in =
        connector::log_in(&*world.database, channel.unwrap(), &lease, &startup("a")).await;
    logging_in.map(drop).unwrap_err()
}

#[tokio::test]
async fn what_follows_from_a_log_in_that_failed() {
    let server = HostPort {
        host: "db".into(),
        port: 5432,
    };
    let (long, short) = (Duration::from_secs(30), RESTART_PAUSE * 2);
    for (answer, time_left, next) in [
        (Answer::Refuse("28P01"), long, Next::Renew),
        (Answer::Refuse("28000"), long, Next::Renew),
        (Answer::Refuse("28P01"), short, Next::Renew),
        (Answer::Refuse("53300"), long, Next::GiveBack),
        (Answer::Refuse("53300"), short, Next::GiveBack),
        (Answer::Refuse("57P01"), long, Next::Pause),
        (Answer::Refuse("57P02"), long, Next::Pause),
        (Answer::Refuse("57P03"), long, Next::Pause),
        (Answer::Refuse("57P03"), short, Next::Refuse),
        (Answer::Break, long, Next::Pause),
        (Answer::Break, short, Next::Refuse),
        (Answer::Refuse("3D000"), long, Next::Refuse),
        (Answer::Refuse("0A000"), long, Next::Refuse),
    ] {
        let error = error_of(answer).await;
        let cause = error.cause(&server);
        let found = classify(&error, &cause, time_left);
        assert_eq!(found, next, "{answer:?} with {time_left:?} left");
    }
    for error in [
        LoginError::Tls("no".into()),
        LoginError::Protocol("no".into()),
    ] {
        let cause = error.cause(&server);
        assert_eq!(classify(&error, &cause, long), Next::Refuse, "{error}");
    }
}

/// The cause that a client is refused for, if it is one of ours.
fn ours<C: Channel>(outcome: Result<Reached<C>, Refused>) -> Cause {
    match outcome.map(drop).unwrap_err() {
        Refused::Because(cause) => cause,
        Refused::ByDatabase(answer) => panic!("{answer:?}"),
    }
}

/// The SQLSTATE of the database's own words.
fn databases<C: Channel>(outcome: Result<Reached<C>, Refused>) -> String {
    match outcome.map(drop).unwrap_err() {
        Refused::Because(cause) => panic!("{cause}"),
        Refused::ByDatabase(answer) => {
            let text = String::from_utf8_lossy(&answer).into_owned();
            let sqlstate = text.split('\0').find_map(|field| field.strip_prefix('C'));
            sqlstate.unwrap().to_owned()
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_credential_is_renewed_once_for_all_who_have_it() {
    let world = World::new(0);
    world.database.accept(2);
    let (a, b) = (startup("a"), startup("b"));
    let (first, second) = tokio::join!(world.upstream.log_in(&a), world.upstream.log_in(&b));
    let generations = [first.unwrap().generation, second.unwrap().generation];
    assert_eq!(generations, [Generation(2); 2]);
    assert_eq!(world.database.renewals(), 1);
    // Each says which one was refused, and none but that.
    assert_eq!(world.database.refused(), [Generation(1); 2]);
    assert_eq!(world.database.backends().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_client_is_told_where_no_other_credential_is_asked_for() {
    let world = World::new(0);
    world.database.accept(u64::MAX);
    let held_back = Cause::FreshCredentialsRefused {
        sqlstate: "28P01".into(),
        message: "no".into(),
    };
    world.database.hold_back(held_back.clone());
    assert_eq!(ours(world.upstream.log_in(&startup("a")).await), held_back);
    // Nobody knocks again with what was refused.
    assert_eq!(world.database.backends().len(), 1);
    assert_eq!(world.database.renewals(), 0);
}

#[tokio::test(start_paused = true)]
async fn renewals_of_one_log_in_come_to_an_end() {
    let world = World::new(0);
    world.database.accept(u64::MAX);
    let refused = ours(world.upstream.log_in(&startup("a")).await);
    assert!(
        matches!(refused, Cause::DatabaseRefusedLogin { .. }),
        "{refused}"
    );
    assert_eq!(world.database.renewals(), MAX_RENEWALS as usize);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_kept_ready_takes_no_clients_place() {
    let world = World::new(1);
    world.database.has_room_for(1);
    world.warm.prepare(&startup("a"));
    world.until_ready(1).await;
    let reached = world.upstream.log_in(&startup("b")).await.unwrap();
    let backends = world.database.backends();
    assert!(backends[0].has_ended, "{backends:?}");
    assert_eq!(world.counters.warm(), 0);
    // There is none to give back now: the database's own words, at once.
    let began = Instant::now();
    tokio::time::advance(Duration::from_secs(2)).await;
    let told = databases(world.upstream.log_in(&startup("c")).await);
    assert_eq!(told, "53300");
    assert_eq!(began.elapsed(), Duration::from_secs(2));
    drop(reached);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_restarts_is_asked_again_after_a_pause() {
    let world = World::new(0);
    let restarting = ["57P01", "57P03", "57P03"].map(Answer::Refuse);
    world.database.answer(restarting);
    world.database.answer([Answer::Break]);
    let began = Instant::now();
    let reached = world.upstream.log_in(&startup("a")).await.unwrap();
    assert_eq!(world.database.backends().len(), 5);
    assert!(began.elapsed() >= RESTART_PAUSE * 2);
    // No other credential is asked for.
    assert_eq!(reached.generation, Generation(1));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_come_back_is_not_waited_for_beyond_the_limit() {
    let world = World::new(0);
    world.database.answer_always(Answer::Refuse("57P03"));
    let limit = world.limits.borrow().connect_timeout;
    let began = Instant::now();
    assert_eq!(
        databases(world.upstream.log_in(&startup("a")).await),
        "57P03"
    );
    assert!(began.elapsed() < limit);
    assert!(began.elapsed() > limit - RESTART_PAUSE * 4);
    // One that says nothing is given up at the limit.
    world.database.answer_always(Answer::Hang);
    let began = Instant::now();
    let cause = ours(world.upstream.log_in(&startup("a")).await);
    assert!(matches!(cause, Cause::HoldTimeout { .. }), "{cause}");
    assert_eq!(began.elapsed(), limit);
    until(|| world.database.connections() == 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_is_held_until_the_gate_opens() {
    let mut world = World::new(0);
    world.database.gate.send_replace(Gate::Hold(None));
    let upstream = Arc::clone(&world.upstream);
    let client = tokio::spawn(async move { upstream.log_in(&startup("a")).await.is_ok() });
    let waits = timeout_at(Instant::now() + ENOUGH, world.client_waits.recv());
    assert_eq!(waits.await, Ok(Some(())));
    assert_eq!(world.database.backends().len(), 0);
    world.database.gate.send_replace(Gate::Open);
    assert!(client.await.unwrap());
    // One that is refused isn't held.
    let closing = Gate::Refuse(Cause::SessionClosing);
    world.database.gate.send_replace(closing);
    let cause = ours(world.upstream.log_in(&startup("a")).await);
    assert_eq!(cause, Cause::SessionClosing);
}
