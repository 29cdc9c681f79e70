//! Programs run to their end, with a bound on their time.

use std::{
    fs::File,
    io::{Read as _, Seek as _, Write as _},
    os::unix::process::ExitStatusExt as _,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
};

use rustix::process::{Pid, Signal, kill_process};

use super::PATIENCE;

/// A program about to be run.
pub struct Run {
    command: Command,
    input: Vec<u8>,
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Its exit code; `None` where a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// What it wrote, line breaks and all.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

// === impl Run ===

impl Run {
    pub(super) fn new(program: &Path, environment: &[(String, String)], dir: &Path) -> Self {
        let mut command = Command::new(program);
        command
            .env_clear()
            .envs(environment.iter().cloned())
            .current_dir(dir);
        Self {
            command,
            input: Vec::new(),
        }
    }

    /// Adds arguments.
    pub fn args(mut self, args: &[&str]) -> Self {
        self.command.args(args);
        self
    }

    /// Sets a variable for this run.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Where it is run; the machine's home, unless said.
    pub fn dir(mut self, dir: &Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// What it gets on standard input; nothing, unless said.
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    /// Starts it with pipes, to be spoken with.
    pub fn start(mut self) -> Child {
        self.command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{:?} can't be started: {error}", self.command))
    }

    /// Starts it on a terminal, whose program's side this is.
    pub fn start_on(mut self, terminal: &File) -> Child {
        let [stdin, stdout, stderr] = [(); 3].map(|()| terminal.try_clone().expect("a descriptor"));
        self.command
            .stdin(stdin)
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .unwrap_or_else(|error| panic!("{:?} can't be started: {error}", self.command))
    }

    /// Runs it to its end; ends it where that takes too long.
    #[track_caller]
    pub fn outcome(mut self) -> Outcome {
        let mut input = tempfile::tempfile().expect("a file");
        input.write_all(&self.input).expect("writing");
        input.rewind().expect("rewinding");
        // Files, not pipes: a child's child that keeps the other end can't hang the test.
        let [stdout, stderr] = [(); 2].map(|()| tempfile::tempfile().expect("a file"));
        let copy = |file: &File| file.try_clone().expect("a descriptor");
        let mut child = self
            .command
            .stdin(input)
            .stdout(copy(&stdout))
            .stderr(copy(&stderr))
            .spawn()
            .unwrap_or_else(|error| panic!("{:?} can't be started: {error}", self.command));
        let status = wait(&mut child);
        let Some(status) = status else {
            panic!("{:?} did not end\nstderr: {}", self.command, text(stderr));
        };
        Outcome {
            code: status.code(),
            signal: status.signal(),
            stdout: text(stdout),
            stderr: text(stderr),
        }
    }
}

// === impl Outcome ===

impl Outcome {
    /// Its output without the last line break; the test fails unless it ended with 0.
    #[track_caller]
    pub fn expect_success(self) -> String {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self.stdout.trim_end_matches('\n').to_owned()
    }

    /// The test fails unless it ended with this code and said all of these on standard error.
    #[track_caller]
    pub fn expect_failure(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:#?}");
        for word in words {
            assert!(
                self.stderr.contains(word),
                "{word:?} is not said: {self:#?}"
            );
        }
    }
}

/// Waits for a child's end, at most [`PATIENCE`]; ends it then, and answers `None`.
pub(super) fn wait(child: &mut Child) -> Option<ExitStatus> {
    let pid = Pid::from_child(child);
    let (done, timer) = mpsc::channel::<()>();
    let watchdog = thread::spawn(move || {
        let late = timer.recv_timeout(PATIENCE).is_err();
        if late {
            // It isn't reaped yet, so the pid is still its own.
            let _ = kill_process(pid, Signal::KILL);
        }
        late
    });
    let status = child.wait().expect("waiting for a child");
    let _ = done.send(());
    let late = watchdog.join().expect("the watchdog");
    (!late).then_some(status)
}

fn text(mut file: File) -> String {
    let mut bytes = Vec::new();
    file.rewind().expect("rewinding");
    file.read_to_end(&mut bytes).expect("reading");
    String::from_utf8_lossy(&bytes).into_owned()
}
