//! A client that stops reading (a pager, a debugger, a stopped process) stops nobody else.

use std::time::{Duration, Instant};

use borealis_tests::{harness::TestMachine, sandbox::BastionKind};

use super::{
    client::{Client, StalledReader},
    scene::before,
};

/// What a round trip may take beside stalled readers. It shares a tunnel's bandwidth with
/// what comes for them until there is no room for more; stopped it would take until
/// somebody's time limit, 10 s at least.
const ROUND_TRIP: Duration = Duration::from_secs(8);
/// The same for a connection with its log-ins.
const CONNECTION: Duration = Duration::from_secs(8);

/// What a stalled reader may cost the daemon in memory, in KiB: what waits for it before its
/// line is read no further, where it has a tunnel for itself, and less where it shares one.
/// Its result is without an end.
const EACH: u64 = 6 * 1024;

fn bystanders_go_on(bastion: BastionKind, readers: usize) {
    let mut machine = TestMachine::without_daemon(before(bastion));
    // A line for each packet would measure the log.
    machine.set("BOREALIS_LOG", "borealisd=debug");
    machine.start_daemon();
    let url = machine.open(&["sushi"]);
    let before = Client::connect(&url);
    before.slowest(10);
    let memory = machine.daemon().resident();
    let stalled: Vec<_> = (0..readers)
        .map(|_| StalledReader::start(&machine, &url))
        .collect();
    let began = Instant::now();
    let mut asked = 0;
    let mut slowest = Duration::ZERO;
    // Longer than what keepalive needs to give a line up.
    while began.elapsed() < Duration::from_secs(12) {
        slowest = slowest.max(before.slowest(10));
        asked += 10;
    }
    let grown = machine.daemon().resident().saturating_sub(memory);
    let connecting = Instant::now();
    let after = Client::connect(&url);
    let connected = connecting.elapsed();
    let slowest_after = after.slowest(100);
    #[allow(
        clippy::print_stdout,
        reason = "the figures, for who runs it with --nocapture"
    )]
    {
        println!(
            "{bastion:?}, {readers} stalled: {asked} round trips, slowest {slowest:?}; {} MiB; \
         a new connection {connected:?}, its slowest round trip {slowest_after:?}",
            grown / 1024
        );
    }
    assert!(slowest < ROUND_TRIP && slowest_after < ROUND_TRIP);
    assert!(connected < CONNECTION);
    assert!(grown < EACH * readers as u64, "{grown} KiB more");
    drop(stalled);
    drop((before, after));
    machine.leave();
}

#[test]
fn few_stalled_readers_stop_nobody() {
    bystanders_go_on(BastionKind::Embedded, 3);
}

#[test]
fn more_stalled_readers_than_tunnels_stop_nobody() {
    bystanders_go_on(BastionKind::Embedded, 12);
}

#[test]
fn more_stalled_readers_than_tunnels_stop_nobody_behind_sshd() {
    bystanders_go_on(BastionKind::Sshd, 12);
}
