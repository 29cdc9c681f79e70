//! Credentials that change while clients work.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use borealis_tests::{
    harness::Desk,
    sandbox::{Access, Options},
};

use crate::load::{self, Connections, Pgbench, load_time};

/// The way of the tests that follow: a session under load.
fn under_load(connections: Connections, mut rotate: impl FnMut(&Desk)) {
    let desk = Desk::quiet(Options::default());
    load::prepare(&desk);
    let url = desk.open(&["sushi"]);
    let mut pgbench = Pgbench::start(&desk, &url, 16, connections);
    let mut rotations = 0;
    while !pgbench.has_ended() {
        let began = Instant::now();
        rotate(&desk);
        rotations += 1;
        #[allow(
            clippy::disallowed_methods,
            reason = "the pace of the load; nothing is waited for"
        )]
        thread::sleep(Duration::from_secs(1).saturating_sub(began.elapsed()));
    }
    let done = pgbench.finish();
    report(&format!(
        "{connections:?}: {done} transactions, {rotations} rotations"
    ));
    desk.leave();
}

fn report(text: &str) {
    #[allow(
        clippy::print_stdout,
        reason = "numbers for who asks for them with --nocapture"
    )]
    {
        println!("{text} in {:?}", load_time());
    }
}

fn by_command(desk: &Desk) {
    desk.ctl_ok(&["rotate", "sushi"]);
}

fn elsewhere(desk: &Desk) {
    let faults = desk.sandbox.faults();
    let rotating = faults.rotate_password_elsewhere("sushi", Some(Access::ReadOnly));
    desk.sandbox.block_on(rotating).unwrap();
}

#[test]
fn by_command_under_new_connections() {
    under_load(Connections::Each, by_command);
}

#[test]
fn by_command_under_open_connections() {
    under_load(Connections::Kept, by_command);
}

#[test]
fn elsewhere_under_new_connections() {
    under_load(Connections::Each, elsewhere);
}

#[test]
fn elsewhere_under_open_connections() {
    under_load(Connections::Kept, elsewhere);
}

/// An admin's reset cuts the connections that are open: those are counted apart.
fn reset_under_load(connections: Connections) {
    let desk = Desk::quiet(Options::default());
    let url = desk.open(&["sushi"]);
    let stop = Arc::new(AtomicBool::new(false));
    let tally = thread::scope(|scope| {
        let running = scope.spawn(|| {
            desk.sandbox
                .block_on(load::clients(&url, 16, connections, Arc::clone(&stop)))
        });
        let end = Instant::now() + load_time();
        while Instant::now() < end && !running.is_finished() {
            let pace = if load_time() > Duration::from_secs(30) {
                10
            } else {
                2
            };
            #[allow(
                clippy::disallowed_methods,
                reason = "the pace of the load; nothing is waited for"
            )]
            thread::sleep(Duration::from_secs(pace));
            desk.sandbox
                .block_on(desk.sandbox.faults().reset_users("sushi"))
                .unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        running.join().expect("no client failed")
    });
    report(&format!("{connections:?} with resets: {tally:?}"));
    assert!(tally.done.load(Ordering::Relaxed) > 0, "{tally:?}");
    desk.leave();
}

#[test]
fn an_admins_reset_under_new_connections() {
    reset_under_load(Connections::Each);
}

#[test]
fn an_admins_reset_under_open_connections() {
    reset_under_load(Connections::Kept);
}

#[test]
fn two_machines_of_one_user_share_their_credentials_and_are_told() {
    let first = Desk::quiet(Options::default());
    load::prepare(&first);
    let mut second = first.another_machine();
    second.set("BOREALIS_LOG", "info");
    second.start_daemon();
    let benches = [&first, &second].map(|desk| {
        let url = desk.open(&["sushi"]);
        Pgbench::start(desk, &url, 4, Connections::Each)
    });
    let done = benches.map(Pgbench::finish);
    report(&format!("two machines: {done:?} transactions"));
    for desk in [&first, &second] {
        let status = desk.json(&["status"]);
        assert_eq!(status["health"], "warning", "{status}");
        let said = status.to_string();
        assert!(
            said.contains("another machine of yours seems to use it too"),
            "{status}"
        );
        assert!(said.contains("--role app"), "{status}");
        // Nothing is wrong with the session.
        assert_eq!(desk.json(&["show", "sushi"])["state"], "up");
        assert!(desk.json(&["show", "sushi"])["last_error"].is_null());
    }
    let mut first = first;
    assert_eq!(first.stop_daemon(), Some(0));
    second.leave();
    first.leave();
}

#[test]
fn a_timer_does_not_undo_an_admins_reset() {
    let mut desk = Desk::without_daemon(Options::default());
    // Long enough for the reset to be done before the next is due, on a busy machine too.
    desk.write_config("[rotation]\ninterval = \"8s\"\n");
    desk.start_daemon();
    let url = desk.open(&["sushi"]);
    // Right after a rotation, so that none is under way.
    desk.ctl_ok(&["rotate", "sushi"]);
    desk.sandbox
        .block_on(desk.sandbox.faults().reset_users("sushi"))
        .unwrap();
    let issued = || desk.sandbox.stats().addons["borealis-pg-hex-12345"].passwords_issued;
    let before = issued();
    let planned = |session: &borealis_proto::v1::Session| {
        session
            .credential
            .as_ref()
            .is_some_and(|held| held.rotates_at.is_some())
    };
    desk.wait_for("sushi", |session| !planned(session));
    assert_eq!(issued(), before);
    assert_eq!(desk.query(&url, "select 1"), "1");
    assert_eq!(issued(), before + 1);
    desk.wait_for("sushi", planned);
    desk.leave();
}
