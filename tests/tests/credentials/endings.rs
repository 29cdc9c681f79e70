//! Connections that the daemon ends: told why, where the protocol allows it, and at a moment
//! that does no harm, where there is time.

use borealis_proto::v1::State;
use borealis_tests::{
    harness::TestMachine,
    sandbox::{BastionAction, Options, PostgresAction},
};

use crate::client::Connected;

#[test]
fn what_was_connected_through_a_dead_tunnel_is_told_at_once() {
    let machine = TestMachine::new();
    let url = machine.open(&["sushi"]);
    let idle = Connected::to(&url, &machine);
    // One that was kept ready is replaced, where nothing has been asked on it yet.
    idle.run("select 1", &machine).unwrap();
    let busy = Connected::to(&url, &machine);
    busy.run("begin", &machine).unwrap();
    for action in [BastionAction::Cut, BastionAction::Reset] {
        let client = Connected::to(&url, &machine);
        client.run("select 1", &machine).unwrap();
        machine
            .sandbox
            .block_on(machine.sandbox.faults().bastion(action))
            .unwrap();
        let told = client.end(&machine);
        assert_eq!(told.code().code(), "57P01", "{told:?}");
        assert!(
            told.message()
                .starts_with("session \"sushi\": the SSH connection was lost"),
            "{told}"
        );
        assert_eq!(told.hint(), Some("the session reconnects by itself"));
    }
    for client in [idle, busy] {
        assert_eq!(client.end(&machine).code().code(), "57P01");
    }
    assert_eq!(machine.query(&url, "select 1"), "1");
    machine.leave();
}

#[test]
fn what_the_server_says_at_its_end_is_passed_on() {
    let machine = TestMachine::new();
    let url = machine.open(&["sushi"]);
    let client = Connected::to(&url, &machine);
    machine
        .sandbox
        .block_on(machine.sandbox.faults().postgres(PostgresAction::Stop))
        .unwrap();
    let told = client.end(&machine);
    assert_eq!(
        told.message(),
        "terminating connection due to administrator command"
    );
    machine
        .sandbox
        .block_on(machine.sandbox.faults().postgres(PostgresAction::Start))
        .unwrap();
    machine.leave();
}

#[test]
fn the_end_of_a_time_box_waits_for_the_transaction_that_is_open() {
    let machine = TestMachine::new();
    let url = machine.open(&["sushi", "-w", "--for", "4s"]);
    let listed = machine.ctl_ok(&["list"]);
    assert!(listed.contains("closes in"), "{listed}");
    let idle = Connected::to(&url, &machine);
    let writer = Connected::to(&url, &machine);
    writer
        .run(
            "create table boxed (a int); begin; insert into boxed values (7)",
            &machine,
        )
        .unwrap();

    let over = "session \"sushi-rw\": the time that the session was opened for is over";
    let told = idle.end(&machine);
    assert_eq!((told.code().code(), told.message()), ("57P01", over));
    machine.wait_for("sushi-rw", |session| session.state() == State::Closing);
    // Who comes now is told, and the one who is at work isn't disturbed.
    let late = Connected::try_to(&url, &machine).err().unwrap();
    let late = late.as_db_error().unwrap();
    assert_eq!((late.code().code(), late.message()), ("57P01", over));
    assert_eq!(late.hint(), Some("open it again with `borealisctl open`"));
    assert_eq!(writer.ask("select a from boxed", &machine), "7");
    writer.run("commit", &machine).unwrap();
    assert_eq!(writer.end(&machine).message(), over);

    machine
        .daemon()
        .wait_until_gone("sushi-rw", &machine.sandbox);
    // Each step is an event.
    let events = machine.json(&["events", "sushi-rw"]);
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
    let reader = machine.open(&["sushi"]);
    assert_eq!(machine.query(&reader, "select a from boxed"), "7");
    machine.leave();
}

#[test]
fn the_grace_of_a_time_box_is_the_users_and_no_transaction_outlives_it() {
    let machine = TestMachine::new();
    let alone = machine.ctl(&["open", "sushi", "--grace", "1s"]);
    alone.expect_failure(2, &["--for"]);
    let url = machine.open(&["sushi", "-w", "--for", "3s", "--grace", "0s"]);
    let writer = Connected::to(&url, &machine);
    writer.run("begin; select 1", &machine).unwrap();
    let over = "session \"sushi-rw\": the time that the session was opened for is over";
    let told = writer.end(&machine);
    assert_eq!((told.code().code(), told.message()), ("57P01", over));
    machine
        .daemon()
        .wait_until_gone("sushi-rw", &machine.sandbox);
    machine.leave();
}

