//! Connections that the daemon ends: told why, where the protocol allows it, and at a moment
//! that does no harm, where there is time.

use borealis_proto::v1::State;
use borealis_tests::{
    harness::Desk,
    sandbox::{BastionAction, Options, PostgresAction},
};

use crate::client::Connected;

#[test]
fn what_was_connected_through_a_dead_tunnel_is_told_at_once() {
    let desk = Desk::new();
    let url = desk.open(&["sushi"]);
    let idle = Connected::to(&url, &desk);
    // One that was kept ready is replaced, where nothing has been asked on it yet.
    idle.run("select 1", &desk).unwrap();
    let busy = Connected::to(&url, &desk);
    busy.run("begin", &desk).unwrap();
    for action in [BastionAction::Cut, BastionAction::Reset] {
        let client = Connected::to(&url, &desk);
        client.run("select 1", &desk).unwrap();
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
    // Each step is an event.
    let events = desk.json(&["events", "sushi-rw"]);
    let text = |event: &serde_json::Value, key: &str| event[key].as_str().unwrap().to_owned();
    let events = events.as_array().unwrap();
    let kinds: Vec<_> = events.iter().map(|event| text(event, "kind")).collect();
    let steps = [
        "session-opened",
        "session-up",
        "session-expired",
        "connection-refused",
        "connections-ended",
        "session-closed",
    ];
    assert_eq!(kinds, steps, "{events:#?}");
    assert!(
        text(&events[0], "message").contains(", until 20"),
        "{events:#?}"
    );
    let ended = "(2 where it did no harm, 0 at work)";
    assert!(text(&events[4], "message").contains(ended), "{events:#?}");
    let reader = desk.open(&["sushi"]);
    assert_eq!(desk.query(&reader, "select a from boxed"), "7");
    desk.leave();
}

#[test]
fn the_grace_of_a_time_box_is_the_users_and_no_transaction_outlives_it() {
    let desk = Desk::new();
    let alone = desk.ctl(&["open", "sushi", "--grace", "1s"]);
    alone.expect_failure(2, &["--for"]);
    let url = desk.open(&["sushi", "-w", "--for", "3s", "--grace", "0s"]);
    let writer = Connected::to(&url, &desk);
    writer.run("begin; select 1", &desk).unwrap();
    let over = "session \"sushi-rw\": the time that the session was opened for is over";
    let told = writer.end(&desk);
    assert_eq!((told.code().code(), told.message()), ("57P01", over));
    desk.daemon().wait_until_gone("sushi-rw", &desk.sandbox);
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
    let mut desk = Desk::without_daemon(Options::default());
    desk.write_config("connect_timeout = \"2s\"\n");
    desk.start_daemon();
    let url = desk.open(&["sushi"]);
    let socket = format!("host={}", desk.socket_dir("sushi").display());
    let ready = |wanted: i32, when: &str| {
        for way in [&url, &socket] {
            let args = ["-q", "-t", "20", "-d", way];
            let code = desk.run("pg_isready").args(&args).outcome().code;
            assert_eq!(code, Some(wanted), "{when}: {way}");
        }
    };
    ready(0, "up");
    let act = |action| {
        desk.sandbox
            .block_on(desk.sandbox.faults().bastion(action))
            .unwrap()
    };
    act(BastionAction::Stop);
    desk.wait_for("sushi", |session| session.state() == State::Reconnecting);
    ready(1, "reconnecting");
    act(BastionAction::Start);
    desk.wait_for("sushi", |session| session.state() == State::Up);
    ready(0, "up again");

    // What only the user can mend.
    act(BastionAction::ChangeHostKey);
    act(BastionAction::Cut);
    desk.wait_for("sushi", |session| session.state() == State::Failed);
    ready(1, "failed");
    act(BastionAction::RestoreHostKey);
    desk.ctl_ok(&["rotate", "sushi"]);
    desk.wait_for("sushi", |session| session.state() == State::Up);
    ready(0, "mended");

    // While it closes.
    let busy = Connected::to(&url, &desk);
    busy.run("begin", &desk).unwrap();
    let closing = desk
        .run(desk.binary("borealisctl"))
        .args(&["close", "sushi", "--grace", "1h"])
        .start();
    desk.wait_for("sushi", |session| session.state() == State::Closing);
    ready(1, "closing");
    desk.ctl_ok(&["close", "sushi"]);
    assert!(closing.wait_with_output().unwrap().status.success());
    ready(2, "closed");

    // As it opens: the bastion isn't there.
    act(BastionAction::Stop);
    desk.ctl_ok(&["open", "sushi", "--no-wait"]);
    ready(1, "opening");
    act(BastionAction::Start);
    desk.wait_for("sushi", |session| session.state() == State::Up);
    ready(0, "opened");
    desk.leave();
}

#[test]
fn show_says_how_to_verify_it_and_how_libpq_knows_it_for_good() {
    let desk = Desk::new();
    let url = desk.open(&["sushi"]);
    let shown = desk.ctl_ok(&["show", "sushi"]);
    let word_after = |words: &str| {
        let (_, rest) = shown.split_once(words).unwrap_or_else(|| {
            panic!("{words:?} is not in {shown}");
        });
        let end = rest.find([',', ' ', '`', '\n']).unwrap_or(rest.len());
        rest[..end].to_owned()
    };
    let ca = word_after("sslrootcert=");
    let verified = format!("{url}?sslmode=verify-full&sslrootcert={ca}");
    assert_eq!(desk.query(&verified, "select 1"), "1");

    let ask = |variable: &str, value: &str| {
        desk.run("psql")
            .env(variable, value)
            .args(&["-XAtc", "select 'by name'", "service=sushi"])
            .outcome()
            .expect_success()
    };
    let service_file = word_after("PGSERVICEFILE=");
    assert_eq!(ask("PGSERVICEFILE", &service_file), "by name");
    let for_good = word_after("export PGSYSCONFDIR=");
    assert_eq!(ask("PGSYSCONFDIR", &for_good), "by name");

    // A passthrough session's TLS is the database's own.
    desk.ctl_ok(&["open", "sushi", "--passthrough", "--name", "through"]);
    assert!(!desk.ctl_ok(&["show", "through"]).contains("CA file"));
    desk.leave();
}
