//! The control socket: who may have it, and who may speak through it.

use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    net::{UnixListener, UnixStream},
    sync::mpsc,
    time::sleep,
};

use crate::service_manager::activation::Inherited;

/// The bound socket. Dropping it removes the file, unless a socket unit holds it.
#[derive(Debug)]
pub struct Socket {
    path: PathBuf,
    listener: UnixListener,
    owner: Owner,
}

/// Who made the socket.
#[derive(Debug, PartialEq, Eq)]
enum Owner {
    Daemon,
    /// Its socket unit decides over mode and removal.
    ServiceManager,
}

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
    /// It can't be made.
    #[error("can't listen on {}: {error}", .path.display())]
    Failed {
        /// The socket.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// Pause after an accept that failed for want of descriptors.
const PAUSE: Duration = Duration::from_millis(200);

// === impl Socket ===

impl Socket {
    /// Takes the socket over where the service manager has handed it down. Else binds it,
    /// 0600, in a directory that is made 0700 where it is missing. One that nobody answers on
    /// is left from a daemon that was killed, and taken over.
    ///
    /// # Errors
    /// When another daemon answers on it, or it can't be made.
    pub async fn claim(path: &Path, inherited: &mut Inherited) -> Result<Self, ClaimError> {
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
        }
        match UnixStream::connect(path).await {
            Ok(stream) => {
                let pid = stream.peer_cred().ok().and_then(|peer| peer.pid());
                return Err(ClaimError::Taken {
                    path: path.to_owned(),
                    pid,
                });
            }
            // Only a refusal proves that nobody listens.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                fs::remove_file(path).map_err(failed)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed)?;
        Ok(Self {
            path: path.to_owned(),
            listener,
            owner: Owner::Daemon,
        })
    }

    /// Hands on connections of the daemon's own user and of root; others are closed. Ends
    /// when nobody takes them any more.
    pub(super) async fn accept(self, connections: mpsc::Sender<io::Result<UnixStream>>) {
        let own = rustix::process::geteuid().as_raw();
        loop {
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "can't accept on the control socket; trying again");
                    sleep(PAUSE).await;
                    continue;
                }
            };
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
        if self.owner == Owner::ServiceManager {
            return;
        }
        // What stays is taken over at the next start.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stale_socket_is_taken_over_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/control.sock");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        // Std's listener leaves its file behind when it is dropped.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let mut none = Inherited::default();
        let socket = Socket::claim(&path, &mut none).await.unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let second = Socket::claim(&path, &mut none).await.unwrap_err();
        assert_eq!(
            second.to_string(),
            format!(
                "borealisd is running already (pid {}) on {}",
                std::process::id(),
                path.display()
            )
        );
        drop(socket);
        assert!(!path.exists());
    }
}
