//! The config key `token_command`: a program that prints the token.

use std::{env, ffi::OsString, io, process::Stdio, time::Duration};

use rustix::process::{Pid, Signal, kill_process_group};
use secrecy::SecretString;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::{Child, Command},
    time::timeout,
};

use crate::{model::text, platform::descriptors};

const LONGEST_OUTPUT: usize = 64 << 10;
/// The Heroku CLI takes a second or two, more when it updates itself first.
const LIMIT: Duration = Duration::from_secs(30);
/// What is in the pipe when the program ends is read at once. A program that it left behind
/// may hold the pipe open for ever.
const REST: Duration = Duration::from_millis(100);
/// The characters of an error's last line that are shown.
const LONGEST_COMPLAINT: usize = 200;

/// What a program needs to find its files, its user's language and the keychain. All else of
/// the daemon's environment, which may hold a token of its own, is kept from it.
const PASSED_ON: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "TMPDIR",
    "TZ",
    "TERM",
    "LANG",
    "LANGUAGE",
    "DBUS_SESSION_BUS_ADDRESS",
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NODE_EXTRA_CA_CERTS",
    // Where password managers find their store and their agent.
    "GNUPGHOME",
    "GPG_TTY",
    "PASSWORD_STORE_DIR",
    "SSH_AUTH_SOCK",
];
/// The beginnings of further names.
const PASSED_ON_PREFIXES: [&str; 2] = ["XDG_", "LC_"];

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
    let failed = |what: String| format!("({}) {what}", text::line(program));
    let mut child = spawn(program, arguments).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => failed(
            "isn't there; borealisd's PATH may be shorter than your shell's: give the whole path"
                .into(),
        ),
        _ => failed(format!("can't be started: {error}")),
    })?;
    let group = child
        .id()
        .and_then(|id| Pid::from_raw(id.cast_signed()))
        .map(Group);
    let Ok(ended) = timeout(limit, finish(&mut child)).await else {
        return Err(failed(format!(
            "printed no token within {} s",
            limit.as_secs()
        )));
    };
    let (status, stdout, stderr) =
        ended.map_err(|error| failed(format!("can't be waited for: {error}")))?;
    // An agent that the program started may stay.
    std::mem::forget(group);
    if !status.success() {
        let said = String::from_utf8_lossy(&stderr);
        let last = said.lines().rev().find(|line| !line.trim().is_empty());
        let last = text::Escaped(last.unwrap_or("and said nothing"));
        return Err(failed(format!(
            "ended with {status}: {last:.LONGEST_COMPLAINT$}"
        )));
    }
    let output = String::from_utf8_lossy(&stdout);
    match output.trim() {
        "" => Err(failed("printed nothing".into())),
        token => Ok(SecretString::from(token)),
    }
}

fn spawn(program: &str, arguments: &[String]) -> io::Result<Child> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(environment(env::vars_os()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Its own group, so that what it started ends with it.
        .process_group(0)
        .kill_on_drop(true);
    descriptors::for_child(|| command.spawn())
}

fn environment(
    all: impl Iterator<Item = (OsString, OsString)>,
) -> impl Iterator<Item = (OsString, OsString)> {
    all.filter(|(name, _)| {
        name.to_str().is_some_and(|name| {
            PASSED_ON.contains(&name)
                || PASSED_ON_PREFIXES
                    .iter()
                    .any(|prefix| name.starts_with(prefix))
        })
    })
}

/// Reads what the program prints until it has ended, which the end of its output need not say.
async fn finish(child: &mut Child) -> io::Result<(std::process::ExitStatus, Vec<u8>, Vec<u8>)> {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (mut printed, mut complained) = (Vec::new(), Vec::new());
    let status = {
        let reading = async {
            tokio::join!(
                read_output(stdout, &mut printed),
                read_output(stderr, &mut complained)
            )
        };
        tokio::pin!(reading);
        tokio::select! {
            _ = &mut reading => child.wait().await?,
            status = child.wait() => {
                let _ = timeout(REST, &mut reading).await;
                status?
            }
        }
    };
    Ok((status, printed, complained))
}

/// Keeps the beginning, and reads on: a program must not wait for its reader.
async fn read_output(from: Option<impl AsyncRead + Unpin>, output: &mut Vec<u8>) {
    let Some(mut from) = from else { return };
    let mut buffer = [0; 4096];
    // What could be read before an error is judged as if it were all.
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let room = LONGEST_OUTPUT.saturating_sub(output.len());
        output.extend_from_slice(&buffer[..length.min(room)]);
    }
}

/// The program and what it started, which end when this is dropped: when its time is up, and
/// when nobody waits for it any more.
struct Group(Pid);

impl Drop for Group {
    fn drop(&mut self) {
        // Nobody of it may be left.
        let _ = kill_process_group(self.0, Signal::KILL);
    }
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

    /// A helper that stays in the background, as an agent does, holds the pipe open.
    #[tokio::test]
    async fn what_the_program_leaves_behind_is_not_waited_for() {
        let line = "sh -c 'sleep 1000 & echo $!'";
        let token = run_within(line, Duration::from_secs(30)).await.unwrap();
        let left: i32 = token.expose_secret().parse().unwrap();
        rustix::process::kill_process(Pid::from_raw(left).unwrap(), Signal::KILL).unwrap();
    }

    #[tokio::test]
    async fn a_program_that_prints_more_than_is_kept_ends() {
        let line = "sh -c 'head -c 1000000 /dev/zero | tr \\\\0 x'";
        let token = run(line).await.unwrap();
        assert_eq!(token.expose_secret().len(), LONGEST_OUTPUT);
    }

    #[test]
    fn the_program_sees_no_secret_of_ours() {
        let all = [
            "PATH",
            "HOME",
            "LC_ALL",
            "XDG_CONFIG_HOME",
            "DBUS_SESSION_BUS_ADDRESS",
            "HEROKU_API_KEY",
            "PGPASSWORD",
            "AWS_SECRET_ACCESS_KEY",
            "NOTIFY_SOCKET",
            "LD_PRELOAD",
        ];
        let seen: Vec<_> = environment(all.iter().map(|name| (name.into(), "x".into())))
            .map(|(name, _)| name)
            .collect();
        assert_eq!(seen, all[..5]);
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
