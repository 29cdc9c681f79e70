//! The daemon as a process.

use std::{
    collections::HashMap,
    env,
    ffi::OsString,
    fs,
    fs::File,
    io::ErrorKind,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use borealis_proto::v1::{
    ListSessionsRequest, WatchSessionsRequest, session_service_client::SessionServiceClient,
};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use tokio::time::timeout;

use super::{Manager, PATIENCE, Session, run};
use crate::sandbox::Sandbox;

/// A running daemon. Dropping it ends it at once.
pub struct Daemon {
    child: Option<Child>,
    socket: PathBuf,
}

/// A binary of this workspace, built by `cargo build --workspace --bins`.
pub(super) fn binary(name: &str) -> PathBuf {
    let mut dir = env::current_exe().expect("this test's own path");
    // target/debug/deps/TEST
    dir.pop();
    if dir.ends_with("deps") {
        dir.pop();
    }
    let path = dir.join(name);
    assert!(
        path.exists(),
        "{} is missing: `cargo build --workspace --bins`",
        path.display()
    );
    path
}

fn command(environment: &[(String, String)], home: &Path) -> Command {
    let log = File::options()
        .create(true)
        .append(true)
        .open(home.join("daemon.log"))
        .expect("a log file");
    let mut command = Command::new(binary("borealisd"));
    command
        .env_clear()
        .env("BOREALIS_LOG", "trace")
        .envs(environment.iter().cloned())
        .current_dir(home)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    command
}

/// A process's resident memory in KiB.
pub fn resident(pid: u32) -> u64 {
    memory(pid, "VmRSS:")
}

/// How often each thread of a process was woken so far (proc(5), `voluntary_ctxt_switches`), by
/// the thread's name in `/proc`.
pub fn wake_ups(pid: u32) -> HashMap<OsString, u64> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("a process");
    let switches = threads.flatten().filter_map(|thread| {
        let status = fs::read_to_string(thread.path().join("status")).ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
        Some((thread.file_name(), line.trim().parse().ok()?))
    });
    switches.collect()
}

/// A line of what the kernel says of a process's memory (proc(5)), in KiB.
fn memory(pid: u32, which: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix(which));
    let number = line.and_then(|line| line.split_whitespace().next());
    number
        .and_then(|number| number.parse().ok())
        .expect("a number")
}

/// Lets this process, and what it starts from now on, have as many descriptors as it may;
/// answers how many.
pub fn raise_descriptors() -> usize {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let limit = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, limit).expect("a limit that may be raised");
    usize::try_from(maximum.unwrap_or(100_000)).expect("a number of descriptors")
}

// === impl Daemon ===

impl Daemon {
    pub(super) fn start(environment: &[(String, String)], home: &Path) -> Self {
        // The daemon says by itself when it is ready, as to a service manager.
        let notify = home.join("notify");
        let _ = fs::remove_file(&notify);
        let ready = UnixDatagram::bind(&notify).expect("a notify socket");
        ready
            .set_read_timeout(Some(PATIENCE))
            .expect("a time limit");
        let mut command = command(environment, home);
        command.env("NOTIFY_SOCKET", &notify);
        let mut daemon = Self::spawn(command, home);
        daemon.wait_until_ready(&ready, home);
        daemon
    }

    /// Starts it under a service manager, and waits until that is told that it is ready.
    pub(super) fn start_under(
        manager: &Manager,
        environment: &[(String, String)],
        home: &Path,
    ) -> Self {
        let mut command = command(environment, home);
        manager.prepare(&mut command);
        let before = manager.count("READY=1");
        let daemon = Self::spawn(command, home);
        manager.wait_for("READY=1", before + 1);
        daemon
    }

    fn spawn(mut command: Command, home: &Path) -> Self {
        Self {
            child: Some(command.spawn().expect("the daemon can be started")),
            socket: home.join("run/borealis/control.sock"),
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("a child").id()
    }

    /// Its resident memory in KiB.
    pub fn resident(&self) -> u64 {
        resident(self.pid())
    }

    /// What of it is not the binary, in KiB: the same in a debug build as in a released one.
    pub fn allocated(&self) -> u64 {
        memory(self.pid(), "RssAnon:")
    }

    /// How often each of its threads was woken so far.
    pub fn wake_ups(&self) -> HashMap<OsString, u64> {
        wake_ups(self.pid())
    }

    /// Descriptors that it has open.
    pub fn descriptors(&self) -> usize {
        let open = fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("a process");
        open.count()
    }

    /// Pages that it was given so far (proc(5), `minflt`).
    pub fn page_faults(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("a process");
        // The name, in parentheses, may hold blanks.
        let fields = stat.rsplit_once(')').map(|(_, fields)| fields);
        let faults = fields.and_then(|fields| fields.split_whitespace().nth(7));
        faults
            .and_then(|faults| faults.parse().ok())
            .expect("a number")
    }

    /// Its control socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("a child");
        kill_process(Pid::from_child(child), signal).expect("a signal");
    }

