//! Programs that hold a connection and run what they are told to.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout},
};

use borealis_tests::harness::TestMachine;

/// A program with a connection.
pub(crate) struct Client {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    kind: Kind,
}

/// Which program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Psql,
    Python,
    Node,
}

/// A path below what `tests/scripts/drivers` has installed.
fn installed(below: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/drivers");
    let root = std::env::var_os("BOREALIS_DRIVERS").map_or(root, PathBuf::from);
    let path = root.join(below);
    assert!(
        path.exists(),
        "{} is missing: `tests/scripts/drivers` installs the drivers that these tests run; \
         `make test` calls it",
        path.display()
    );
    path
}

// === impl Client ===

impl Client {
    /// Starts the program in a directory, and waits until it has its connection.
    pub(crate) fn start(machine: &TestMachine, kind: Kind, dir: &Path, url: &str) -> Self {
        let script = |name: &str| {
            let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/connections/programs");
            dir.join(name).display().to_string()
        };
        let run = match kind {
            Kind::Psql => machine.run("psql").args(&["-XAtq", url]),
            Kind::Python => machine
                .run(installed("python/bin/python"))
                .args(&[&script("client.py"), url]),
            Kind::Node => machine
                .run("node")
                .args(&[&script("client.mjs"), url])
                .env("NODE_MODULES_OF", &installed("").display().to_string()),
        };
        let mut child = run.dir(dir).start();
        let mut client = Self {
            input: child.stdin.take().unwrap(),
            output: BufReader::new(child.stdout.take().unwrap()),
            child,
            kind,
        };
        assert_eq!(client.ask("select 'ready'"), "ready");
        client
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What the program is called.
    pub(crate) fn name(&self) -> &'static str {
        match self.kind {
            Kind::Psql => "psql",
            Kind::Python => "python",
            Kind::Node => "node",
        }
    }

    /// The first column of the first row, or the SQLSTATE of an error.
    pub(crate) fn ask(&mut self, sql: &str) -> String {
        let end = if self.kind == Kind::Psql { ";" } else { "" };
        writeln!(self.input, "{sql}{end}").unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
