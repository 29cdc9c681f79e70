//! The config key `token_command`: a program that prints the token.

use std::{io, process::Stdio, time::Duration};

use rustix::process::{Pid, Signal, kill_process_group};
use secrecy::SecretString;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::Command,
};

use crate::platform::descriptors;

const LONGEST_OUTPUT: u64 = 64 << 10;
/// The Heroku CLI takes a second or two, more when it updates itself first.
const LIMIT: Duration = Duration::from_secs(30);

/// Runs the command and gives what it printed, trimmed.
///
/// # Errors
/// What went wrong, for a sentence that begins with `token_command`.
pub(in crate::credential) async fn run(line: &str) -> Result<SecretString, String> {
    run_within(line, LIMIT).await
}

/// Runs a program without a shell: words are split by the shell's quoting rules, and
/// nothing is expanded. Messages name the program and not its arguments.
async fn run_within(line: &str, limit: Duration) -> Result<SecretString, String> {
    let words = shlex::split(line).ok_or("has a quote that is never closed")?;
    let (program, arguments) = words.split_first().ok_or("is empty")?;
    let failed = |what: String| format!("({program}) {what}");
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Its own group, so that its time limit also ends what it started.
        .process_group(0)
        .kill_on_drop(true);
    let mut child = descriptors::for_child(|| command.spawn())
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => failed("isn't there; borealisd's PATH may be shorter than your shell's: give the whole path".into()),
            _ => failed(format!("can't be started: {error}")),
        })?;
    let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let finished = tokio::time::timeout(limit, async {
        tokio::join!(read_output(stdout), read_output(stderr), child.wait())
    })
    .await;
    let Ok((stdout, stderr, status)) = finished else {
        if let Some(group) = group {
            let _ = kill_process_group(group, Signal::KILL);
        }
        return Err(failed(format!(
            "printed no token within {} s",
            limit.as_secs()
        )));
    };
    let status = status.map_err(|error| failed(format!("can't be waited for: {error}")))?;
    if !status.success() {
        let said = String::from_utf8_lossy(&stderr);
        let last = said.lines().rev().find(|line| !line.trim().is_empty());
        let last: String = last
            .unwrap_or("and said nothing")
            .chars()
            .filter(|c| !c.is_control())
            .take(200)
            .collect();
        return Err(failed(format!("ended with {status}: {last}")));
    }
    let output = String::from_utf8_lossy(&stdout);
    match output.trim() {
        "" => Err(failed("printed nothing".into())),
        token => Ok(SecretString::from(token)),
    }
}

async fn read_output(from: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut output = Vec::new();
    if let Some(from) = from {
        // What could be read before an error is judged as if it were all.
        let _ = from.take(LONGEST_OUTPUT).read_to_end(&mut output).await;
    }
    output
}

#[cfg(test)]
mod tests {
    use std::fs;

    use secrecy::ExposeSecret as _;

    use super::*;

    async fn output(line: &str) -> Result<String, String> {
        let output = run(line).await?;
        Ok(output.expose_secret().to_owned())
    }

    #[tokio::test]
    async fn a_command_runs_without_a_shell() {
        assert_eq!(
            output("printf ' %s\\n\\n' 'HRKU-$HOME;*'").await.unwrap(),
            "HRKU-$HOME;*"
        );
        for (line, says) in [
            ("", "is empty"),
            ("echo 'x", "never closed"),
            ("true", "printed nothing"),
            ("no-such-program-here secret", "isn't there"),
            ("sh -c 'echo not logged in >&2; exit 3'", "not logged in"),
        ] {
            let problem = output(line).await.unwrap_err();
            assert!(problem.contains(says), "{line}: {problem}");
            assert!(!problem.contains("secret"), "{problem}");
        }
    }

    #[tokio::test]
    async fn a_command_that_hangs_is_ended_with_all_that_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pid");
        let line = format!("sh -c 'sleep 1000 & echo $! > {}; wait'", file.display());
        let running =
            tokio::spawn(async move { run_within(&line, Duration::from_millis(500)).await });
        assert!(running.await.unwrap().unwrap_err().contains("within"));
        let pid: i32 = fs::read_to_string(file).unwrap().trim().parse().unwrap();
        let stat = format!("/proc/{pid}/stat");
        // Killed, and perhaps never reaped by whoever inherited it.
        let alive = || fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z "));
        let ended = async {
            while alive() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let limit = Duration::from_secs(10);
        assert!(tokio::time::timeout(limit, ended).await.is_ok());
    }
}
