//! The places where the user's Heroku token may be, in the order in which they are asked.
//!
//! Reading is all that happens here; what was read is kept, and compared, by `keeper`. A new
//! place is a variant of [`Place`] and its line in [`TokenSources::from_environment`].

use std::{fmt, io, path::PathBuf, process::Stdio, time::Duration};

use rustix::process::{Pid, Signal, kill_process_group};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::Command,
};

use super::netrc::{self, Lookup};

const API_KEY: &str = "HEROKU_API_KEY";
/// Often set by mistake for [`API_KEY`]; nothing reads it.
const API_TOKEN: &str = "HEROKU_API_TOKEN";
const LONGEST_FILE: u64 = 1 << 20;
const LONGEST_OUTPUT: u64 = 64 << 10;
/// The Heroku CLI takes a second or two, more when it updates itself first.
const COMMAND_LIMIT: Duration = Duration::from_secs(30);

/// The user's own Heroku token.
#[derive(Debug, Clone)]
pub struct Token {
    /// Goes to the Heroku API only.
    pub value: SecretString,
    /// Where it was found, for people.
    pub source: String,
}

/// The places, the first that has a token wins.
#[derive(Debug, Clone, Default)]
pub struct TokenSources {
    places: Vec<Place>,
}

/// A place where a token may be.
#[derive(Debug, Clone)]
pub enum Place {
    /// A value of the daemon's environment.
    Variable {
        /// The variable.
        name: &'static str,
        /// Its value; `None` where it isn't set.
        value: Option<SecretString>,
        /// A variable that is set and that nothing reads.
        instead: Option<&'static str>,
    },
    /// The config key `token_command`: a program that prints the token.
    Command(String),
    /// A netrc file.
    Netrc {
        /// The file.
        file: PathBuf,
        /// The machine to look for: the Heroku API's host.
        machine: String,
    },
}

/// What a place was found to hold.
#[derive(Debug, Clone)]
pub struct Reading {
    /// The place, for people.
    pub place: String,
    /// The token, where it has one.
    pub token: Option<Token>,
    /// What is wrong there, where something is; a token may have been found all the same.
    pub problem: Option<String>,
}

/// Tells one state of a file from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp(Vec<Option<[i64; 6]>>);

// === impl TokenSources ===

impl TokenSources {
    /// The contract's places: `HEROKU_API_KEY`, `token_command`, netrc (`NETRC`, else
    /// `~/.netrc`). `machine` is the Heroku API's host; an empty variable counts as none.
    pub fn from_environment(
        variable: impl Fn(&str) -> Option<String>,
        home: Option<PathBuf>,
        token_command: Option<String>,
        machine: &str,
    ) -> Self {
        let value = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let api_key = value(API_KEY).map(|key| SecretString::from(key.trim()));
        let misnamed = api_key.is_none() && value(API_TOKEN).is_some();
        let mut places = vec![Place::Variable {
            name: API_KEY,
            value: api_key,
            instead: misnamed.then_some(API_TOKEN),
        }];
        places.extend(token_command.map(Place::Command));
        let file = value("NETRC")
            .map(PathBuf::from)
            .or_else(|| home.map(|home| home.join(".netrc")));
        places.extend(file.map(|file| Place::Netrc {
            file,
            machine: machine.to_owned(),
        }));
        Self { places }
    }

    /// These places and no others.
    pub fn from_places(places: Vec<Place>) -> Self {
        Self { places }
    }

    /// Asks one place after the other until one has a token; the last reading is the
    /// winner's.
    pub(super) async fn read(&self) -> Vec<Reading> {
        let mut readings = Vec::new();
        for place in &self.places {
            let reading = place.read().await;
            let won = reading.token.is_some();
            readings.push(reading);
            if won {
                break;
            }
        }
        readings
    }

    /// Asks every place, so that those in a winner's shadow are seen too.
    pub async fn survey(&self) -> Vec<Reading> {
        let mut readings = Vec::new();
        for place in &self.places {
            readings.push(place.read().await);
        }
        readings
    }

