//! Connections that the daemon ends: told why, where the protocol allows it, and at a moment
//! that does no harm, where there is time.

use borealis_proto::v1::State;
use borealis_tests::{
    harness::Desk,
    sandbox::{BastionAction, PostgresAction},
};

use crate::client::Connected;

#[test]
fn what_was_connected_through_a_dead_tunnel_is_told_at_once() {
    let desk = Desk::new();
    let url = desk.open(&["sushi"]);
    let idle = Connected::to(&url, &desk);
    let busy = Connected::to(&url, &desk);
    busy.run("begin", &desk).unwrap();
    for action in [BastionAction::Cut, BastionAction::Reset] {
        let client = Connected::to(&url, &desk);
        desk.sandbox
            .block_on(desk.sandbox.faults().bastion(action))
            .unwrap();
        let told = client.end(&desk);
        assert_eq!(told.code().code(), "57P01", "{told:?}");
        assert!(
            told.message()
                .starts_with("session \"sushi\": the SSH connection was lost"),
            "{told}"
        );
        assert_eq!(told.hint(), Some("the session reconnects by itself"));
    }
    for client in [idle, busy] {
        assert_eq!(client.end(&desk).code().code(), "57P01");
    }
    assert_eq!(desk.query(&url, "select 1"), "1");
    desk.leave();
}

#[test]
fn what_the_server_says_at_its_end_is_passed_on() {
    let desk = Desk::new();
    let url = desk.open(&["sushi"]);
    let client = Connected::to(&url, &desk);
    desk.sandbox
        .block_on(desk.sandbox.faults().postgres(PostgresAction::Stop))
        .unwrap();
    let told = client.end(&desk);
    assert_eq!(
        told.message(),
        "terminating connection due to administrator command"
    );
    desk.sandbox
        .block_on(desk.sandbox.faults().postgres(PostgresAction::Start))
        .unwrap();
    desk.leave();
}

#[test]
fn the_end_of_a_time_box_waits_for_the_transaction_that_is_open() {
    let desk = Desk::new();
    let url = desk.open(&["sushi", "-w", "--for", "4s"]);
    let listed = desk.ctl_ok(&["list"]);
    assert!(listed.contains("closes in"), "{listed}");
    let idle = Connected::to(&url, &desk);
    let writer = Connected::to(&url, &desk);
    writer
        .run(
            "create table boxed (a int); begin; insert into boxed values (7)",
            &desk,
        )
        .unwrap();

    let over = "session \"sushi-rw\": the time that the session was opened for is over";
    let told = idle.end(&desk);
    assert_eq!((told.code().code(), told.message()), ("57P01", over));
    desk.wait_for("sushi-rw", |session| session.state() == State::Closing);
    // Who comes now is told, and the one who is at work isn't disturbed.
    let late = Connected::try_to(&url, &desk).err().unwrap();
    let late = late.as_db_error().unwrap();
    assert_eq!((late.code().code(), late.message()), ("57P01", over));
    assert_eq!(late.hint(), Some("open it again with `borealisctl open`"));
    assert_eq!(writer.ask("select a from boxed", &desk), "7");
    writer.run("commit", &desk).unwrap();
    assert_eq!(writer.end(&desk).message(), over);

    desk.daemon().wait_until_gone("sushi-rw", &desk.sandbox);
    let reader = desk.open(&["sushi"]);
    assert_eq!(desk.query(&reader, "select a from boxed"), "7");
    desk.leave();
}

#[test]
fn closing_with_grace_ends_who_has_finished_and_waits_for_who_has_not() {
    let desk = Desk::new();
    let url = desk.open(&["sushi"]);
    let pooled = Connected::to(&url, &desk);
    let busy = Connected::to(&url, &desk);
    busy.run("begin", &desk).unwrap();
    let close = desk
        .run(desk.binary("borealisctl"))
        .args(&["close", "sushi", "--grace", "60s"])
        .start();
    let told = pooled.end(&desk);
    assert_eq!(
        told.message(),
        "session \"sushi\": the session is being closed"
    );
    assert_eq!(busy.ask("select 'still here'", &desk), "still here");
    busy.run("commit", &desk).unwrap();
    assert_eq!(busy.end(&desk).code().code(), "57P01");
    let closed = close.wait_with_output().unwrap();
    assert!(closed.status.success(), "{closed:?}");
    desk.leave();
}

#[test]
fn a_second_close_cuts_the_grace_of_the_first_short() {
    let desk = Desk::new();
    let url = desk.open(&["sushi"]);
    let busy = Connected::to(&url, &desk);
    busy.run("begin", &desk).unwrap();
    let patient = desk
        .run(desk.binary("borealisctl"))
        .args(&["close", "sushi", "--grace", "1h"])
        .start();
    desk.wait_for("sushi", |session| session.state() == State::Closing);
    desk.ctl_ok(&["close", "sushi"]);
    assert_eq!(busy.end(&desk).code().code(), "57P01");
    assert!(patient.wait_with_output().unwrap().status.success());
    desk.leave();
}

#[test]
fn stopping_the_daemon_is_told_to_whoever_is_connected() {
    let mut desk = Desk::new();
    let url = desk.open(&["sushi"]);
    let idle = Connected::to(&url, &desk);
    assert_eq!(desk.stop_daemon(), Some(0));
    let told = idle.end(&desk);
    assert_eq!(told.message(), "session \"sushi\": borealisd is stopping");
    desk.leave();
}

#[test]
fn pg_isready_says_how_it_is() {
    let desk = Desk::new();
    let url = desk.open(&["sushi"]);
    let ready = || {
        desk.run("pg_isready")
            .args(&["-q", "-d", &url])
            .outcome()
            .code
    };
    assert_eq!(ready(), Some(0));
    let act = |action| {
        desk.sandbox
            .block_on(desk.sandbox.faults().bastion(action))
            .unwrap()
    };
    act(BastionAction::Stop);
    desk.wait_for("sushi", |session| session.state() == State::Reconnecting);
    assert_eq!(ready(), Some(1));
    act(BastionAction::Start);
    desk.wait_for("sushi", |session| session.state() == State::Up);
    assert_eq!(ready(), Some(0));
    desk.ctl_ok(&["close", "sushi"]);
    assert_eq!(ready(), Some(2));
    desk.leave();
}
