//! A real PostgreSQL of its own for a test, on a Unix socket only.

use std::{
    io::{BufRead as _, BufReader},
    os::unix::{fs::chown, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use borealis_proto::v1;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::daemon::{Canned, Daemon, sushi};

/// Ends with its value.
pub(crate) struct Postgres {
    dir: TempDir,
    server: Child,
}

/// Debian's nobody: PostgreSQL refuses to run as root.
const NOBODY: u32 = 65534;

// === impl Postgres ===

impl Postgres {
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        if is_root() {
            chown(dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let data = dir.path().join("data");
        let initdb = program("initdb", dir.path())
            .arg("--pgdata")
            .arg(&data)
            .args([
                "--username=postgres",
                "--auth=trust",
                "--no-sync",
                "--no-instructions",
            ])
            .args(["--encoding=UTF8", "--locale=C.UTF-8"])
            .output()
            .unwrap();
        assert!(initdb.status.success(), "{initdb:?}");
        let mut server = program("postgres", dir.path())
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(dir.path())
            .args([
                "-c",
                "listen_addresses=",
                "-c",
                "fsync=off",
                "-c",
                "lc_messages=C",
            ])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(server.stderr.take().unwrap()).lines();
        let is_ready = log.any(|line| line.unwrap().contains("ready to accept connections"));
        assert!(is_ready);
        // A full pipe would stop the server.
        std::thread::spawn(move || log.for_each(drop));
        Self { dir, server }
    }

    /// A daemon whose only session leads here.
    pub(crate) fn daemon(&self, access: v1::Access) -> Daemon {
        Daemon::start(Canned::with(v1::Session {
            socket_dir: self.dir.path().to_str().unwrap().to_owned(),
            user: "postgres".into(),
            database: "postgres".into(),
            access: access.into(),
            ..sushi()
        }))
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let pid = i32::try_from(self.server.id()).unwrap();
        // An immediate shutdown.
        kill_process(Pid::from_raw(pid).unwrap(), Signal::QUIT).unwrap();
        self.server.wait().unwrap();
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn program(name: &str, dir: &Path) -> Command {
    let mut command = Command::new(binaries().join(name));
    command
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// Where the server's programs are: Debian keeps them off the PATH, one directory a version.
fn binaries() -> PathBuf {
    let on_path = std::env::split_paths(&std::env::var_os("PATH").unwrap()).collect::<Vec<_>>();
    let debian = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten();
    let debian = debian.flatten().map(|version| version.path().join("bin"));
    on_path
        .into_iter()
        .chain(debian)
        .find(|dir| dir.join("initdb").exists() && dir.join("postgres").exists())
        .expect("PostgreSQL's server is installed (apt install postgresql)")
}