#[test]
fn closing_with_grace_ends_who_has_finished_and_waits_for_who_has_not() {
    let machine = TestMachine::new();
    let url = machine.open(&["sushi"]);
    let pooled = Connected::to(&url, &machine);
    let busy = Connected::to(&url, &machine);
    busy.run("begin", &machine).unwrap();
    let close = machine
        .run(machine.binary("borealisctl"))
        .args(&["close", "sushi", "--grace", "60s"])
        .start();
    let told = pooled.end(&machine);
    assert_eq!(
        told.message(),
        "session \"sushi\": the session is being closed"
    );
    assert_eq!(busy.ask("select 'still here'", &machine), "still here");
    busy.run("commit", &machine).unwrap();
    assert_eq!(busy.end(&machine).code().code(), "57P01");
    let closed = close.wait_with_output().unwrap();
    assert!(closed.status.success(), "{closed:?}");
    machine.leave();
}

#[test]
fn a_second_close_cuts_the_grace_of_the_first_short() {
    let machine = TestMachine::new();
    let url = machine.open(&["sushi"]);
    let busy = Connected::to(&url, &machine);
    busy.run("begin", &machine).unwrap();
    let patient = machine
        .run(machine.binary("borealisctl"))
        .args(&["close", "sushi", "--grace", "1h"])
        .start();
    machine.wait_for("sushi", |session| session.state() == State::Closing);
    machine.ctl_ok(&["close", "sushi"]);
    assert_eq!(busy.end(&machine).code().code(), "57P01");
    assert!(patient.wait_with_output().unwrap().status.success());
    machine.leave();
}

#[test]
fn stopping_the_daemon_is_told_to_whoever_is_connected() {
    let mut machine = TestMachine::new();
    let url = machine.open(&["sushi"]);
    let idle = Connected::to(&url, &machine);
    assert_eq!(machine.stop_daemon(), Some(0));
    let told = idle.end(&machine);
    assert_eq!(told.message(), "session \"sushi\": borealisd is stopping");
    machine.leave();
}

#[test]
fn pg_isready_says_how_it_is() {
    let mut machine = TestMachine::without_daemon(Options::default());
    machine.write_config("connect_timeout = \"2s\"\n");
    machine.start_daemon();
    let url = machine.open(&["sushi"]);
    let socket = format!("host={}", machine.socket_dir("sushi").display());
    let ready = |wanted: i32, when: &str| {
        for way in [&url, &socket] {
            let args = ["-q", "-t", "20", "-d", way];
            let code = machine.run("pg_isready").args(&args).outcome().code;
            assert_eq!(code, Some(wanted), "{when}: {way}");
        }
    };
    ready(0, "up");
    let act = |action| {
        machine
            .sandbox
            .block_on(machine.sandbox.faults().bastion(action))
            .unwrap()
    };
    act(BastionAction::Stop);
    machine.wait_for("sushi", |session| session.state() == State::Reconnecting);
    ready(1, "reconnecting");
    act(BastionAction::Start);
    machine.wait_for("sushi", |session| session.state() == State::Up);
    ready(0, "up again");

    // What only the user can mend.
    act(BastionAction::ChangeHostKey);
    act(BastionAction::Cut);
    machine.wait_for("sushi", |session| session.state() == State::Failed);
    ready(1, "failed");
    act(BastionAction::RestoreHostKey);
    machine.ctl_ok(&["rotate", "sushi"]);
    machine.wait_for("sushi", |session| session.state() == State::Up);
    ready(0, "mended");

    // While it closes.
    let busy = Connected::to(&url, &machine);
    busy.run("begin", &machine).unwrap();
    let closing = machine
        .run(machine.binary("borealisctl"))
        .args(&["close", "sushi", "--grace", "1h"])
        .start();
    machine.wait_for("sushi", |session| session.state() == State::Closing);
    ready(1, "closing");
    machine.ctl_ok(&["close", "sushi"]);
    assert!(closing.wait_with_output().unwrap().status.success());
    ready(2, "closed");

    // As it opens: the bastion isn't there.
    act(BastionAction::Stop);
    machine.ctl_ok(&["open", "sushi", "--no-wait"]);
    ready(1, "opening");
    act(BastionAction::Start);
    machine.wait_for("sushi", |session| session.state() == State::Up);
    ready(0, "opened");
    machine.leave();
}

#[test]
fn show_says_how_to_verify_it_and_how_libpq_knows_it_for_good() {
    let machine = TestMachine::new();
    let url = machine.open(&["sushi"]);
    let shown = machine.ctl_ok(&["show", "sushi"]);
    let word_after = |words: &str| {
        let (_, rest) = shown.split_once(words).unwrap_or_else(|| {
            panic!("{words:?} is not in {shown}");
        });
        let end = rest.find([',', ' ', '`', '\n']).unwrap_or(rest.len());
        rest[..end].to_owned()
    };
    let ca = word_after("sslrootcert=");
    let verified = format!("{url}?sslmode=verify-full&sslrootcert={ca}");
    assert_eq!(machine.query(&verified, "select 1"), "1");

    let ask = |variable: &str, value: &str| {
        machine
            .run("psql")
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
    machine.ctl_ok(&["open", "sushi", "--passthrough", "--name", "through"]);
    assert!(!machine.ctl_ok(&["show", "through"]).contains("CA file"));
    machine.leave();
}
