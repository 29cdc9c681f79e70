//! A bastion that means no good.

use borealis_tests::{harness::TestMachine, sandbox::BastionAction};

/// Kinds of channels that it opens to each connection.
const KINDS: u64 = 7;

#[test]
fn channels_that_a_bastion_opens_are_refused_and_it_is_said_once() {
    let machine = TestMachine::new();
    let url = machine.open(&["sushi"]);
    assert_eq!(machine.query(&url, "select 1"), "1");
    let sandbox = &machine.sandbox;
    for _ in 0..20 {
        let opening = sandbox.faults().bastion(BastionAction::OpenChannels);
        sandbox.block_on(opening).unwrap();
    }
    let stats = sandbox.stats().bastion;
    assert_eq!(stats.taken_by_clients, Some(0));
    let refused = stats.refused_by_clients.unwrap();
    assert!(refused >= 20 * KINDS, "{refused}");
    // The connection goes on.
    assert_eq!(machine.query(&url, "select 1"), "1");
    let log = machine.log();
    let said = log.matches("tried to open a channel").count() as u64;
    assert!((1..=stats.connections).contains(&said), "{said} times");
    machine.leave();
}