    /// The state that the files among the places are in now.
    pub(super) async fn stamp(&self) -> Stamp {
        let mut stamps = Vec::new();
        for place in &self.places {
            if let Place::Netrc { file, .. } = place {
                stamps.push(tokio::fs::metadata(file).await.ok().map(|m| {
                    use std::os::unix::fs::MetadataExt as _;
                    [
                        m.dev().cast_signed(),
                        m.ino().cast_signed(),
                        m.mtime(),
                        m.mtime_nsec(),
                        m.ctime_nsec(),
                        m.size().cast_signed(),
                    ]
                }));
            }
        }
        Stamp(stamps)
    }
}

// === impl Place ===

impl Place {
    async fn read(&self) -> Reading {
        let (value, problem) = match self {
            Self::Variable { value, instead, .. } => (
                value.clone(),
                instead.map(|other| {
                    format!("{other} is set, but nothing reads it: did you mean {self}?")
                }),
            ),
            Self::Command(line) => match run(line, COMMAND_LIMIT).await {
                Ok(output) => (Some(output), None),
                Err(problem) => (None, Some(format!("token_command {problem}"))),
            },
            Self::Netrc { file, machine } => {
                let read = read_netrc(file, machine).await;
                (read.0, read.1.map(|problem| format!("{self} {problem}")))
            }
        };
        let place = self.to_string();
        match value {
            Some(value) if !is_token(value.expose_secret()) => Reading {
                problem: Some(format!(
                    "what {place} holds is no token: it has characters that none has"
                )),
                token: None,
                place,
            },
            value => Reading {
                token: value.map(|value| Token {
                    value,
                    source: place.clone(),
                }),
                problem,
                place,
            },
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable { name, .. } => f.write_str(name),
            Self::Command(_) => f.write_str("token_command"),
            Self::Netrc { file, .. } => write!(f, "{}", file.display()),
        }
    }
}

/// Whether it can be sent as it stands: visible ASCII, at least one character.
fn is_token(value: &str) -> bool {
    !value.is_empty() && value.bytes().all(|b| b.is_ascii_graphic())
}

/// A missing file is no problem, and no token either.
async fn read_netrc(file: &PathBuf, machine: &str) -> (Option<SecretString>, Option<String>) {
    use std::os::unix::fs::PermissionsExt as _;
    let metadata = match tokio::fs::metadata(file).await {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return (None, None),
        Err(error) => return (None, Some(format!("can't be read: {error}"))),
    };
    if !metadata.is_file() {
        return (None, Some("is no regular file".into()));
    }
    if metadata.len() > LONGEST_FILE {
        return (None, Some(format!("has more than {LONGEST_FILE} bytes")));
    }
    let text = match tokio::fs::read(file).await {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => return (None, Some(format!("can't be read: {error}"))),
    };
    let found = netrc::look_up(&text, machine);
    let open = metadata.permissions().mode() & 0o077 != 0;
    match found {
        Lookup::Found(token) if open => (
            Some(token),
            Some(format!(
                "can be read by others: `chmod 600 {}`",
                file.display()
            )),
        ),
        Lookup::Found(token) => (Some(token), None),
        Lookup::NoPassword => (None, Some(format!("has no password for machine {machine}"))),
        Lookup::NoMachine => (None, None),
    }
}

