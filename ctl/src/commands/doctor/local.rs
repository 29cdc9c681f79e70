//! Checks that need no daemon: the socket's rights, the service manager's unit, psql, and
//! the config by a daemon that is started for nothing else.

use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use borealis_proto::v1::{self, CheckOutcome};
use tokio::{process::Command, time::timeout};

use super::check;
use crate::{
    child,
    client::{socket_path, unit_is_installed},
};

/// For a program that is asked something.
const LIMIT: Duration = Duration::from_secs(5);
const OTHERS: u32 = 0o077;

/// Whether the socket is this user's and nobody else's. `None` where there is none, which
/// the daemon's check tells.
pub(super) fn socket(named: Option<&Path>) -> Option<v1::Check> {
    let id = "socket";
    let path = socket_path(named).ok()?;
    let metadata = std::fs::metadata(&path).ok()?;
    let shown = path.display();
    let me = rustix::process::geteuid().as_raw();
    if metadata.uid() != me {
        let found = format!("{shown} belongs to another user (uid {})", metadata.uid());
        let hint = "a daemon serves only the user who started it: start your own, and check --socket and BOREALIS_SOCKET";
        return Some(check(id, CheckOutcome::Fail, found, hint));
    }
    // Others can't get to a socket in a directory that they may not enter.
    let dir = path.parent().and_then(|dir| std::fs::metadata(dir).ok());
    if metadata.mode() & OTHERS != 0 && dir.is_some_and(|dir| dir.mode() & OTHERS != 0) {
        let found = format!("others may connect to {shown}");
        return Some(check(
            id,
            CheckOutcome::Warn,
            found,
            &format!("`chmod 600 {shown}`"),
        ));
    }
    Some(check(
        id,
        CheckOutcome::Ok,
        format!("{shown} is yours alone"),
        "",
    ))
}

/// Whether the daemon starts by itself.
pub(super) async fn unit() -> v1::Check {
    let id = "unit";
    if !unit_is_installed() {
        let found = "borealisd is not a service here: nobody starts it but you";
        return check(id, CheckOutcome::Skipped, found, "");
    }
    let is = async |what: &str| {
        let output = asked("systemctl", &["--user", what, "borealisd.service"]).await;
        output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let (Some(enabled), Some(active)) = (is("is-enabled").await, is("is-active").await) else {
        let found = "systemd's user manager does not answer";
        return check(id, CheckOutcome::Skipped, found, "");
    };
    match (active.as_str(), enabled.as_str()) {
        ("active", "enabled" | "linked") => check(
            id,
            CheckOutcome::Ok,
            "active, and starts when you log in",
            "",
        ),
        ("failed", _) => {
            let hint = "see why with `journalctl --user -u borealisd -n 20`, then `systemctl --user restart borealisd`";
            check(id, CheckOutcome::Fail, "borealisd.service has failed", hint)
        }
        ("active", _) => {
            let hint = "`systemctl --user enable borealisd`";
            check(
                id,
                CheckOutcome::Warn,
                "active, but does not start when you log in",
                hint,
            )
        }
        (state, _) => {
            let hint = "`systemctl --user enable --now borealisd`";
            check(
                id,
                CheckOutcome::Warn,
                format!("borealisd.service is {state}"),
                hint,
            )
        }
    }
}

/// Whether `borealisctl psql` has what it runs.
pub(super) fn psql() -> v1::Check {
    match child::find("psql".as_ref()) {
        Some(path) => check("psql", CheckOutcome::Ok, path.display().to_string(), ""),
        None => check(
            "psql",
            CheckOutcome::Warn,
            "psql is not installed, or not on the PATH: `borealisctl psql` needs it",
            "install PostgreSQL's client (apt install postgresql-client)",
        ),
    }
}

/// The daemon's binary: the one beside this program, else on the PATH.
pub(in crate::commands) fn daemon_program() -> Option<PathBuf> {
    let beside = std::env::current_exe()
        .ok()
        .and_then(|own| Some(own.parent()?.join("borealisd")))
        .filter(|path| path.is_file());
    beside.or_else(|| child::find("borealisd".as_ref()))
}

/// Whether a daemon would take the config. `None` where there is no borealisd to ask.
pub(super) async fn config() -> Option<v1::Check> {
    let output = asked(daemon_program()?, &["--check-config"]).await?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() {
        return Some(check("config", CheckOutcome::Ok, text(&output.stdout), ""));
    }
    let said = text(&output.stderr);
    let found = said.strip_prefix("borealisd: ").unwrap_or(&said);
    Some(check(
        "config",
        CheckOutcome::Fail,
        found,
        "mend the file, then start borealisd",
    ))
}

async fn asked(program: impl Into<PathBuf>, arguments: &[&str]) -> Option<Output> {
    let output = Command::new(program.into())
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    timeout(LIMIT, output).await.ok()?.ok()
}
