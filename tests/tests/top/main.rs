//! `borealisctl top` on a real terminal, before real sessions.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that meets the unexpected has failed"
)]

mod ends;
mod plain;
mod shows;
mod steers;

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout},
};

use borealis_tests::harness::TestMachine;

/// psql, as somebody uses it.
struct Psql {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

// === impl Psql ===

impl Psql {
    fn start(machine: &TestMachine, url: &str) -> Self {
        let mut child = machine.run("psql").args(&["-XAtq", url]).start();
        Self {
            input: child.stdin.take().unwrap(),
            output: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }

    fn say(&mut self, sql: &str) {
        writeln!(self.input, "{sql}").unwrap();
    }

    /// The next line that it prints; empty where it has ended.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn asks(&mut self, sql: &str) -> String {
        self.say(sql);
        self.line()
    }

    /// Its end; what it said to standard error.
    fn end(self) -> String {
        drop(self.input);
        let output = self.child.wait_with_output().unwrap();
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}
