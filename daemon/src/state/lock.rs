//! One daemon at a time works on a state directory, and says there who it is.
//!
//! The lock is one that the kernel takes back when the process ends, however it ends:
//! flock(2), or fcntl(2) where a file system has no other. Where it has neither, as NFS
//! without a lock daemon, a file of its own is made that only one can make; one whose process
//! has ended is taken over.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use borealis_proto::presence::{self, Presence};
use rustix::{
    fs::{FlockOperation, fcntl_lock},
    io::Errno,
};

use super::disk;
use crate::model::Cause;

/// Made by the one that works on the directory, where its file system has no locks.
const OWNER: &str = "owner";

/// How often a take-over that another process interferes with is begun anew.
const ATTEMPTS: usize = 3;

/// The lock of a state directory, until dropped.
#[derive(Debug)]
pub struct Lock {
    file: File,
    /// The socket that the daemon before this one had.
    earlier_socket: Option<PathBuf>,
    _owner: Option<OwnerFile>,
}

/// Why the state directory can't be worked on.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another daemon does already.
    #[error("{}", held(.dir, .by.as_ref()))]
    Held {
        /// The directory.
        dir: PathBuf,
        /// Who it is, where it says so.
        by: Option<Presence>,
    },
    /// It can't be read or written.
    #[error("{0}")]
    Failed(Cause),
}

/// Which way of locking a file system has.
enum Locked {
    ByKernel,
    No,
}

/// The file [`OWNER`], which goes with this.
#[derive(Debug)]
struct OwnerFile(PathBuf);

// === impl Lock ===

impl Lock {
    /// Locks the directory, which is there, for this process.
    pub(super) fn take(dir: &Path) -> Result<Self, OpenError> {
        let path = dir.join(presence::FILE);
        let failed = |error: &io::Error| OpenError::Failed(disk::unwritable(&path, error));
        // The file stays when the lock goes: removing it would let two processes lock two
        // files of the same name.
        let mut file = disk::private_options()
            .read(true)
            .create(true)
            .open(&path)
            .map_err(|error| failed(&error))?;
        let locked = lock(&file).map_err(|error| failed(&error))?;
        let mut text = Vec::new();
        // Who holds it has written who it is, or is about to.
        file.read_to_end(&mut text)
            .map_err(|error| failed(&error))?;
        let earlier = Presence::parse(&text);
        let owner = match locked {
            None => {
                return Err(OpenError::Held {
                    dir: dir.to_path_buf(),
                    by: earlier,
                });
            }
            Some(Locked::ByKernel) => None,
            Some(Locked::No) => {
                tracing::warn!(dir = %dir.display(), "the file system of the state directory has no locks; a file stands in for one");
                Some(OwnerFile::make(dir)?)
            }
        };
        let lock = Self {
            file,
            earlier_socket: earlier.and_then(|earlier| earlier.socket),
            _owner: owner,
        };
        // Until the socket is bound, the one before it is what may be left of a crash.
        lock.write(lock.earlier_socket.clone())
            .map_err(|error| failed(&error))?;
        Ok(lock)
    }

    /// The control socket of the daemon that worked here before, if it said so: where nobody
    /// listens on it, it is left from a crash.
    pub fn earlier_socket(&self) -> Option<&Path> {
        self.earlier_socket.as_deref()
    }

    /// Says where this daemon's control socket is.
    ///
    /// # Errors
    /// When that can't be written.
    pub fn announce(&self, socket: &Path) -> io::Result<()> {
        self.write(Some(socket.to_owned()))
    }

    fn write(&self, socket: Option<PathBuf>) -> io::Result<()> {
        let presence = Presence {
            socket,
            ..Presence::of_this_process()
        };
        let bytes = presence.to_bytes();
        self.file.write_all_at(&bytes, 0)?;
        self.file.set_len(bytes.len() as u64)
    }
}

/// `None` where another process holds it.
fn lock(file: &File) -> io::Result<Option<Locked>> {
    let by_flock = match file.try_lock() {
        Ok(()) => return Ok(Some(Locked::ByKernel)),
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => error,
    };
    if !has_none(&by_flock) {
        return Err(by_flock);
    }
    match fcntl_lock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(Locked::ByKernel)),
        Err(Errno::AGAIN | Errno::ACCESS) => Ok(None),
        Err(error) if has_none(&error.into()) => Ok(Some(Locked::No)),
        Err(error) => Err(error.into()),
    }
}

/// Whether a file system's answer means that it knows no such locks.
fn has_none(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(
        errno,
        Some(Errno::NOLCK | Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL)
    )
}

// === impl OwnerFile ===

