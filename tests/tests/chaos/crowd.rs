//! Clients that come all at once.

use std::{thread, time::Duration};

use borealis_tests::{
    harness::TestMachine,
    sandbox::{BastionKind, Options},
};

use super::{
    client::Client,
    line::{Line, Quality},
    scene::{before, metric},
};

/// More than there may be tunnels.
const CROWD: usize = 12;

/// SSH connections of one session at most.
const TUNNELS: u64 = 8;

fn all_are_served(delay: Duration) {
    let line = Line::on_loopback();
    line.set_quality(Quality { delay, loss: 0 });
    let mut machine = TestMachine::without_daemon(Options {
        bastion_seen_at: Some(line.address()),
        ..before(BastionKind::Embedded)
    });
    line.lead_to(machine.sandbox.bastion_port());
    machine.start_daemon();
    let url = machine.open(&["sushi"]);
    let clients: Vec<_> = thread::scope(|scope| {
        let connecting: Vec<_> = (0..CROWD)
            .map(|_| scope.spawn(|| Client::connect(&url)))
            .collect();
        connecting
            .into_iter()
            .map(|client| client.join().unwrap())
            .collect()
    });
    for client in &clients {
        client.slowest(2);
    }
    let tunnels = metric(&machine, "borealis_session_tunnels{");
    assert!((3..=TUNNELS).contains(&tunnels), "{tunnels}");
    drop(clients);
    machine.leave();
}

#[test]
fn a_crowd_near_by() {
    all_are_served(Duration::ZERO);
}

/// A handshake takes six round trips, so that all come while tunnels are being dialled. The relay
/// itself answers at once: that a line is long, which TCP's own round trip tells, is for unit tests.
#[test]
fn a_crowd_far_away() {
    all_are_served(Duration::from_millis(20));
}
