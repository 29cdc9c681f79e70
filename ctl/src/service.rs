//! Has systemd's user manager start the daemon, where its unit is installed.

use std::{path::Path, process::Stdio};

use tokio::process::Command;

use crate::{
    client::unit_is_installed,
    failure::{Exit, Failure, one_line, reason},
};

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
