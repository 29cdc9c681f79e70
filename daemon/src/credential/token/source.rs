//! The places where the user's Heroku token may be, and how each is read.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use super::{
    LookupResult, Token, command,
    keychain::{self, Key},
    netrc::{self, Lookup},
};
use crate::{
    platform::file,
    state::{Keeping, LoginStore},
};

const LONGEST_FILE: u64 = 1 << 20;

/// The attribute `service` of our own item in the keychain; its account is the machine.
pub(in crate::credential) const OWN_SERVICE: &str = "borealis-tunnels";
/// The attribute `service` of the Heroku CLI's item; its account is the e-mail address.
const CLI_SERVICE: &str = "heroku-cli";

/// A place where a token may be.
#[derive(Debug, Clone)]
pub enum TokenSource {
    /// A value of the daemon's environment.
    Variable {
        /// The variable.
        name: &'static str,
        /// Its value; `None` where it isn't set.
        value: Option<SecretString>,
        /// A variable that is set and that nothing reads.
        instead: Option<&'static str>,
    },
    /// A file that holds the token alone, such as a credential that systemd passes on.
    File(PathBuf),
    /// What `borealisctl login` left.
    Login {
        /// Where it is kept.
        store: LoginStore,
        /// The host of the API that the token is wanted for.
        machine: String,
    },
    /// The config key `token_command`: a program that prints the token.
    Command(String),
    /// The keychain, as the Heroku CLI from 11.8 on writes it. Only ever read.
    HerokuCli {
        /// The CLI's `login.json`, which names the account.
        state: PathBuf,
    },
    /// A netrc file.
    Netrc {
        /// The file.
        file: PathBuf,
        /// The machine to look for: the Heroku API's host.
        machine: String,
    },
}

/// What was found in a place.
#[derive(Default)]
struct Found {
    token: Option<SecretString>,
    since: Option<Timestamp>,
    /// A whole sentence's worth, naming the place.
    problem: Option<String>,
}

/// The Heroku CLI's `login.json`.
#[derive(Deserialize)]
struct CliLogin {
    account: String,
}

// === impl TokenSource ===

impl TokenSource {
    /// The file whose change may be a change of the token.
    pub(in crate::credential) fn file(&self) -> Option<&Path> {
        match self {
            Self::File(file) | Self::Netrc { file, .. } | Self::HerokuCli { state: file } => {
                Some(file)
            }
            Self::Login { store, .. } => Some(store.path()),
            Self::Variable { .. } | Self::Command(_) => None,
        }
    }

    /// Whether its token may come and go without a trace on the disk, at no cost to look.
    pub(in crate::credential) fn is_keychain(&self) -> bool {
        matches!(self, Self::Login { .. } | Self::HerokuCli { .. })
    }

    /// Looks what is there now. Takes up to 30 s for a command, 5 s for a keychain.
    pub(in crate::credential) async fn read(&self) -> LookupResult {
        let Found {
            token,
            since,
            problem,
        } = self.find().await;
        let place = self.to_string();
        let nonsense = token
            .as_ref()
            .is_some_and(|token| !is_token(token.expose_secret()));
        if nonsense {
            return LookupResult {
                token: None,
                since: None,
                problem: Some(format!(
                    "what {place} holds is no token: it has characters that none has"
                )),
                place,
            };
        }
        LookupResult {
            token: token.map(|value| Token {
                value,
                source: place.clone(),
            }),
            since,
            problem,
            place,
        }
    }

    async fn find(&self) -> Found {
        match self {
            Self::Variable { value, instead, .. } => Found {
                token: value.clone(),
                since: None,
                problem: instead.map(|other| {
                    format!("{other} is set, but nothing reads it: did you mean {self}?")
                }),
            },
            Self::File(file) => {
                let found = read_file(file).await.map(|text| Some(text?.token()));
                self.told(found.map(Option::unwrap_or_default))
            }
            Self::Login { store, machine } => self.told(read_login(store, machine).await),
            Self::Command(line) => self.told(command::run(line).await.map(Found::of)),
            Self::HerokuCli { state } => self.told(read_cli(state).await),
            Self::Netrc { file, machine } => self.told(read_netrc(file, machine).await),
        }
    }

    /// Puts the place's name before what is wrong there.
    fn told(&self, found: Result<Found, String>) -> Found {
        let named = |problem| format!("{self} {problem}");
        match found {
            Ok(found) => Found {
                problem: found.problem.map(named),
                ..found
            },
            Err(problem) => Found {
                problem: Some(named(problem)),
                ..Found::default()
            },
        }
    }
}

