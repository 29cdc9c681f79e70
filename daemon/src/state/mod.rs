//! What must survive: the known sessions, their local passwords, the Heroku login, the
//! daemon's own certificate authority; what happened; and the files through which libpq finds
//! the sessions. All of it but the events is written whole or not at all, 0600 in 0700
//! directories. What can't
//! be read is set aside under another name and reported, never overwritten. One daemon at a
//! time works on a state directory.
//!
//! It decides nothing: which sessions exist is the supervisor's to say.

mod client_files;
mod disk;
mod events;
mod lock;
mod login;
mod passwords;
mod problem;
mod sessions;
mod tls;
mod writer;

use std::{path::Path, sync::Arc};

use jiff::Timestamp;

use crate::journal::Journal;

pub use client_files::{ClientEntry, ClientFiles, Way};
pub use disk::private_dir;
pub use events::EventWriter;
pub use lock::{Lock, OpenError};
pub use login::{Keeping, KeptLogin, LoginStore};
pub use passwords::Passwords;
pub use problem::Problem;
pub use sessions::{Openness, Origin, SavedSession, SessionStore};
pub use tls::{LocalIdentity, LocalTls};

use events::Events;

/// The state directory, held by this process until dropped.
#[derive(Debug)]
pub struct State {
    /// Keeps other daemons away, and says where this one is.
    pub lock: Arc<Lock>,
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
    /// What happened, to earlier daemons too.
    pub journal: Journal,
    /// Writes what the journal records.
    pub event_writer: EventWriter,
    /// What was found wrong and set aside or mended, for the user to see.
    pub problems: Vec<Problem>,
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
        let lock = Arc::new(Lock::take(dir)?);
        let mut problems = Vec::new();
        let loaded = sessions::load(dir, now, &mut problems).map_err(OpenError::Failed)?;
        let passwords = Passwords::open(dir).map_err(OpenError::Failed)?;
        let tls = LocalTls::open(dir, now, &mut problems).map_err(OpenError::Failed)?;
        let events = Events::open(dir, now, Arc::clone(&lock), &mut problems);
        let (journal, event_writer) = events.go_on();
        Ok(Self {
            journal,
            event_writer,
            saved: loaded.sessions,
            sessions: SessionStore::new(dir, Arc::clone(&lock), loaded.kept_verbatim),
            lock,
            passwords,
            login: LoginStore::new(dir),
            tls,
            problems,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn nothing_is_for_others() {
        let base = tempfile::tempdir().unwrap();
        let dir = base.path().join("deep/state");
        let state = State::open(&dir, crate::platform::clock::timestamp()).unwrap();
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
