//! A user's machine in a test: a sandbox, a home directory of its own, and the real binaries.
//!
//! Nothing sleeps: tests wait for a state on the daemon's watch stream, or for the
//! sandbox's statistics. A machine that is left must leave nothing behind, which
//! [`TestMachine::leave`] checks.

mod admin;
mod daemon;
mod manager;
mod ports;
mod run;
mod terminal;
mod wait;
pub mod wire;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

pub use admin::Admin;
pub use daemon::{Daemon, raise_descriptors, resident, wake_ups};
pub use manager::Manager;
use ports::Ports;
pub use run::{Outcome, Run};
pub use terminal::Terminal;
pub use wait::eventually;

use crate::sandbox::{BastionKind, Options, Sandbox};

/// How long anything may take before a test gives up. Far above what it takes: this bounds
/// a hang, it judges no speed.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// A user with a machine, an account and a daemon.
pub struct TestMachine {
    /// The provider; the machines of one user share it.
    pub sandbox: Arc<Sandbox>,
    daemon: Option<Daemon>,
    /// Changes to the environment of everything that is run, later ones winning.
    environment: Vec<(String, String)>,
    home: TempDir,
    ports: Ports,
}

// === impl TestMachine ===

impl TestMachine {
    /// With a daemon that runs, before a sandbox with the embedded bastion.
    pub fn new() -> Self {
        Self::before(Options::default())
    }

    /// With a daemon that runs, before a sandbox with OpenSSH's `sshd` as its bastion.
    pub fn with_sshd() -> Self {
        Self::before(Options {
            bastion: BastionKind::Sshd,
            ..Options::default()
        })
    }

    /// The same with the settings of a hardened bastion.
    pub fn with_strict_sshd() -> Self {
        Self::before(Options::strict_sshd())
    }

    /// With a daemon that runs, before such a sandbox.
    pub fn before(options: Options) -> Self {
        let mut machine = Self::without_daemon(options);
        machine.start_daemon();
        machine
    }

    /// With a daemon that logs what it would for a user, before such a sandbox: a log of
    /// everything would be what a benchmark measures.
    pub fn quiet(options: Options) -> Self {
        let sandbox = Sandbox::start_blocking(options).expect("the sandbox starts");
        let mut machine = Self::quiet_at(Arc::new(sandbox));
        machine.start_daemon();
        machine
    }

    /// The same before a sandbox that runs, perhaps in another network namespace, with no
    /// daemon started yet.
    pub fn quiet_at(sandbox: Arc<Sandbox>) -> Self {
        let mut machine = Self::at(sandbox);
        machine.set("BOREALIS_LOG", "info");
        machine
    }

    /// With a sandbox, and nothing started yet.
    pub fn without_daemon(options: Options) -> Self {
        let sandbox = Sandbox::start_blocking(options).expect("the sandbox starts");
        Self::at(Arc::new(sandbox))
    }

    /// Another machine of the same user, with nothing started yet.
    pub fn another_machine(&self) -> Self {
        Self::at(Arc::clone(&self.sandbox))
    }

    fn at(sandbox: Arc<Sandbox>) -> Self {
        // Paths of Unix sockets are short: the system's temporary directory may not be.
        let home = tempfile::Builder::new()
            .prefix("bd")
            .tempdir_in("/tmp")
            .expect("a home");
        let mut environment = sandbox.environment();
        let path = |name: &str| home.path().join(name).display().to_string();
        fs::create_dir(home.path().join("run")).expect("a runtime directory");
        environment.extend([
            ("HOME".into(), path("")),
            ("XDG_RUNTIME_DIR".into(), path("run")),
            ("XDG_STATE_HOME".into(), path("state")),
            ("XDG_CONFIG_HOME".into(), path("config")),
            ("XDG_DATA_HOME".into(), path("data")),
            ("PGCONNECT_TIMEOUT".into(), PATIENCE.as_secs().to_string()),
            ("PATH".into(), std::env::var("PATH").unwrap_or_default()),
            ("LC_ALL".into(), "C.UTF-8".into()),
            ("TZ".into(), "UTC".into()),
        ]);
        let machine = Self {
            sandbox,
            daemon: None,
            environment,
            home,
            ports: Ports::take(),
        };
        machine.write_config("");
        machine
    }