    pub(super) fn kill(mut self) {
        self.end(Signal::KILL);
    }

    pub(super) fn stop(mut self) -> Option<i32> {
        self.end(Signal::TERM)
    }

    pub(super) fn wait(mut self) -> Option<i32> {
        let mut child = self.child.take().expect("a child");
        run::wait(&mut child)
            .expect("the daemon ends in time")
            .code()
    }

    #[track_caller]
    pub(super) fn wait_for(
        &self,
        session: &str,
        wanted: impl Fn(&Session) -> bool,
        sandbox: &Sandbox,
    ) -> Session {
        let last = std::cell::RefCell::new(Vec::new());
        let waiting = async {
            let channel = borealis_proto::connect::connect(self.socket.clone())
                .await
                .expect("a channel");
            let mut client = SessionServiceClient::new(channel);
            let mut stream = client
                .watch_sessions(WatchSessionsRequest {})
                .await
                .expect("a stream")
                .into_inner();
            while let Some(change) = stream.message().await.expect("a change") {
                let found = change
                    .sessions
                    .iter()
                    .find(|known| known.name == session && wanted(known));
                if let Some(found) = found {
                    return found.clone();
                }
                last.replace(change.sessions);
            }
            panic!("the stream ended");
        };
        sandbox.block_on(async {
            match timeout(PATIENCE, waiting).await {
                Ok(found) => found,
                Err(_) => panic!("session {session} is not as wanted: {:#?}", last.borrow()),
            }
        })
    }

    /// Waits until the sessions are as wanted, all together.
    #[track_caller]
    pub fn wait_for_all(
        &self,
        patience: Duration,
        wanted: impl Fn(&[Session]) -> bool,
        sandbox: &Sandbox,
    ) -> Vec<Session> {
        let last = std::cell::RefCell::new(Vec::new());
        let waiting = async {
            let channel = borealis_proto::connect::connect(self.socket.clone())
                .await
                .expect("a channel");
            let mut client = SessionServiceClient::new(channel);
            let mut stream = client
                .watch_sessions(WatchSessionsRequest {})
                .await
                .expect("a stream")
                .into_inner();
            while let Some(change) = stream.message().await.expect("a change") {
                if wanted(&change.sessions) {
                    return change.sessions;
                }
                last.replace(change.sessions);
            }
            panic!("the stream ended");
        };
        sandbox.block_on(async {
            match timeout(patience, waiting).await {
                Ok(sessions) => sessions,
                Err(_) => panic!("the sessions are not as wanted: {:#?}", last.borrow()),
            }
        })
    }

    /// Waits until no session of this name is left.
    #[track_caller]
    pub fn wait_until_gone(&self, session: &str, sandbox: &Sandbox) {
        let waiting = async {
            let channel = borealis_proto::connect::connect(self.socket.clone())
                .await
                .expect("a channel");
            let mut client = SessionServiceClient::new(channel);
            let mut stream = client
                .watch_sessions(WatchSessionsRequest {})
                .await
                .expect("a stream")
                .into_inner();
            while let Some(change) = stream.message().await.expect("a change") {
                if change.sessions.iter().all(|known| known.name != session) {
                    return;
                }
            }
            panic!("the stream ended");
        };
        sandbox
            .block_on(async { timeout(PATIENCE, waiting).await })
            .unwrap_or_else(|_| panic!("session {session} is still there"));
    }

    /// All sessions, now.
    pub fn sessions(&self, sandbox: &Sandbox) -> Vec<Session> {
        sandbox.block_on(async {
            let channel = borealis_proto::connect::connect(self.socket.clone())
                .await
                .expect("a channel");
            let mut client = SessionServiceClient::new(channel);
            let listed = client
                .list_sessions(ListSessionsRequest {})
                .await
                .expect("a list");
            listed.into_inner().sessions
        })
    }

    fn wait_until_ready(&mut self, ready: &UnixDatagram, home: &Path) {
        let mut message = [0; 4096];
        loop {
            match ready.recv(&mut message) {
                Ok(length) if message[..length].starts_with(b"READY=1") => return,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    let log = fs::read_to_string(home.join("daemon.log")).unwrap_or_default();
                    panic!("the daemon did not get ready ({error}):\n{log}");
                }
            }
        }
    }

    fn end(&mut self, signal: Signal) -> Option<i32> {
        let mut child = self.child.take()?;
        // It may have ended by itself.
        let _ = kill_process(Pid::from_child(&child), signal);
        run::wait(&mut child)
            .expect("the daemon ends in time")
            .code()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
