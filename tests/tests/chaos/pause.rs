//! A client that pauses (a pager, a breakpoint, `less` in a terminal) behind a bastion that asks
//! now and then whether its own clients are there.

use std::{
    io::Read as _,
    os::unix::net::UnixStream,
    process::Child,
    time::{Duration, Instant},
};

use borealis_tests::{
    harness::TestMachine,
    sandbox::{BastionKind, Options, SshdSettings},
};

/// sshd asks every two seconds, and ends a connection that hasn't answered three times.
const INTERVAL: &str = "2";
const COUNT: &str = "2";
/// Several times as long.
const PAUSE: Duration = Duration::from_secs(20);

/// More than what all buffers on the way hold together.
const ROWS: usize = 60_000;
const ROW: usize = 2000;

struct Download(Child);

impl Download {
    /// Returns once the first of its result is there.
    fn begin(machine: &TestMachine, url: &str) -> Self {
        let copy =
            format!("copy (select repeat('x', {ROW}) from generate_series(1, {ROWS})) to stdout");
        let mut psql = machine.run("psql").args(&["-XAtqc", &copy, url]).start();
        let mut first = [0];
        let stdout = psql.stdout.as_mut().unwrap();
        stdout.read_exact(&mut first).expect("a result");
        Self(psql)
    }

    /// Takes the rest of its result.
    fn finish(mut self) {
        let mut rest = Vec::new();
        let stdout = self.0.stdout.as_mut().unwrap();
        stdout.read_to_end(&mut rest).expect("the result");
        let lines = rest.iter().filter(|byte| **byte == b'\n').count();
        let status = self.0.wait().unwrap();
        assert_eq!((lines, status.code()), (ROWS, Some(0)));
        assert_eq!(rest.len() + 1, ROWS * (ROW + 1));
    }
}

/// Waits as long as nothing is said to a client that has asked nothing.
fn pause(machine: &TestMachine) {
    let socket = machine.socket_dir("sushi").join(".s.PGSQL.5432");
    let began = Instant::now();
    while began.elapsed() < PAUSE {
        // One that doesn't log in is sent away at some time.
        let mut silent = UnixStream::connect(&socket).expect("a connection");
        let left = PAUSE.saturating_sub(began.elapsed());
        let limit = left.max(Duration::from_millis(1));
        silent.set_read_timeout(Some(limit)).unwrap();
        let _ = silent.read(&mut [0]);
    }
}

#[test]
fn a_reader_that_pauses_loses_no_rows() {
    let settings = SshdSettings::default()
        .and("ClientAliveInterval", INTERVAL)
        .and("ClientAliveCountMax", COUNT);
    let mut machine = TestMachine::without_daemon(Options {
        bastion: BastionKind::Sshd,
        sshd: settings,
        ..Options::default()
    });
    machine.set("BOREALIS_LOG", "borealisd=debug");
    machine.start_daemon();
    let url = machine.open(&["sushi"]);
    let download = Download::begin(&machine, &url);
    pause(&machine);
    download.finish();
    machine.leave();
}
