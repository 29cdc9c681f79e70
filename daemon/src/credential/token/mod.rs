//! The user's Heroku token, and the order in which its places are asked for it.
//!
//! Reading is all that happens here; what was read is kept, and compared, by `keeper`. A new
//! place is a variant of [`TokenSource`] and its line in [`TokenSources::from_environment`].

pub(super) mod cache;
mod command;
mod found;
pub(super) mod keychain;
mod netrc;
pub(super) mod source;

use std::path::{Path, PathBuf};

use secrecy::SecretString;
use tokio::task::spawn_blocking;

use crate::state::LoginStore;
pub use found::{LookupResult, Token};
pub use source::TokenSource;

const API_KEY: &str = "HEROKU_API_KEY";
/// Often set by mistake for [`API_KEY`]; nothing reads it.
const API_TOKEN: &str = "HEROKU_API_TOKEN";
/// Where systemd puts what `LoadCredential=` names (systemd.exec(5)), and the file of ours.
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";
const CREDENTIAL: &str = "heroku-api-key";
/// Keeps the Heroku CLI, and so us, to netrc alone.
const NETRC_WRITE: &str = "HEROKU_NETRC_WRITE";

/// The places, the first that has a token wins.
#[derive(Debug, Clone, Default)]
pub struct TokenSources {
    places: Vec<TokenSource>,
}

/// Tells one state of a file from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::credential) struct FileFingerprint(Vec<Option<[i64; 6]>>);

/// What changes with a file; `None` where there is none.
fn state_of(file: &Path) -> Option<[i64; 6]> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = std::fs::metadata(file).ok()?;
    Some([
        metadata.dev().cast_signed(),
        metadata.ino().cast_signed(),
        metadata.mtime(),
        metadata.mtime_nsec(),
        metadata.ctime_nsec(),
        metadata.size().cast_signed(),
    ])
}

// === impl TokenSources ===

impl TokenSources {
    /// The places in their order. First what was set for this daemon alone: `HEROKU_API_KEY`,
    /// the systemd credential `heroku-api-key`, `borealisctl login`, `token_command`. Then
    /// the Heroku CLI's, as it looks for them itself: the keychain, netrc (`NETRC`, else
    /// `~/.netrc`). `machine` is the Heroku API's host; an empty variable counts as none.
    pub fn from_environment(
        variable: impl Fn(&str) -> Option<String>,
        home: Option<PathBuf>,
        login: LoginStore,
        token_command: Option<String>,
        machine: &str,
    ) -> Self {
        let value = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let path = |name: &str| value(name).map(PathBuf::from);
        let below_home = |rest: &str| home.as_ref().map(|home| home.join(rest));
        let api_key = value(API_KEY).map(|key| SecretString::from(key.trim()));
        let misnamed = api_key.is_none() && value(API_TOKEN).is_some();
        let mut places = vec![TokenSource::Variable {
            name: API_KEY,
            value: api_key,
            instead: misnamed.then_some(API_TOKEN),
        }];
        places
            .extend(path(CREDENTIALS_DIRECTORY).map(|dir| TokenSource::File(dir.join(CREDENTIAL))));
        places.push(TokenSource::Login {
            store: login,
            machine: machine.to_owned(),
        });
        places.extend(token_command.map(TokenSource::Command));
        let netrc_alone = value(NETRC_WRITE).is_some_and(|v| v.eq_ignore_ascii_case("true"));
        if !netrc_alone {
            // oclif's data directory, which the CLI keeps its state in.
            let data = path("HEROKU_DATA_DIR")
                .or_else(|| path("XDG_DATA_HOME").map(|data| data.join("heroku")))
                .or_else(|| below_home(".local/share/heroku"));
            places.extend(data.map(|data| TokenSource::HerokuCli {
                state: data.join("login.json"),
            }));
        }
        let netrc = path("NETRC").or_else(|| below_home(".netrc"));
        places.extend(netrc.map(|file| TokenSource::Netrc {
            file,
            machine: machine.to_owned(),
        }));
        Self { places }
    }

    /// These places and no others.
    pub fn from_places(places: Vec<TokenSource>) -> Self {
        Self { places }
    }

