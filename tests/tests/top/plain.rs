//! Where nothing can be drawn: plain text, again after each change.

use std::io::{BufRead as _, BufReader};

use borealis_tests::harness::TestMachine;

#[test]
fn a_pipe_gets_plain_text_after_each_change() {
    let machine = TestMachine::new();
    machine.open(&["sushi"]);
    let mut child = machine
        .run(machine.binary("borealisctl"))
        .args(&["top"])
        .start();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut lines = lines.map(Result::unwrap);
    let mut until = |word: &str| lines.by_ref().find(|line| line.contains(word)).unwrap();
    let first = until("read-only");
    assert!(
        first.starts_with("sushi ") && !first.contains('\u{1b}'),
        "{first}"
    );
    machine.open(&["sushi", "-w"]);
    until("sushi-rw");
    machine.ctl_ok(&["close", "sushi-rw"]);
    until("closed");
    child.kill().unwrap();
    child.wait().unwrap();
    machine.leave();
}

#[test]
fn a_dumb_terminal_gets_the_same() {
    let machine = TestMachine::new();
    machine.open(&["sushi"]);
    let mut top = machine.on_terminal((80, 24), &["top"], &[("TERM", "dumb")]);
    top.wait_for_words(&["sushi", "read-only"]);
    machine.open(&["sushi", "-w"]);
    top.wait_for_words(&["sushi-rw", "read-write"]);
    assert!(
        !top.written().contains(&0x1b),
        "{:?}",
        top.screen().contents()
    );
    top.type_text("\u{3}");
    assert_eq!(top.ended().0.code(), Some(130));
    machine.leave();
}
