//! A command of the user, run as if started by hand: the terminal is its own, signals reach
//! it, its exit code is passed on.

use std::{
    ffi::OsStr,
    io,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
};

use crate::{
    client::Held,
    failure::{Exit, Failure, reason},
    libpq,
    output::Output,
};

/// Gives the command these variables, and none that would lead libpq elsewhere.
pub(crate) fn connect(command: &mut Command, variables: Vec<(&'static str, String)>) {
    for name in libpq::CONNECTION_VARIABLES {
        command.env_remove(name);
    }
    command.envs(variables);
}

/// Runs `command` to its end while the session is held; gives its exit code, 128+n where
/// signal n killed it.
///
/// # Errors
/// When it can't be started. The session's end is only warned of: the command sees it itself.
pub(crate) async fn run(
    mut command: Command,
    mut held: Held,
    output: &Output,
) -> Result<u8, Failure> {
    // Taken over before the child exists, so that none of them can end this process and leave
    // the child behind. Handlers, unlike ignored signals, aren't inherited.
    let failed =
        |error: io::Error| Failure::failed(format!("can't handle signals: {}", reason(&error)));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut quit = signal(SignalKind::quit()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(failed)?;

    let mut child = spawn(&mut command)?;
    let mut is_held = true;
    loop {
        tokio::select! {
            status = child.wait() => {
                let status = status.map_err(|error| {
                    Failure::failed(format!("can't wait for the command: {}", reason(&error)))
                })?;
                return Ok(exit_code(status));
            }
            // The terminal sends these to the child as well, and it decides what they mean.
            _ = interrupt.recv() => {}
            _ = quit.recv() => {}
            _ = terminate.recv() => forward(&child, Signal::TERM),
            _ = hangup.recv() => forward(&child, Signal::HUP),
            failure = held.ended(), if is_held => {
                is_held = false;
                output.warning(&format!("the session ended while the command runs: {failure}"));
            }
        }
    }
}

/// Where a program is, by the PATH unless it is named with a slash.
pub(crate) fn find(program: &Path) -> Option<PathBuf> {
    if program.components().count() > 1 || program.is_absolute() {
        return program.is_file().then(|| program.to_path_buf());
    }
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|dir| dir.join(program))
        .find(|path| path.is_file())
}

/// A command with the standard streams of this process, its input apart.
pub(crate) fn command(program: impl AsRef<OsStr>, stdin: Stdio) -> Command {
    let mut command = Command::new(program);
    command.stdin(stdin);
    command
}

fn spawn(command: &mut Command) -> Result<Child, Failure> {
    command.spawn().map_err(|error| {
        let program = command
            .as_std()
            .get_program()
            .to_string_lossy()
            .into_owned();
        // As a shell has it, so that both ways of running a command end alike.
        let exit = match error.kind() {
            io::ErrorKind::NotFound => Exit::NoCommand,
            io::ErrorKind::PermissionDenied => Exit::NotExecutable,
            _ => Exit::Failed,
        };
        Failure::new(exit, format!("can't run {program}: {}", reason(&error)))
    })
}

fn forward(child: &Child, signal: Signal) {
    let pid = child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // It may have ended this instant; then there is nobody to tell.
        let _ = kill_process(pid, signal);
    }
}

fn exit_code(status: ExitStatus) -> u8 {
    let code = match (status.code(), status.signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 1,
    };
    u8::try_from(code).unwrap_or(1)
}