    /// Asks one place after the other until one has a token; the last reading is the
    /// winner's.
    pub(in crate::credential) async fn read(&self) -> Vec<LookupResult> {
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
    pub async fn survey(&self) -> Vec<LookupResult> {
        let mut readings = Vec::new();
        for place in &self.places {
            readings.push(place.read().await);
        }
        readings
    }

    /// Whether a keychain among the places has a token now.
    pub(in crate::credential) async fn keychain_has_one(&self) -> bool {
        for place in self.places.iter().filter(|place| place.is_keychain()) {
            if place.read().await.token.is_some() {
                return true;
            }
        }
        false
    }

    /// The state that the files among the places are in now.
    pub(in crate::credential) async fn stamp(&self) -> FileFingerprint {
        let files = self.places.iter().filter_map(TokenSource::file);
        let files: Vec<_> = files.map(Path::to_owned).collect();
        // In one go: each would wake a thread, and be waited for by another.
        let looking = spawn_blocking(move || files.iter().map(|file| state_of(file)).collect());
        FileFingerprint(looking.await.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, fs, os::unix::fs::PermissionsExt as _};

    use secrecy::ExposeSecret as _;

    use super::*;
    use crate::state::{Keeping, KeptLogin};

    const MACHINE: &str = "api.heroku.com";

    fn value(reading: &LookupResult) -> Option<&str> {
        reading.token.as_ref().map(|t| t.value.expose_secret())
    }

    #[tokio::test]
    async fn netrc_files_and_their_rights() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("netrc");
        let place = TokenSource::Netrc {
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

        let dir_place = TokenSource::Netrc {
            file: dir.path().into(),
            machine: MACHINE.into(),
        };
        assert!(dir_place.read().await.problem.unwrap().contains("regular"));
    }

    #[tokio::test]
    async fn a_command_may_print_what_is_no_token() {
        for line in ["echo two words", "printf 'a\\nb'"] {
            let reading = TokenSource::Command(line.into()).read().await;
            assert!(reading.token.is_none());
            assert!(reading.problem.unwrap().contains("no token"), "{line}");
        }
    }

    /// Every place but the keychains, in the order in which they win.
    #[tokio::test]
    async fn the_first_place_wins_and_the_others_can_be_seen() {
        let dir = tempfile::tempdir().unwrap();
        let netrc = dir.path().join(".netrc");
        fs::write(&netrc, "machine api.heroku.com password from-netrc\n").unwrap();
        fs::set_permissions(&netrc, fs::Permissions::from_mode(0o600)).unwrap();
        let store = LoginStore::new(dir.path());
        let login = KeptLogin {
            account: "me@example.com".into(),
            machine: MACHINE.into(),
            kept_at: crate::platform::clock::timestamp(),
            keeping: Keeping::InFile("from-login".into()),
        };
        store.write(login).await.unwrap();
        fs::write(dir.path().join(CREDENTIAL), "from-systemd\n").unwrap();
        let credentials = dir.path().display().to_string();
        let sources = |variables: &[(&str, &str)], command: Option<&str>| {
            let variables: HashMap<_, _> = variables
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect();
            TokenSources::from_environment(
                |name| variables.get(name).cloned(),
                Some(dir.path().into()),
                store.clone(),
                command.map(str::to_owned),
                MACHINE,
            )
        };
        let winner = async |sources: &TokenSources| {
            let readings = sources.read().await;
            readings.last().and_then(|r| value(r).map(str::to_owned))
        };
        let key = ("HEROKU_API_KEY", " from-env\n");
        let directory = ("CREDENTIALS_DIRECTORY", credentials.as_str());
        let command = Some("echo from-command");
        let all = sources(&[key, directory], command);
        assert_eq!(winner(&all).await.as_deref(), Some("from-env"));
        let survey = all.survey().await;
        assert_eq!(
            survey.iter().filter_map(value).collect::<Vec<_>>(),
            [
                "from-env",
                "from-systemd",
                "from-login",
                "from-command",
                "from-netrc"
            ]
        );
        assert!(survey.iter().all(|reading| reading.problem.is_none()));
        let without_key = sources(&[("HEROKU_API_KEY", ""), directory], command);
        assert_eq!(winner(&without_key).await.as_deref(), Some("from-systemd"));
        let login = sources(&[], command);
        assert_eq!(winner(&login).await.as_deref(), Some("from-login"));
        store.remove().await.unwrap();
        assert_eq!(winner(&login).await.as_deref(), Some("from-command"));
        let broken = sources(&[], Some("false"));
        assert_eq!(winner(&broken).await.as_deref(), Some("from-netrc"));
        let elsewhere = sources(&[("NETRC", "/nowhere/at/all")], None);
        assert_eq!(winner(&elsewhere).await, None);
        let misnamed = sources(&[("HEROKU_API_TOKEN", "x")], None);
        let problem = misnamed.read().await[0].problem.clone().unwrap();
        assert!(problem.contains("HEROKU_API_TOKEN") && problem.contains("HEROKU_API_KEY"));
    }

    #[test]
    fn the_heroku_cli_is_followed_to_where_it_keeps_its_state() {
        let state = |variables: &[(&str, &str)]| {
            let sources = TokenSources::from_environment(
                |name| {
                    let found = variables.iter().find(|(key, _)| *key == name);
                    found.map(|(_, value)| (*value).to_owned())
                },
                Some("/home/me".into()),
                LoginStore::new("/state".as_ref()),
                None,
                MACHINE,
            );
            sources.places.into_iter().find_map(|place| match place {
                TokenSource::HerokuCli { state } => Some(state.display().to_string()),
                _ => None,
            })
        };
        let found = |variables: &[(&str, &str)], file: &str| {
            assert_eq!(state(variables).as_deref(), Some(file));
        };
        found(&[], "/home/me/.local/share/heroku/login.json");
        found(&[("XDG_DATA_HOME", "/data")], "/data/heroku/login.json");
        found(&[("HEROKU_DATA_DIR", "/own")], "/own/login.json");
        found(
            &[("HEROKU_NETRC_WRITE", "1")],
            "/home/me/.local/share/heroku/login.json",
        );
        assert_eq!(state(&[("HEROKU_NETRC_WRITE", "True")]), None);
    }

    #[tokio::test]
    async fn a_login_for_another_api_is_not_sent_to_this_one() {
        let dir = tempfile::tempdir().unwrap();
        let store = LoginStore::new(dir.path());
        let login = KeptLogin {
            account: "me@example.com".into(),
            machine: "127.0.0.1".into(),
            kept_at: crate::platform::clock::timestamp(),
            keeping: Keeping::InFile("HRKU-1".into()),
        };
        store.write(login).await.unwrap();
        let place = TokenSource::Login {
            store,
            machine: MACHINE.into(),
        };
        let reading = place.read().await;
        assert!(reading.token.is_none());
        assert!(reading.problem.unwrap().contains("was for 127.0.0.1"));
    }

    #[test]
    fn no_debug_output_shows_a_token() {
        let place = TokenSource::Variable {
            name: API_KEY,
            value: Some(SecretString::from("hunter2")),
            instead: None,
        };
        assert!(!format!("{place:?}").contains("hunter2"));
    }
}