impl fmt::Display for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable { name, .. } => f.write_str(name),
            Self::Login { .. } => f.write_str("borealisctl login"),
            Self::Command(_) => f.write_str("token_command"),
            Self::HerokuCli { .. } => f.write_str("the Heroku CLI's keychain entry"),
            Self::File(file) | Self::Netrc { file, .. } => write!(f, "{}", file.display()),
        }
    }
}

// === impl Found ===

impl Found {
    fn of(token: SecretString) -> Self {
        Self {
            token: Some(token),
            ..Self::default()
        }
    }
}

/// Whether it can be sent as it stands: visible ASCII, at least one character.
pub(in crate::credential) fn is_token(value: &str) -> bool {
    !value.is_empty() && value.bytes().all(|b| b.is_ascii_graphic())
}

/// A file's text, and what the file system says of it.
struct Text {
    text: SecretString,
    modified: Option<Timestamp>,
    open_to_others: bool,
}

// === impl Text ===

impl Text {
    fn token(self) -> Found {
        let token = self.text.expose_secret().trim();
        Found {
            token: (!token.is_empty()).then(|| SecretString::from(token)),
            since: self.modified,
            problem: token.is_empty().then(|| "is empty".to_owned()),
        }
    }
}

/// A missing file is no problem.
async fn read_file(path: &Path) -> Result<Option<Text>, String> {
    let path = path.to_owned();
    let reading = tokio::task::spawn_blocking(move || file::read(&path, LONGEST_FILE));
    let read = reading
        .await
        .map_err(|error| format!("can't be read: {error}"))?;
    let contents = read.map_err(|refused| refused.to_string())?;
    Ok(contents.map(|contents| Text {
        text: SecretString::from(String::from_utf8_lossy(&contents.bytes).into_owned()),
        modified: contents
            .modified
            .and_then(|time| Timestamp::try_from(time).ok()),
        open_to_others: contents.open_to_others,
    }))
}

async fn read_netrc(file: &Path, machine: &str) -> Result<Found, String> {
    let Some(text) = read_file(file).await? else {
        return Ok(Found::default());
    };
    match netrc::look_up(text.text.expose_secret(), machine) {
        Lookup::Found(token) => Ok(Found {
            token: Some(token),
            // Its other machines' entries change the file too.
            since: None,
            problem: text
                .open_to_others
                .then(|| format!("can be read by others: `chmod 600 {}`", file.display())),
        }),
        Lookup::NoPassword => Err(format!("has no password for machine {machine}")),
        Lookup::NoMachine => Ok(Found::default()),
    }
}

async fn read_login(store: &LoginStore, machine: &str) -> Result<Found, String> {
    let kept = store
        .read()
        .await
        .map_err(|problem| format!("left {}, which {problem}", store.path().display()))?;
    let Some(kept) = kept else {
        return Ok(Found::default());
    };
    if kept.machine != machine {
        return Err(format!(
            "was for {}, and its token isn't sent to {machine}",
            kept.machine
        ));
    }
    let token = match kept.keeping {
        Keeping::InFile(token) => token,
        Keeping::InKeychain => {
            let key = Key {
                service: OWN_SERVICE,
                account: machine,
            };
            match keychain::look_up(key).await {
                Ok(Some(held)) => held.secret,
                Ok(None) => {
                    return Err("left its token in the keychain, which no longer has it".into());
                }
                Err(error) => return Err(format!("left its token in the keychain, but {error}")),
            }
        }
    };
    Ok(Found {
        token: Some(token),
        since: Some(kept.kept_at),
        problem: None,
    })
}

/// The CLI deletes the file after a failed read; others only read it. A file without an
/// account is what the CLI takes for none.
async fn read_cli(state: &Path) -> Result<Found, String> {
    let Some(text) = read_file(state).await? else {
        return Ok(Found::default());
    };
    let login: Option<CliLogin> = serde_json::from_str(text.text.expose_secret()).ok();
    let Some(CliLogin { account }) = login.filter(|login| !login.account.is_empty()) else {
        return Ok(Found::default());
    };
    let key = Key {
        service: CLI_SERVICE,
        account: &account,
    };
    match keychain::look_up(key).await {
        Ok(Some(held)) => Ok(Found {
            token: Some(SecretString::from(held.secret.expose_secret().trim())),
            since: held.since,
            problem: None,
        }),
        Ok(None) => Err(format!("for {account} isn't there any more")),
        Err(error) => Err(format!("for {account} can't be read: {error}")),
    }
}