impl OwnerFile {
    fn make(dir: &Path) -> Result<Self, OpenError> {
        let path = dir.join(OWNER);
        let failed = |error: &io::Error| OpenError::Failed(disk::unwritable(&path, error));
        let mine = dir.join(format!(".{OWNER}.{}", std::process::id()));
        disk::replace(&mine, &Presence::of_this_process().to_bytes()).map_err(OpenError::Failed)?;
        let made = Self::link(dir, &mine, &path);
        // Whether it could be linked or not, this name of it has served.
        let _ = fs::remove_file(&mine);
        match made {
            Ok(true) => Ok(Self(path)),
            Ok(false) => Err(OpenError::Held {
                dir: dir.to_path_buf(),
                by: fs::read(&path).ok().and_then(|text| Presence::parse(&text)),
            }),
            Err(error) => Err(failed(&error)),
        }
    }

    /// Makes the file with its contents in one step, which fails where there is one. Whether
    /// it could, because nobody alive has one.
    fn link(dir: &Path, mine: &Path, path: &Path) -> io::Result<bool> {
        for _ in 0..ATTEMPTS {
            match fs::hard_link(mine, path) {
                Ok(()) => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
            let Some(text) = disk::existing(fs::read(path))? else {
                continue;
            };
            if !Presence::parse(&text).is_some_and(|owner| owner.has_ended()) {
                return Ok(false);
            }
            let left = dir.join(format!(".{OWNER}.left"));
            if disk::existing(fs::rename(path, &left))?.is_none() {
                continue;
            }
            if fs::read(&left)? != text {
                // Somebody else took it over in between: it is theirs.
                fs::rename(&left, path)?;
                return Ok(false);
            }
            fs::remove_file(&left)?;
        }
        Ok(false)
    }
}

impl Drop for OwnerFile {
    fn drop(&mut self) {
        // What stays is taken over once this process has ended.
        let _ = fs::remove_file(&self.0);
    }
}

fn held(dir: &Path, by: Option<&Presence>) -> String {
    let dir = dir.display();
    let Some(by) = by else {
        return format!(
            "borealisd is running already: another one works on the state directory {dir}"
        );
    };
    let pid = by.pid;
    if !by.is_here() {
        return format!(
            "borealisd is running already on the machine {host} (pid {pid}): it works on the state directory {dir}, which both machines share; give this one a directory of its own with XDG_STATE_HOME",
            host = by.host.escape_debug(),
        );
    }
    let socket = by.socket.as_ref().map_or_else(String::new, |socket| {
        format!(", control socket {}", socket.display())
    });
    format!(
        "borealisd is running already (pid {pid}{socket}): it works on the state directory {dir}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_daemon_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let first = Lock::take(dir.path()).unwrap();
        assert_eq!(first.earlier_socket(), None);
        first.announce(Path::new("/run/x/control.sock")).unwrap();
        let error = Lock::take(dir.path()).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "borealisd is running already (pid {}, control socket /run/x/control.sock): it works on the state directory {}",
                std::process::id(),
                dir.path().display()
            )
        );
        drop(first);
        let second = Lock::take(dir.path()).unwrap();
        assert_eq!(
            second.earlier_socket(),
            Some(Path::new("/run/x/control.sock"))
        );
    }

    #[test]
    fn the_machine_that_shares_the_directory_is_named() {
        let by = Presence {
            pid: 7,
            host: "attic".into(),
            machine: "other/boot".into(),
            socket: None,
        };
        let error = OpenError::Held {
            dir: "/home/x/state".into(),
            by: Some(by),
        };
        let text = error.to_string();
        assert!(text.contains("on the machine attic (pid 7)"), "{text}");
        assert!(text.contains("XDG_STATE_HOME"), "{text}");
    }

    #[test]
    fn without_locks_a_file_stands_in() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(OWNER);
        let parent = Presence {
            pid: std::os::unix::process::parent_id(),
            ..Presence::of_this_process()
        };
        fs::write(&path, parent.to_bytes()).unwrap();
        let error = OwnerFile::make(dir.path()).unwrap_err().to_string();
        assert!(error.contains(&format!("pid {}", parent.pid)), "{error}");

        let elsewhere = Presence {
            machine: "other/boot".into(),
            host: "attic".into(),
            ..parent.clone()
        };
        fs::write(&path, elsewhere.to_bytes()).unwrap();
        let error = OwnerFile::make(dir.path()).unwrap_err().to_string();
        assert!(error.contains("attic"), "{error}");

        let ended = Presence {
            pid: 0x7fff_fff0,
            ..parent
        };
        fs::write(&path, ended.to_bytes()).unwrap();
        let owner = OwnerFile::make(dir.path()).unwrap();
        assert_eq!(
            Presence::parse(&fs::read(&path).unwrap()).unwrap().pid,
            std::process::id()
        );
        drop(owner);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
