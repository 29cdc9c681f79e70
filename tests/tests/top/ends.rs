//! The terminal is as before, whatever ends `top`, and the daemon's end is no end of it.

use borealis_tests::harness::TestMachine;
use rustix::process::Signal;

const SIZE: (u16, u16) = (80, 24);

#[test]
fn the_terminal_is_as_before_whatever_ends_it() {
    let machine = TestMachine::new();
    machine.open(&["sushi"]);
    let start = |variables: &[(&str, &str)]| {
        let top = machine.on_terminal(SIZE, &["top"], variables);
        top.wait_for_words(&["1 of 1 up", "sushi", "q quit"]);
        let screen = top.screen();
        assert!(screen.alternate_screen() && screen.hide_cursor());
        top
    };
    for (keys, code) in [
        ("q", 0),
        ("\u{3}", 130),
        ("/sushi\u{3}", 130),
        ("\r\rq", 0),
        ("?xq", 0),
    ] {
        let mut top = start(&[]);
        top.type_text(keys);
        let (status, left) = top.ended();
        assert_eq!(status.code(), Some(code), "{keys:?}: {left}");
        assert_eq!(left.trim(), "", "{keys:?}");
    }
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130), (Signal::HUP, 129)] {
        let top = start(&[]);
        top.signal(signal);
        let (status, left) = top.ended();
        assert_eq!(status.code(), Some(code), "{signal:?}: {left}");
        assert_eq!(left.trim(), "", "{signal:?}");
    }
    let mut top = start(&[("BOREALISCTL_TOP_PANICS", "1")]);
    top.type_text("j");
    let (status, left) = top.ended();
    assert_eq!(status.code(), Some(101), "{left}");
    // It is told where it can be read.
    assert!(
        left.contains("asked for by BOREALISCTL_TOP_PANICS"),
        "{left}"
    );
    machine.leave();
}

#[test]
fn it_waits_for_the_daemon_and_goes_on() {
    let mut machine = TestMachine::new();
    machine.open(&["sushi"]);
    let mut top = machine.on_terminal(SIZE, &["top"], &[]);
    top.wait_for_words(&["1 of 1 up"]);
    assert_eq!(machine.stop_daemon(), Some(0));
    // What was known is still there to be looked at.
    top.wait_for_words(&["borealisd is away", "waiting for it", "sushi"]);
    top.type_text("r");
    top.wait_for_words(&["borealisd is away: wait until it is back"]);
    machine.start_daemon();
    top.wait_for_words(&["1 of 1 up", "sushi"]);
    top.type_text("r");
    top.wait_for_words(&["rotated sushi: new connections use credential"]);
    // A crash is no other end.
    machine.kill_daemon();
    top.wait_for_words(&["borealisd is away"]);
    machine.start_daemon();
    top.wait_for_words(&["1 of 1 up", "borealisd is back"]);
    top.type_text("q");
    assert_eq!(top.ended().0.code(), Some(0));
    machine.leave();
}

#[test]
fn without_a_daemon_it_says_so_and_leaves_the_terminal_alone() {
    let machine = TestMachine::without_daemon(borealis_tests::sandbox::Options::default());
    let top = machine.on_terminal(SIZE, &["top"], &[]);
    let written = top.wait_for_words(&["borealisd is not running"]);
    assert!(!written.contains("1 of"), "{written}");
    assert_eq!(top.ended().0.code(), Some(3));
    machine.leave();
}
