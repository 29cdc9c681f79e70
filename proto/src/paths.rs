//! Where the daemon keeps its files, by the `directories` crate (XDG on Linux).
//!
//! Nothing here is written: the daemon creates what it owns.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use directories::ProjectDirs;

/// The directories of one user's daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// Holds `config.toml`; written by the user only.
    pub config_dir: PathBuf,
    /// Survives reboots: the open sessions, local passwords, certificates.
    pub state_dir: PathBuf,
    /// Sockets, `pg_service.conf` and `pgpass`; mode 0700.
    pub runtime_dir: PathBuf,
}

impl Paths {
    /// The directories for this process's environment, or `None` where the user has no
    /// home directory.
    ///
    /// Without `XDG_RUNTIME_DIR`, as under cron or `su`, the runtime directory is the one that
    /// a log-in would have set, where there is one.
    pub fn from_environment() -> Option<Self> {
        let dirs = ProjectDirs::from("", "", "borealis")?;
        let state_dir = dirs.state_dir().unwrap_or(dirs.data_local_dir());
        let runtime_dir = dirs.runtime_dir().map(Path::to_path_buf);
        Some(Self {
            config_dir: dirs.config_dir().to_path_buf(),
            state_dir: state_dir.to_path_buf(),
            runtime_dir: runtime_dir
                .or_else(|| Some(log_in_runtime_dir()?.join("borealis")))
                .unwrap_or_else(|| state_dir.join("run")),
        })
    }

    /// The control socket, unless `--socket` or `BOREALIS_SOCKET` names another.
    pub fn control_socket(&self) -> PathBuf {
        self.runtime_dir.join("control.sock")
    }

    /// The config file, unless `--config` or `BOREALIS_CONFIG` names another.
    pub fn config_file(&self) -> PathBuf {
        self.config_dir.join("config.toml")
    }
}

/// The directory that pam_systemd(8) makes for this user, if it is this user's alone.
fn log_in_runtime_dir() -> Option<PathBuf> {
    let uid = rustix::process::geteuid().as_raw();
    let dir = PathBuf::from(format!("/run/user/{uid}"));
    let found = fs::symlink_metadata(&dir).ok()?;
    let private = found.is_dir() && found.uid() == uid && found.mode() & 0o077 == 0;
    private.then_some(dir)
}
