//! The control socket: who may have it, and who may speak through it.

use std::{
    fs::{self, DirBuilder, Metadata, Permissions},
    io,
    os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use borealis_proto::{socket_path::ShortPath, trust};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::mpsc,
};

use crate::{model::text, platform::accept::Acceptor, service_manager::activation::Inherited};

/// The bound socket. Dropping it removes the file, unless a socket unit holds it or another
/// file has taken its place.
#[derive(Debug)]
pub struct Socket {
    path: PathBuf,
    listener: UnixListener,
    owner: Owner,
}

/// Who made the socket.
#[derive(Debug, PartialEq, Eq)]
enum Owner {
    /// This process: the file that it made.
    Daemon(FileId),
    /// Its socket unit decides over mode and removal.
    ServiceManager,
}

/// A file's device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileId(u64, u64);

/// Why the socket can't be had.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Another daemon answers on it.
    #[error("borealisd is running already{} on {}", .pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default(), .path.display())]
    Taken {
        /// The socket.
        path: PathBuf,
        /// Who answers.
        pid: Option<i32>,
    },
    /// What is there is not a socket that a daemon of this user left.
    #[error("{path} is {what}, which borealisd leaves as it is; name another path with --socket or BOREALIS_SOCKET, or remove it yourself", path = .path.display())]
    NotOurs {
        /// The path.
        path: PathBuf,
        /// What is there.
        what: String,
    },
    /// Other users could put a socket of theirs there.
    #[error("the control socket can't be in {dir}: every user may write {exposed}; take that right away with `chmod o-w {exposed}`, or name another path with --socket", dir = .dir.display(), exposed = .exposed.display())]
    Exposed {
        /// Its directory.
        dir: PathBuf,
        /// The directory that all may write.
        exposed: PathBuf,
    },
    /// It can't be made.
    #[error("can't listen on {}: {error}", .path.display())]
    Failed {
        /// The socket.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// The name of the control socket wherever nobody chose another.
const DEFAULT_NAME: &str = "control.sock";

// === impl Socket ===

impl Socket {
    /// Takes the socket over where the service manager has handed it down. Else binds it,
    /// 0600, in a directory that is made 0700 where it is missing.
    ///
    /// A socket of this user that nobody answers on is taken over where a daemon left it: it
    /// has the default name, or is the `earlier` one, which the state directory tells of.
    /// Whatever else is there stays.
    ///
    /// # Errors
    /// When something that is not ours is there, or the socket can't be made.
    pub async fn claim(
        path: &Path,
        inherited: &mut Inherited,
        earlier: Option<&Path>,
    ) -> Result<Self, ClaimError> {
        let failed = |error| ClaimError::Failed {
            path: path.to_owned(),
            error,
        };
        if let Some(listener) = inherited.take_unix(path) {
            return Ok(Self {
                path: path.to_owned(),
                listener: UnixListener::from_std(listener).map_err(failed)?,
                owner: Owner::ServiceManager,
            });
        }
        if let Some(dir) = path.parent() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(dir)
                .map_err(failed)?;
            if let Some(exposed) = trust::exposed(dir).map_err(failed)? {
                return Err(ClaimError::Exposed {
                    dir: dir.to_owned(),
                    exposed,
                });
            }
        }
        let short = ShortPath::of(path).map_err(failed)?;
        make_room(path, &short, earlier).await?;
        let listener = UnixListener::bind(short.path()).map_err(failed)?;
        fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed)?;
        let made = fs::symlink_metadata(path).map_err(failed)?;
        Ok(Self {
            path: path.to_owned(),
            listener,
            owner: Owner::Daemon(FileId::of(&made)),
        })
    }

    /// Hands on connections of the daemon's own user and of root; others are closed. Ends
    /// when nobody takes them any more.
    pub(super) async fn accept(self, connections: mpsc::Sender<io::Result<UnixStream>>) {
        let own = rustix::process::geteuid().as_raw();
        let mut acceptor = Acceptor::new("control socket");
        loop {
            let (stream, _) = acceptor.next(|| self.listener.accept()).await;
            match stream.peer_cred().map(|peer| peer.uid()) {
                Ok(uid) if uid == own || uid == 0 => {
                    if connections.send(Ok(stream)).await.is_err() {
                        return;
                    }
                }
                Ok(uid) => tracing::warn!(uid, "another user was refused on the control socket"),
                Err(error) => tracing::warn!(%error, "can't tell who is on the control socket"),
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let there = fs::symlink_metadata(&self.path).map(|found| FileId::of(&found));
        if there.is_ok_and(|there| self.owner == Owner::Daemon(there)) {
            // What stays is taken over at the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

// === impl FileId ===

impl FileId {
    fn of(metadata: &Metadata) -> Self {
        Self(metadata.dev(), metadata.ino())
    }
}

/// Removes what an earlier daemon left at the socket's place; refuses anything else there.
async fn make_room(
    path: &Path,
    short: &ShortPath,
    earlier: Option<&Path>,
) -> Result<(), ClaimError> {
    let failed = |error| ClaimError::Failed {
        path: path.to_owned(),
        error,
    };
    let not_ours = |what: String| ClaimError::NotOurs {
        path: path.to_owned(),
        what,
    };
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    if !found.file_type().is_socket() {
        return Err(not_ours(kind(&found).to_owned()));
    }
    if !trust::is_trusted_owner(found.uid()) {
        return Err(not_ours(format!(
            "a socket of another user (uid {})",
            found.uid()
        )));
    }
    match UnixStream::connect(short.path()).await {
        Ok(stream) => {
            let pid = stream.peer_cred().ok().and_then(|peer| peer.pid());
            return Err(match pid.and_then(other_program) {
                Some(program) => not_ours(format!("the socket of {program}")),
                None => ClaimError::Taken {
                    path: path.to_owned(),
                    pid,
                },
            });
        }
        // Only a refusal proves that nobody listens.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    }
    let is_ours = earlier == Some(path) || path.file_name() == Some(DEFAULT_NAME.as_ref());
    if !is_ours {
        return Err(not_ours(
            "a socket that nobody answers on, and that borealisd doesn't know as its own".into(),
        ));
    }
    // Between the look and the removal it may have become another file's name.
    match fs::symlink_metadata(path) {
        Ok(again) if FileId::of(&again) == FileId::of(&found) => {
            fs::remove_file(path).map_err(failed)
        }
        _ => Ok(()),
    }
}

/// `PROGRAM (pid N)` where the process is known not to be a daemon of ours.
fn other_program(pid: i32) -> Option<String> {
    // Linux tells a process's name to everybody; elsewhere it is taken for a daemon.
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    let name = name.trim();
    (name != "borealisd").then(|| format!("{} (pid {pid})", text::line(name)))
}

fn kind(found: &Metadata) -> &'static str {
    let kind = found.file_type();
    if kind.is_dir() {
        "a directory"
    } else if kind.is_symlink() {
        "a symbolic link"
    } else if kind.is_fifo() {
        "a named pipe"
    } else if kind.is_file() {
        "a file"
    } else {
        "a device"
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener as StdListener;

    use super::*;

    async fn claim(path: &Path, earlier: Option<&Path>) -> Result<Socket, ClaimError> {
        Socket::claim(path, &mut Inherited::default(), earlier).await
    }

    #[tokio::test]
    async fn a_stale_socket_is_taken_over_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/control.sock");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        // Std's listener leaves its file behind when it is dropped.
        drop(StdListener::bind(&path).unwrap());
        let socket = claim(&path, None).await.unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let second = claim(&path, None).await.unwrap_err().to_string();
        assert!(
            second.contains(&format!("pid {}", std::process::id())),
            "{second}"
        );
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn nothing_but_a_stale_socket_of_ours_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("file"), "precious").unwrap();
        fs::create_dir(at("directory")).unwrap();
        std::os::unix::fs::symlink("file", at("link")).unwrap();
        std::os::unix::fs::symlink("nowhere", at("dangling")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, at("pipe"), 0o600.into()).unwrap();
        drop(StdListener::bind(at("stale.sock")).unwrap());
        let _live = StdListener::bind(at("live.sock")).unwrap();
        for (name, what) in [
            ("file", "a file"),
            ("directory", "a directory"),
            ("link", "a symbolic link"),
            ("dangling", "a symbolic link"),
            ("pipe", "a named pipe"),
            ("stale.sock", "nobody answers"),
            ("live.sock", "the socket of"),
        ] {
            let error = claim(&at(name), None).await.unwrap_err();
            assert!(error.to_string().contains(what), "{name}: {error}");
            assert!(fs::symlink_metadata(at(name)).is_ok(), "{name}");
        }
        assert_eq!(fs::read(at("file")).unwrap(), b"precious");
        let stale = at("stale.sock");
        drop(claim(&stale, Some(&stale)).await.unwrap());
        assert!(!stale.exists());
    }

    #[tokio::test]
    async fn a_socket_that_took_its_place_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        let socket = claim(&path, None).await.unwrap();
        let _live = StdListener::bind(dir.path().join("other")).unwrap();
        fs::rename(dir.path().join("other"), &path).unwrap();
        drop(socket);
        assert!(path.exists());
    }

    #[tokio::test]
    async fn a_place_that_others_may_write_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let open = dir.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, Permissions::from_mode(0o777)).unwrap();
        let error = claim(&open.join("borealis/control.sock"), None)
            .await
            .unwrap_err();
        assert!(matches!(error, ClaimError::Exposed { .. }), "{error}");
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_path_too_long_for_the_system_works() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("d".repeat(120)).join("control.sock");
        let socket = claim(&path, None).await.unwrap();
        assert!(path.exists());
        // A second one reaches it in the same way.
        claim(&path, None).await.unwrap_err();
        drop(socket);
        assert!(!path.exists());
    }
}
