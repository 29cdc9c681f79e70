//! `shutdown`: stops the daemon, and waits until it is gone, so that the next one can start.

use std::os::fd::OwnedFd;

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, pidfd_open},
};

use super::{Context, Outcome};
use crate::failure::Failure;

/// More than any sensible `shutdown_grace`, in seconds.
const PATIENCE: u32 = 90;

pub(super) async fn run(context: Context<'_>) -> Outcome {
    let mut daemon = context.running_daemon().await?;
    let info = daemon.info().await?;
    // Opened before it is told to stop, so that the number can't be another process's by then.
    let process = process(info.pid);
    daemon.shutdown().await?;
    drop(daemon);
    let spinner = context
        .output
        .spinner(format!("borealisd (pid {}) is stopping", info.pid));
    let gone = match process {
        Some(process) => tokio::task::spawn_blocking(move || has_ended(&process))
            .await
            .unwrap_or(false),
        None => {
            drop(spinner);
            context
                .output
                .note(&format!("borealisd (pid {}) is stopping", info.pid));
            return Ok(0);
        }
    };
    drop(spinner);
    if !gone {
        return Err(Failure::failed(format!(
            "borealisd (pid {}) has not stopped after {} s",
            info.pid, PATIENCE
        ))
        .with_hint(format!("end it at once with `kill {}`", info.pid)));
    }
    context
        .output
        .note(&format!("borealisd (pid {}) has stopped", info.pid));
    Ok(0)
}

/// Readable once the process has ended. `None` where the system has no such thing.
fn process(pid: u32) -> Option<OwnedFd> {
    let pid = Pid::from_raw(i32::try_from(pid).ok()?)?;
    pidfd_open(pid, PidfdFlags::empty()).ok()
}

/// Waits for the end of a process; `false` when patience has.
fn has_ended(process: &OwnedFd) -> bool {
    let patience = Timespec {
        tv_sec: PATIENCE.into(),
        tv_nsec: 0,
    };
    let mut watched = [PollFd::new(process, PollFlags::IN)];
    poll(&mut watched, Some(&patience)).is_ok_and(|ready| ready > 0)
}
