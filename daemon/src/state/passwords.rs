//! The passwords with which clients log in to managed sessions: one file for each session,
//! made when first asked for and the same for ever after, so that what a user saved in a
//! client stays right.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret, SecretString};

use super::disk::{self, Found};
use crate::model::{Cause, SessionName};

/// The sessions' local passwords. Clones share one directory.
#[derive(Debug, Clone)]
pub struct Passwords {
    /// The directory; locked while a password is looked up or made.
    dir: Arc<Mutex<PathBuf>>,
}

// === impl Passwords ===

impl Passwords {
    /// Longest password that a file may hold.
    const LONGEST: usize = 256;

    pub(super) fn open(state_dir: &Path) -> Result<Self, Cause> {
        let dir = state_dir.join("passwords");
        disk::private_dir(&dir).map_err(|error| disk::unwritable(&dir, &error))?;
        Ok(Self {
            dir: Arc::new(Mutex::new(dir)),
        })
    }

    /// As [`Self::get_or_create`], from async code.
    ///
    /// # Errors
    /// As there.
    pub async fn of(&self, name: &SessionName) -> Result<SecretString, Cause> {
        let (passwords, name) = (self.clone(), name.clone());
        tokio::task::spawn_blocking(move || passwords.get_or_create(&name))
            .await
            .unwrap_or_else(|error| {
                Err(Cause::Internal {
                    detail: error.to_string(),
                })
            })
    }

    /// Whoever looks a password up waits for as long as this is held, as for a disk that hangs.
    #[cfg(test)]
    pub(crate) fn hold(&self) -> std::sync::MutexGuard<'_, PathBuf> {
        self.dir.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The password of a session: what its file holds, or a new random one that is then in
    /// the file. Rights of others on the file are taken away. Blocks on the disk.
    ///
    /// # Errors
    /// [`Cause::StateUnwritable`] where the file can't be read or made, is not the user's
    /// own, or holds no password. It is then left as it is.
    pub fn get_or_create(&self, name: &SessionName) -> Result<SecretString, Cause> {
        let dir = self.dir.lock().unwrap_or_else(PoisonError::into_inner);
        let path = dir.join(name.as_str());
        let refuse = |detail: String| Cause::StateUnwritable {
            path: path.display().to_string(),
            detail,
        };
        match disk::read_private(&path) {
            Found::Contents(bytes) => usable(&bytes).ok_or_else(|| {
                refuse(format!(
                    "it must hold one line of 1 to {} printable ASCII characters; remove it to get a new password",
                    Self::LONGEST
                ))
            }),
            Found::Unreadable(why) => Err(refuse(why)),
            Found::Nothing => {
                let password = random();
                disk::replace(&path, password.expose_secret().as_bytes())?;
                Ok(password)
            }
        }
    }
}

/// A password that a user may have put there in place of ours: it must fit into a URL, a
/// pgpass line and an environment variable, and SASLprep must leave it as it is.
fn usable(bytes: &[u8]) -> Option<SecretString> {
    let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let text = std::str::from_utf8(line).ok()?;
    ((1..=Passwords::LONGEST).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic()))
        .then(|| text.into())
}

/// 192 bits from the system's generator, in characters that need no escape anywhere.
fn random() -> SecretString {
    let bytes: [u8; 24] = rand::random();
    BASE64_URL_SAFE_NO_PAD.encode(bytes).into()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> SessionName {
        SessionName::parse(text).unwrap()
    }

    #[tokio::test]
    async fn stable_random_and_apart() {
        let dir = tempfile::tempdir().unwrap();
        let passwords = Passwords::open(dir.path()).unwrap();
        let sushi = passwords.of(&name("sushi")).await.unwrap();
        let ramen = passwords.of(&name("ramen")).await.unwrap();
        assert_eq!(sushi.expose_secret().len(), 32);
        assert_ne!(sushi.expose_secret(), ramen.expose_secret());
        let again = Passwords::open(dir.path()).unwrap();
        let sushi_again = again.get_or_create(&name("sushi")).unwrap();
        assert_eq!(sushi.expose_secret(), sushi_again.expose_secret());
    }

    #[test]
    fn a_password_of_the_users_own_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let passwords = Passwords::open(dir.path()).unwrap();
        fs::write(dir.path().join("passwords/sushi"), "my:own\\pass@word\n").unwrap();
        let password = passwords.get_or_create(&name("sushi")).unwrap();
        assert_eq!(password.expose_secret(), "my:own\\pass@word");
    }

    #[test]
    fn what_holds_no_password_is_refused_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let passwords = Passwords::open(dir.path()).unwrap();
        let path = dir.path().join("passwords/sushi");
        for bad in ["", "\n", "two\nlines", "a b", "pässword", "nul\0"] {
            fs::write(&path, bad).unwrap();
            let cause = passwords.get_or_create(&name("sushi")).unwrap_err();
            assert!(matches!(cause, Cause::StateUnwritable { .. }), "{bad:?}");
            assert!(bad.trim().is_empty() || !cause.to_string().contains(bad.trim()));
            assert_eq!(fs::read_to_string(&path).unwrap(), bad);
        }
    }

    proptest! {
        #[test]
        fn every_password_made_is_usable(_round in 0..100u8) {
            let password = random();
            prop_assert!(usable(password.expose_secret().as_bytes()).is_some());
        }
    }
}
