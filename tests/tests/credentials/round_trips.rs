//! How often the line is crossed there and back from a client's `connect()` to its first row.

use std::time::{Duration, Instant};

use borealis_tests::{
    harness::{TestMachine, wire::Wire},
    sandbox::Options,
};

use crate::warm::wait_for_ready;

/// So long that what is computed meanwhile is far below, on a busy machine too.
const LONG: Duration = Duration::from_millis(500);

/// From `connect()` to the first row.
fn first_row(machine: &TestMachine) -> Duration {
    let began = Instant::now();
    let (mut client, _) = Wire::log_in(&machine.socket_dir("sushi"), &[("user", "sushi")]);
    assert_eq!(client.ask("select 1"), "1");
    began.elapsed()
}

/// The fewest round trips of three.
fn round_trips(machine: &TestMachine, mut before: impl FnMut()) -> u128 {
    let once = |_| {
        before();
        first_row(machine).as_millis() / LONG.as_millis()
    };
    (0..3).map(once).min().unwrap()
}

fn desk_with(warm_connections: u32) -> TestMachine {
    let mut machine = TestMachine::without_daemon(Options::default());
    machine.write_config(&format!("warm_connections = {warm_connections}\n"));
    machine.start_daemon();
    machine.open(&["sushi"]);
    first_row(&machine);
    machine
}

/// A channel (1), TLS 1.3 (2), the startup packet (1), SCRAM (2), the query (1).
#[test]
fn without_a_warm_connection_what_the_protocol_needs() {
    let machine = desk_with(0);
    machine.sandbox.faults().lengthen_line(LONG);
    assert_eq!(round_trips(&machine, || {}), 7);
    machine.sandbox.faults().lengthen_line(Duration::ZERO);
    machine.leave();
}

/// The proof that it is alive (1), the query (1).
#[test]
fn with_a_warm_connection_the_proof_and_the_query() {
    let machine = desk_with(1);
    wait_for_ready("sushi", 1, &machine);
    machine.sandbox.faults().lengthen_line(LONG);
    let ready = || wait_for_ready("sushi", 1, &machine);
    assert_eq!(round_trips(&machine, ready), 2);
    machine.sandbox.faults().lengthen_line(Duration::ZERO);
    machine.leave();
}

/// Times over a line of 80 ms.
#[test]
#[ignore = "figures for who asks with --nocapture"]
fn figures_over_80_ms() {
    for warm in [0, 1] {
        let machine = desk_with(warm);
        wait_for_ready("sushi", warm, &machine);
        let line = Duration::from_millis(80);
        machine.sandbox.faults().lengthen_line(line);
        let mut times: Vec<_> = (0..15)
            .map(|_| {
                wait_for_ready("sushi", warm, &machine);
                first_row(&machine)
            })
            .collect();
        times.sort();
        #[allow(clippy::print_stdout, reason = "that is what it is for")]
        {
            println!("{warm} warm: median {:?}, all {times:?}", times[7]);
        }
        machine.sandbox.faults().lengthen_line(Duration::ZERO);
        machine.leave();
    }
}
