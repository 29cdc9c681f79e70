//! Owns one child process: starts it, waits for its end, stops it by its own id. On Linux
//! the child is told to end when the sandbox dies, however that happens. It knows nothing
//! of what the child is for.

use std::{
    ffi::OsStr,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, mpsc},
    time::Duration,
};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use tokio::sync::watch;

use super::SandboxError;

/// A running or ended child.
#[derive(Debug)]
pub(crate) struct Child {
    pid: Pid,
    shared: Arc<Shared>,
    ended: watch::Receiver<bool>,
    last_signal: Signal,
}

#[derive(Debug, Default)]
struct Shared {
    status: Mutex<Option<ExitStatus>>,
    changed: Condvar,
}

/// The operating system's user that a child runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunAs {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// A command for `program` that gets `on_death` when the thread that starts it ends, where
/// the system can do that; in a process group of its own, so that Ctrl-C in the terminal
/// is the sandbox's alone to answer.
pub(crate) fn tethered(program: &Path, on_death: &str, run_as: Option<&RunAs>) -> Command {
    let mut command = if can_tether() {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", on_death]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.process_group(0).stdin(Stdio::null());
    run_command_as(&mut command, run_as);
    command
}

/// Makes `command` run as that user, which drops all of root's groups too.
pub(crate) fn run_command_as(command: &mut Command, run_as: Option<&RunAs>) {
    if let Some(user) = run_as {
        command.uid(user.uid).gid(user.gid);
    }
    // The sandbox's own directory may be one that the other user can't enter.
    command.current_dir("/");
}

/// util-linux' setpriv can tie a child's life to ours without unsafe code; busybox' can't.
fn can_tether() -> bool {
    static CAN: OnceLock<bool> = OnceLock::new();
    *CAN.get_or_init(|| {
        Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "true"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    })
}

// === impl Child ===

impl Child {
    /// Starts `command`. `last_signal` ends the child when this value is dropped.
    ///
    /// # Errors
    /// When the system can't start it.
    pub(crate) fn spawn(mut command: Command, last_signal: Signal) -> Result<Self, SandboxError> {
        let program = command.get_program().to_owned();
        let shared = Arc::new(Shared::default());
        let (tell_ended, ended) = watch::channel(false);
        let (tell_pid, pid) = mpsc::sync_channel(1);
        let keeper = Arc::clone(&shared);
        // A thread of its own that lives as long as the child: the death signal is sent
        // when the thread that started the child ends, not when the process does.
        std::thread::Builder::new()
            .name("child".into())
            .spawn(move || {
                let mut child = match command.spawn() {
                    Ok(child) => child,
                    Err(error) => {
                        let _ = tell_pid.send(Err(error));
                        return;
                    }
                };
                let pid = Pid::from_child(&child);
                let _ = tell_pid.send(Ok(pid));
                // Waits without reaping, so that the id stays ours until the lock is held
                // and no signal can go to a stranger.
                while let Err(rustix::io::Errno::INTR) = waitid(
                    WaitId::Pid(pid),
                    WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
                ) {}
                let mut status = lock(&keeper.status);
                *status = Some(child.wait().unwrap_or_default());
                keeper.changed.notify_all();
                drop(status);
                let _ = tell_ended.send(true);
            })
            .map_err(SandboxError::io("starting a thread"))?;
        let pid = pid
            .recv()
            .map_err(SandboxError::failed)?
            .map_err(SandboxError::io(format!("starting {}", show(&program))))?;
        Ok(Self {
            pid,
            shared,
            ended,
            last_signal,
        })
    }

    /// The child's process id.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// The exit status, once the child has ended.
    pub(crate) fn status(&self) -> Option<ExitStatus> {
        *lock(&self.shared.status)
    }

    /// Sends a signal unless the child has ended.
    pub(crate) fn signal(&self, signal: Signal) {
        let status = lock(&self.shared.status);
        if status.is_none() {
            let _ = kill_process(self.pid, signal);
        }
    }

    /// Completes when the child has ended. Cancel safe.
    pub(crate) async fn ended(&self) {
        let mut ended = self.ended.clone();
        let _ = ended.wait_for(|ended| *ended).await;
    }

    /// Sends `signal` and waits; a child that takes longer than `patience` is killed.
    pub(crate) async fn stop(&self, signal: Signal, patience: Duration) {
        self.signal(signal);
        if tokio::time::timeout(patience, self.ended()).await.is_err() {
            self.signal(Signal::KILL);
            self.ended().await;
        }
    }

    fn wait_blocking(&self, patience: Duration) -> bool {
        let status = lock(&self.shared.status);
        let (status, _) = self
            .shared
            .changed
            .wait_timeout_while(status, patience, |status| status.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        status.is_some()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // A stopped process acts on nothing but this and KILL.
        self.signal(Signal::CONT);
        self.signal(self.last_signal);
        if !self.wait_blocking(Duration::from_secs(5)) {
            self.signal(Signal::KILL);
            self.wait_blocking(Duration::from_secs(5));
        }
    }
}

// === impl RunAs ===

impl RunAs {
    /// Looks a user up in the system's user file.
    pub(crate) fn find(name: &str) -> Option<Self> {
        Self::lookup(|user| user.name == name)
    }

    /// The user that this process runs as.
    pub(crate) fn current() -> Option<Self> {
        let uid = rustix::process::getuid().as_raw();
        Self::lookup(|user| user.uid == uid).or_else(|| {
            // Directory services and macOS keep people out of the file.
            let output = Command::new("id").arg("-un").output().ok()?;
            Some(Self {
                name: String::from_utf8(output.stdout).ok()?.trim().to_owned(),
                uid,
                gid: rustix::process::getgid().as_raw(),
            })
        })
    }

    fn lookup(wanted: impl Fn(&Self) -> bool) -> Option<Self> {
        let users = std::fs::read_to_string("/etc/passwd").ok()?;
        users
            .lines()
            .filter_map(|line| {
                let mut fields = line.split(':');
                let name = fields.next()?.to_owned();
                let uid = fields.nth(1)?.parse().ok()?;
                let gid = fields.next()?.parse().ok()?;
                Some(Self { name, uid, gid })
            })
            .find(wanted)
    }
}

/// Whether this process is root's.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn show(program: &OsStr) -> String {
    program.to_string_lossy().into_owned()
}