    /// Sets a variable for everything that is run from now on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.environment.push((name.into(), value.into()));
    }

    /// Takes a variable away from everything that is run from now on.
    pub fn unset(&mut self, name: &str) {
        self.environment.retain(|(known, _)| known != name);
    }

    /// A path below the home directory.
    pub fn path(&self, below: &str) -> PathBuf {
        self.home.path().join(below)
    }

    /// The directory of a session's Unix socket.
    pub fn socket_dir(&self, session: &str) -> PathBuf {
        self.path("run/borealis/pg").join(session)
    }

    /// Writes the daemon's config file: ports that no other machine has, and these lines.
    /// Without it, the daemon has those ports and the defaults.
    pub fn write_config(&self, toml: &str) {
        self.write_bare_config(&format!("port_range = \"{}\"\n{toml}", self.ports));
    }

    /// Writes the daemon's config file as it stands here, for daemons that don't start with it
    /// or whose message names its lines.
    pub fn write_bare_config(&self, toml: &str) {
        let dir = self.path("config/borealis");
        fs::create_dir_all(&dir).expect("a config directory");
        fs::write(dir.join("config.toml"), toml).expect("a config file");
    }

    /// The ports that this machine's sessions get.
    pub fn ports(&self) -> std::ops::RangeInclusive<u16> {
        self.ports.range()
    }

    // --- the daemon ---

    /// Starts the daemon and waits until it is ready.
    pub fn start_daemon(&mut self) {
        assert!(self.daemon.is_none(), "the daemon runs already");
        self.daemon = Some(Daemon::start(&self.environment, self.home.path()));
    }

    /// Starts the daemon under a service manager and waits until it is ready.
    pub fn start_daemon_under(&mut self, manager: &Manager) {
        assert!(self.daemon.is_none(), "the daemon runs already");
        let home = self.home.path();
        self.daemon = Some(Daemon::start_under(manager, &self.environment, home));
    }

    /// Ends the daemon with SIGKILL, as a crash would.
    pub fn kill_daemon(&mut self) {
        self.daemon.take().expect("a daemon").kill();
    }

    /// Ends the daemon with SIGTERM; its exit code.
    pub fn stop_daemon(&mut self) -> Option<i32> {
        self.daemon.take().expect("a daemon").stop()
    }

    /// Waits until the daemon, which was told to, has ended; its exit code.
    pub fn await_daemon(&mut self) -> Option<i32> {
        self.daemon.take().expect("a daemon").wait()
    }

    /// The daemon that runs.
    pub fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().expect("a daemon")
    }

    /// All that daemons have logged here, at level trace.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("daemon.log")).unwrap_or_default()
    }

    // --- programs ---

    /// A program in this machine's environment and no other.
    pub fn run(&self, program: impl AsRef<Path>) -> Run {
        Run::new(program.as_ref(), &self.environment, self.home.path())
    }

    /// Where a binary of this workspace is.
    pub fn binary(&self, name: &str) -> PathBuf {
        daemon::binary(name)
    }

    /// Runs `borealisctl` to its end.
    pub fn ctl(&self, args: &[&str]) -> Outcome {
        self.run(daemon::binary("borealisctl")).args(args).outcome()
    }

    /// Runs `borealisctl`, which must succeed; its standard output without the last line break.
    #[track_caller]
    pub fn ctl_ok(&self, args: &[&str]) -> String {
        self.ctl(args).expect_success()
    }

    /// Runs `borealisctl … --format json`, which must succeed.
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Value {
        let text = self.ctl_ok(&[args, &["--format", "json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
    }

    /// Opens a session and answers its URL.
    #[track_caller]
    pub fn open(&self, args: &[&str]) -> String {
        let opened = self.json(&[&["open"], args].concat());
        assert_eq!(opened["state"], "up", "{opened}");
        opened["url"].as_str().expect("a URL").to_owned()
    }

    /// Runs psql without the user's own settings; rows only, unaligned.
    pub fn psql(&self, database: &str, sql: &str) -> Outcome {
        self.run("psql")
            .args(&["-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql, database])
            .outcome()
    }

    /// Runs psql, which must succeed; what it printed without the last line break.
    #[track_caller]
    pub fn query(&self, database: &str, sql: &str) -> String {
        self.psql(database, sql).expect_success()
    }

    /// Waits until a session is as wanted, on the daemon's stream of changes.
    #[track_caller]
    pub fn wait_for(&self, session: &str, wanted: impl Fn(&Session) -> bool) -> Session {
        self.daemon().wait_for(session, wanted, &self.sandbox)
    }

    // --- the end ---

    /// Stops the daemon and checks what must hold after any run: it ended well, every grant
    /// was removed, and no secret stands in its log or in a file that others can read.
    #[track_caller]
    pub fn leave(mut self) {
        let passwords = self.local_passwords();
        if self.daemon.is_some() {
            assert_eq!(
                self.stop_daemon(),
                Some(0),
                "the daemon's exit code\n{}",
                self.tail()
            );
        }
        let grants = self.sandbox.stats().grants;
        assert_eq!(grants.outstanding, 0, "grants left behind: {grants:?}");
        let log = self.log();
        let secrets = self.sandbox.secrets();
        let secrets = secrets
            .iter()
            .map(|secret| (secret.kind.as_str(), secret.value.as_str()));
        let local = passwords
            .iter()
            .map(|password| ("local password", password.as_str()));
        for (kind, value) in secrets.chain(local) {
            assert!(!log.contains(value), "a {kind} is in the log");
        }
        self.check_files();
    }

    /// The end of the log, for a failure's message.
    pub fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().filter(|line| !line.contains("TRACE")).collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    fn local_passwords(&self) -> Vec<String> {
        let Ok(files) = fs::read_dir(self.path("state/borealis/passwords")) else {
            return Vec::new();
        };
        files
            .filter_map(|file| fs::read_to_string(file.ok()?.path()).ok())
            .map(|text| text.trim().to_owned())
            .filter(|password| !password.is_empty())
            .collect()
    }

    /// Everything below the daemon's directories is the user's alone.
    fn check_files(&self) {
        use std::os::unix::fs::PermissionsExt as _;
        let mut dirs = vec![self.path("state/borealis"), self.path("run/borealis")];
        while let Some(dir) = dirs.pop() {
            let Ok(entries) = fs::read_dir(&dir) else {
                continue;
            };
            for entry in entries.flatten() {
                let path = entry.path();
                let mode = entry.metadata().expect("metadata").permissions().mode();
                assert_eq!(mode & 0o077, 0, "{} can be read by others", path.display());
                if path.is_dir() {
                    dirs.push(path);
                }
            }
        }
    }
}

impl Default for TestMachine {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for TestMachine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            #[allow(clippy::print_stderr, reason = "for who reads the failed test")]
            {
                eprintln!("--- the daemon's log ---\n{}\n---", self.tail());
            }
        }
    }
}

/// A session as the API shows it.
pub type Session = borealis_proto::v1::Session;
