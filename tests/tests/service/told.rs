//! What the service manager is told.

use borealis_tests::{
    harness::{Manager, TestMachine},
    sandbox::Options,
};
use rustix::process::Signal;

#[test]
fn how_the_sessions_are_and_what_the_daemon_is_doing() {
    let mut machine = TestMachine::without_daemon(Options::default());
    let mut manager = Manager::new(&machine.path(""));
    manager.watch(200_000);
    machine.start_daemon_under(&manager);
    manager.wait_for("STATUS=no sessions open", 1);
    machine.open(&["sushi"]);
    manager.wait_for("STATUS=1 session: 1 up", 1);
    manager.wait_for("WATCHDOG=1", 3);
    machine.daemon().signal(Signal::HUP);
    manager.wait_for("RELOADING=1", 1);
    manager.wait_for("READY=1", 2);
    machine.daemon().signal(Signal::TERM);
    manager.wait_for("STOPPING=1", 1);
    manager.wait_for("EXTEND_TIMEOUT_USEC=", 1);
    assert_eq!(machine.await_daemon(), Some(0));
    machine.leave();
}
