//! What must survive: the known sessions, their local passwords, the Heroku login, the
//! daemon's own certificate authority; and the files through which libpq finds the
//! sessions. All of it is written whole or not at all, 0600 in 0700 directories. What can't
//! be read is set aside under another name and reported, never overwritten. One daemon at a
//! time works on a state directory.
//!
//! It decides nothing: which sessions exist is the supervisor's to say.

mod client_files;
mod disk;
mod login;
mod passwords;
mod problem;
mod sessions;
mod tls;
mod writer;

use std::{
    fs::{File, TryLockError},
    io::{Read, Seek, Write},
    path::{Path, PathBuf},
};

use jiff::Timestamp;

use crate::model::Cause;

pub use client_files::{ClientEntry, ClientFiles};
pub use disk::private_dir;
pub use login::{Keeping, KeptLogin, LoginStore};
pub use passwords::Passwords;
pub use problem::Problem;
pub use sessions::{Openness, Origin, SavedSession, SessionStore};
pub use tls::{LocalIdentity, LocalTls};

/// The state directory, held by this process until dropped.
#[derive(Debug)]
pub struct State {
    /// What was saved of the sessions, ordered by name.
    pub saved: Vec<SavedSession>,
    /// Where changes to them go.
    pub sessions: SessionStore,
    /// The sessions' local passwords.
    pub passwords: Passwords,
    /// The Heroku login.
    pub login: LoginStore,
    /// TLS towards local clients.
    pub tls: LocalTls,
    /// What was found wrong and set aside or mended, for the user to see.
    pub problems: Vec<Problem>,
}

/// Why the state directory can't be worked on.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another daemon does already.
    #[error(
        "another borealisd{pid} works on the state directory {dir}",
        pid = pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default(),
        dir = dir.display()
    )]
    Held {
        /// The directory.
        dir: PathBuf,
        /// Who it is, where the file says so.
        pid: Option<u32>,
    },
    /// It can't be read or written.
    #[error("{0}")]
    Failed(Cause),
}

// === impl State ===

impl State {
    /// Takes the state directory for this process, creating it where it is missing, and
    /// reads what is there. `now` stamps what is set aside and dates the certificate.
    /// Blocks on the disk.
    ///
    /// # Errors
    /// When another daemon holds the directory, or it can't be read or written.
    pub fn open(dir: &Path, now: Timestamp) -> Result<Self, OpenError> {
        private_dir(dir).map_err(|error| OpenError::Failed(disk::unwritable(dir, &error)))?;
        let lock = lock(dir)?;
        let mut problems = Vec::new();
        let saved = sessions::load(dir, now, &mut problems).map_err(OpenError::Failed)?;
        let passwords = Passwords::open(dir).map_err(OpenError::Failed)?;
        let tls = LocalTls::open(dir, now, &mut problems).map_err(OpenError::Failed)?;
        Ok(Self {
            saved,
            sessions: SessionStore::new(dir, lock),
            passwords,
            login: LoginStore::new(dir),
            tls,
            problems,
        })
    }
}

/// An advisory lock, which ends with the process however it ends. The file stays: removing
/// it would let two processes lock two files of the same name.
fn lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join("lock");
    let failed = |error: &std::io::Error| OpenError::Failed(disk::unwritable(&path, error));
    let mut file = disk::private_options()
        .read(true)
        .create(true)
        .open(&path)
        .map_err(|error| failed(&error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            // Who holds it has written its pid, or is about to.
            let pid = match file.read_to_string(&mut text) {
                Ok(_) => text.trim().parse().ok(),
                Err(_) => None,
            };
            return Err(OpenError::Held {
                dir: dir.to_path_buf(),
                pid,
            });
        }
        Err(TryLockError::Error(error)) => return Err(failed(&error)),
    }
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(|error| failed(&error))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn one_daemon_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let now = Timestamp::now();
        let first = State::open(dir.path(), now).unwrap();
        assert_eq!(first.problems, []);
        let error = State::open(dir.path(), now).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "another borealisd (pid {}) works on the state directory {}",
                std::process::id(),
                dir.path().display()
            )
        );
        drop(first);
        State::open(dir.path(), now).unwrap();
    }

    #[test]
    fn nothing_is_for_others() {
        let base = tempfile::tempdir().unwrap();
        let dir = base.path().join("deep/state");
        let state = State::open(&dir, Timestamp::now()).unwrap();
        let name = crate::model::SessionName::parse("sushi").unwrap();
        state.passwords.get_or_create(&name).unwrap();
        let mut seen = 0;
        let mut dirs = vec![dir];
        while let Some(dir) = dirs.pop() {
            assert_eq!(
                dir.metadata().unwrap().permissions().mode() & 0o777,
                0o700,
                "{dir:?}"
            );
            for entry in dir.read_dir().unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    dirs.push(path);
                } else {
                    assert_eq!(
                        path.metadata().unwrap().permissions().mode() & 0o777,
                        0o600,
                        "{path:?}"
                    );
                    seen += 1;
                }
            }
        }
        assert!(seen >= 4, "lock, password, certificate and key, but {seen}");
    }
}