/// Runs a program without a shell: words are split by the shell's quoting rules, and
/// nothing is expanded. Messages name the program and not its arguments.
async fn run(line: &str, limit: Duration) -> Result<SecretString, String> {
    let words = shlex::split(line).ok_or("has a quote that is never closed")?;
    let (program, arguments) = words.split_first().ok_or("is empty")?;
    let failed = |what: String| format!("({program}) {what}");
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Its own group, so that its time limit also ends what it started.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
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
    use std::{collections::HashMap, fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    const MACHINE: &str = "api.heroku.com";

    async fn command(line: &str) -> Reading {
        Place::Command(line.into()).read().await
    }

    fn value(reading: &Reading) -> Option<&str> {
        reading.token.as_ref().map(|t| t.value.expose_secret())
    }

    #[tokio::test]
    async fn a_command_runs_without_a_shell() {
        assert_eq!(
            value(&command("printf ' %s\\n\\n' 'HRKU-$HOME;*'").await),
            Some("HRKU-$HOME;*")
        );
        for (line, says) in [
            ("", "is empty"),
            ("echo 'x", "never closed"),
            ("true", "printed nothing"),
            ("no-such-program-here secret", "isn't there"),
            ("sh -c 'echo not logged in >&2; exit 3'", "not logged in"),
            ("echo two words", "no token"),
            ("printf 'a\\nb'", "no token"),
        ] {
            let reading = command(line).await;
            let problem = reading.problem.unwrap();
            assert!(
                reading.token.is_none() && problem.contains(says),
                "{line}: {problem}"
            );
            assert!(!problem.contains("secret"), "{problem}");
        }
    }

    #[tokio::test]
    async fn a_command_that_hangs_is_ended_with_all_that_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pid");
        let line = format!("sh -c 'sleep 1000 & echo $! > {}; wait'", file.display());
        let running = tokio::spawn(async move { run(&line, Duration::from_millis(500)).await });
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

    #[tokio::test]
    async fn netrc_files_and_their_rights() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("netrc");
        let place = Place::Netrc {
            file: file.clone(),
            machine: MACHINE.into(),
        };
        let none = place.read().await;
        assert!(none.token.is_none() && none.problem.is_none());

        fs::write(&file, "machine api.heroku.com password HRKU-1\n").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        let open = place.read().await;
        assert_eq!(value(&open), Some("HRKU-1"));
        assert!(open.problem.unwrap().contains("chmod 600"));

        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(place.read().await.problem, None);
        fs::write(&file, "machine api.heroku.com login x\n").unwrap();
        assert!(place.read().await.problem.unwrap().contains("no password"));

        let dir_place = Place::Netrc {
            file: dir.path().into(),
            machine: MACHINE.into(),
        };
        assert!(dir_place.read().await.problem.unwrap().contains("regular"));
    }

    #[tokio::test]
    async fn the_first_place_wins_and_the_others_can_be_seen() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(".netrc");
        fs::write(&file, "machine api.heroku.com password from-netrc\n").unwrap();
        let sources = |variables: &[(&str, &str)], command: Option<&str>| {
            let variables: HashMap<_, _> = variables
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect();
            TokenSources::from_environment(
                |name| variables.get(name).cloned(),
                Some(dir.path().into()),
                command.map(str::to_owned),
                MACHINE,
            )
        };
        let winner = async |sources: TokenSources| {
            let readings = sources.read().await;
            readings.last().and_then(|r| value(r).map(str::to_owned))
        };
        let all = sources(
            &[("HEROKU_API_KEY", " from-env\n")],
            Some("echo from-command"),
        );
        assert_eq!(winner(all.clone()).await.as_deref(), Some("from-env"));
        assert_eq!(
            all.survey()
                .await
                .iter()
                .filter(|r| r.token.is_some())
                .count(),
            3
        );
        let command = sources(&[("HEROKU_API_KEY", "")], Some("echo from-command"));
        assert_eq!(winner(command).await.as_deref(), Some("from-command"));
        let broken = sources(&[], Some("false"));
        assert_eq!(winner(broken).await.as_deref(), Some("from-netrc"));
        let elsewhere = sources(&[("NETRC", "/nowhere/at/all")], None);
        assert_eq!(winner(elsewhere).await, None);
        let misnamed = sources(&[("HEROKU_API_TOKEN", "x")], None);
        let problem = misnamed.read().await[0].problem.clone().unwrap();
        assert!(problem.contains("HEROKU_API_TOKEN") && problem.contains("HEROKU_API_KEY"));
    }

    #[test]
    fn no_debug_output_shows_a_token() {
        let place = Place::Variable {
            name: API_KEY,
            value: Some(SecretString::from("hunter2")),
            instead: None,
        };
        assert!(!format!("{place:?}").contains("hunter2"));
    }
}
