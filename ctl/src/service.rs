//! systemd's user manager, where it has the daemon's unit: has it start the daemon, and knows
//! where a service's log is and how it is restarted.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use tokio::process::Command;

use crate::{
    client::unit_is_installed,
    failure::{Exit, Failure, one_line, reason},
};

const USER_JOURNAL: &str = "journalctl --user -u borealisd";

/// Whether a daemon that can't be reached is the user manager's to start: nobody named
/// another socket, and the manager knows the unit.
pub(crate) fn starts(socket: Option<&Path>, failure: &Failure) -> bool {
    failure.exit == Exit::NoDaemon && socket.is_none() && unit_is_installed()
}

/// Starts it; returns once it is ready.
///
/// # Errors
/// [`Exit::NoDaemon`] with what systemctl said. Dropping the future ends the waiting, not the
/// start.
pub(crate) async fn start() -> Result<(), Failure> {
    let started = Command::new("systemctl")
        .args(["--user", "start", "borealisd.service"])
        .stdin(Stdio::null())
        .output()
        .await;
    let problem = match started {
        Ok(output) if output.status.success() => return Ok(()),
        Ok(output) => one_line(&String::from_utf8_lossy(&output.stderr)),
        Err(error) => format!("systemctl can't be run: {}", reason(&error)),
    };
    Err(Failure::new(
        Exit::NoDaemon,
        "borealisd is not running, and can't be started: ".to_owned() + &problem,
    )
    .with_hint(
        "see why with `journalctl --user -u borealisd -n 20`, or start it by hand with `borealisd`",
    ))
}

/// How the daemon is restarted, as far as that can be known.
pub(crate) fn restart_hint() -> &'static str {
    if unit_is_installed() {
        "restart borealisd: `systemctl --user restart borealisd`"
    } else {
        "restart borealisd: `borealisctl shutdown`, then start it the way it was started"
    }
}

/// Where the log of a daemon that can't be asked is, as far as that can be known.
pub(crate) fn log_hint() -> &'static str {
    if unit_is_installed() {
        "see `borealisctl status`, and the daemon's log: `journalctl --user -u borealisd`"
    } else {
        "see `borealisctl status`, and what borealisd wrote on the terminal, or in the file, that it was started with"
    }
}

/// Where a daemon's log is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Log {
    /// In systemd's journal; the command that shows it.
    Journal(&'static str),
    /// In a file.
    File(PathBuf),
    /// Nobody can tell, as where it goes to a terminal.
    Unknown,
}

/// Where the daemon of this process number writes its log.
pub(crate) fn log_place(pid: u32) -> Log {
    let cgroup = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    log_by_cgroup(&cgroup).map_or_else(|| log_by_descriptor(pid), Log::Journal)
}

/// Where the log of a daemon that doesn't run is, if anywhere.
pub(crate) fn log_place_without_daemon() -> Log {
    if unit_is_installed() {
        Log::Journal(USER_JOURNAL)
    } else {
        Log::Unknown
    }
}

/// The same for people.
pub(crate) fn log_of(pid: u32) -> String {
    match log_place(pid) {
        Log::Journal(command) => command.to_owned(),
        Log::File(path) => path.display().to_string(),
        Log::Unknown => format!("where the standard error of borealisd (pid {pid}) goes"),
    }
}

/// What a unit writes goes to the journal.
fn log_by_cgroup(cgroup: &str) -> Option<&'static str> {
    let path = cgroup
        .lines()
        .find(|line| line.contains("/borealisd") && line.trim_end().ends_with(".service"))?;
    Some(if path.contains("/user@") {
        USER_JOURNAL
    } else {
        "journalctl -u borealisd"
    })
}

/// The daemon may have forbidden to be looked into; then nothing is known but the rule.
fn log_by_descriptor(pid: u32) -> Log {
    let stderr = std::fs::read_link(format!("/proc/{pid}/fd/2"));
    match stderr {
        Ok(path) if path.is_file() => Log::File(path),
        _ => Log::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_units_log_is_the_journals() {
        let user = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/borealisd.service\n";
        assert_eq!(log_by_cgroup(user), Some("journalctl --user -u borealisd"));
        let system = "0::/system.slice/borealisd@me.service\n";
        assert_eq!(log_by_cgroup(system), Some("journalctl -u borealisd"));
        let shell = "0::/user.slice/user-1000.slice/session-2.scope\n";
        assert_eq!(log_by_cgroup(shell), None);
    }
}
