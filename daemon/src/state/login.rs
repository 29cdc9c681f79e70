//! The Heroku login that `borealisctl login` left: one 0600 file, which holds the token or
//! says that the keychain does.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use super::disk::{self, Found};
use crate::model::Cause;

/// Where the login is kept. Clones share one file.
#[derive(Debug, Clone)]
pub struct LoginStore {
    path: Arc<PathBuf>,
    /// Held while the file is replaced or removed.
    writing: Arc<Mutex<()>>,
}

/// A login that is kept.
#[derive(Debug, Clone)]
pub struct KeptLogin {
    /// The account's e-mail address.
    pub account: String,
    /// The host of the API that it is for, and that alone gets it.
    pub machine: String,
    /// When it was kept.
    pub kept_at: Timestamp,
    /// Where the token itself is.
    pub keeping: Keeping,
}

/// Where a kept login's token is.
#[derive(Debug, Clone)]
pub enum Keeping {
    /// In the same file.
    InFile(SecretString),
    /// In the keychain.
    InKeychain,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    version: u32,
    account: String,
    machine: String,
    kept_at: Timestamp,
    /// Absent where the keychain has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

const VERSION: u32 = 1;

// === impl LoginStore ===

impl LoginStore {
    /// The login of the daemon that works on `state_dir`. Reads and writes nothing yet.
    pub fn new(state_dir: &Path) -> Self {
        Self {
            path: Arc::new(state_dir.join("login.json")),
            writing: Arc::default(),
        }
    }

    /// The file, whether there or not.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is kept; `None` where nothing is. Rights of others on the file are taken away.
    ///
    /// # Errors
    /// What is wrong with the file, for a sentence that begins with its name.
    pub async fn read(&self) -> Result<Option<KeptLogin>, String> {
        let this = self.clone();
        tokio::task::spawn_blocking(move || match disk::read_private(&this.path) {
            Found::Nothing => Ok(None),
            Found::Unreadable(why) => Err(format!("can't be read: {why}")),
            Found::Contents(bytes) => parse(&bytes).map(Some),
        })
        .await
        .unwrap_or_else(|error| Err(error.to_string()))
    }

    /// Keeps a login in place of the one before.
    ///
    /// # Errors
    /// [`Cause::StateUnwritable`]; the one before is still there.
    pub async fn write(&self, login: KeptLogin) -> Result<(), Cause> {
        self.blocking(move |path| {
            let written = Written {
                version: VERSION,
                account: login.account,
                machine: login.machine,
                kept_at: login.kept_at,
                token: match &login.keeping {
                    Keeping::InFile(token) => Some(token.expose_secret().to_owned()),
                    Keeping::InKeychain => None,
                },
            };
            let mut text = serde_json::to_vec_pretty(&written)
                .map_err(|error| disk::unwritable(path, &error.into()))?;
            text.push(b'\n');
            disk::replace(path, &text)
        })
        .await
    }

    /// Forgets the login that is kept.
    ///
    /// # Errors
    /// [`Cause::StateUnwritable`]; it is still there.
    pub async fn remove(&self) -> Result<(), Cause> {
        self.blocking(|path| match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(disk::unwritable(path, &error))
            }
            _ => Ok(()),
        })
        .await
    }

    async fn blocking(
        &self,
        work: impl FnOnce(&Path) -> Result<(), Cause> + Send + 'static,
    ) -> Result<(), Cause> {
        let this = self.clone();
        tokio::task::spawn_blocking(move || {
            let _writing = this.writing.lock().unwrap_or_else(PoisonError::into_inner);
            work(&this.path)
        })
        .await
        .unwrap_or_else(|error| {
            Err(Cause::Internal {
                detail: error.to_string(),
            })
        })
    }
}

/// What serde says of a wrong value may quote it, and that may be the token.
fn parse(bytes: &[u8]) -> Result<KeptLogin, String> {
    let written: Written = serde_json::from_slice(bytes)
        .ok()
        .filter(|written: &Written| written.version == VERSION)
        .ok_or("isn't what this borealisd writes: log in again with `borealisctl login`")?;
    Ok(KeptLogin {
        account: written.account,
        machine: written.machine,
        kept_at: written.kept_at,
        keeping: match written.token {
            Some(token) => Keeping::InFile(SecretString::from(token)),
            None => Keeping::InKeychain,
        },
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn login(keeping: Keeping) -> KeptLogin {
        KeptLogin {
            account: "me@example.com".into(),
            machine: "api.heroku.com".into(),
            kept_at: Timestamp::UNIX_EPOCH,
            keeping,
        }
    }

    #[tokio::test]
    async fn what_is_kept_comes_back_and_is_for_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        let store = LoginStore::new(dir.path());
        assert!(store.read().await.unwrap().is_none());
        let token = SecretString::from("HRKU-1");
        store.write(login(Keeping::InFile(token))).await.unwrap();
        let mode = fs::metadata(store.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let kept = store.read().await.unwrap().unwrap();
        assert_eq!(kept.account, "me@example.com");
        assert!(
            matches!(kept.keeping, Keeping::InFile(token) if token.expose_secret() == "HRKU-1")
        );

        store.write(login(Keeping::InKeychain)).await.unwrap();
        assert!(!fs::read_to_string(store.path()).unwrap().contains("token"));
        let kept = store.read().await.unwrap().unwrap();
        assert!(matches!(kept.keeping, Keeping::InKeychain));
        store.remove().await.unwrap();
        store.remove().await.unwrap();
        assert!(store.read().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_file_that_makes_no_sense_is_told_without_its_contents() {
        let dir = tempfile::tempdir().unwrap();
        let store = LoginStore::new(dir.path());
        for text in [
            "",
            "{\"token\": \"hunter2\"}",
            "\"hunter2\"",
            "{\"version\":2}",
        ] {
            fs::write(store.path(), text).unwrap();
            let problem = store.read().await.unwrap_err();
            assert!(problem.contains("borealisctl login"), "{problem}");
            assert!(!problem.contains("hunter2"), "{problem}");
        }
    }
}
