//! Connecting to the control socket, if it is this user's own daemon that serves it.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use crate::{paths::Paths, presence::Presence, socket_path::ShortPath, trust};

/// Why nothing is sent to whoever serves a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Untrusted {
    /// The process that listens is neither this user's nor root's.
    OtherUser {
        /// Its user id.
        uid: u32,
    },
    /// Any user may put a socket of their own there.
    Exposed {
        /// The directory that all may write.
        dir: PathBuf,
    },
}

/// Connects to the daemon that listens on `socket`.
///
/// # Errors
/// The socket's own error (`NotFound`, `ConnectionRefused`, `PermissionDenied`, …), so that
/// the caller can say why there is no daemon. A `PermissionDenied` that holds an
/// [`Untrusted`] means that nothing was sent. Dropping the future abandons the attempt.
pub async fn connect(socket: PathBuf) -> io::Result<Channel> {
    // The first connection is made here: the transport error of tonic hides which errno
    // it was, and that is what the user needs to know.
    let first = connect_trusted(&socket).await?;
    let first = Arc::new(tokio::sync::Mutex::new(Some(first)));
    let connector = service_fn(move |_: Uri| {
        let (socket, first) = (socket.clone(), Arc::clone(&first));
        async move {
            let ready = first.lock().await.take();
            let stream = match ready {
                Some(stream) => stream,
                None => connect_trusted(&socket).await?,
            };
            Ok::<_, io::Error>(TokioIo::new(stream))
        }
    });
    // The authority is never resolved; HTTP/2 wants one.
    Endpoint::from_static("http://borealis")
        .connect_with_connector(connector)
        .await
        .map_err(io::Error::other)
}

/// The socket of the daemon that works on this user's state directory, where it isn't the
/// default one: it was started with another runtime directory, or with `--socket`.
pub fn elsewhere(paths: &Paths) -> Option<PathBuf> {
    let running = Presence::read(&paths.state_dir).ok().flatten()?;
    let socket = running.socket.filter(|_| running.pid != 0)?;
    let here = Presence {
        socket: None,
        ..running
    };
    (here.is_here() && !here.has_ended() && socket != paths.control_socket()).then_some(socket)
}

async fn connect_trusted(socket: &Path) -> io::Result<UnixStream> {
    if let Some(dir) = socket.parent().map(trust::exposed).transpose()?.flatten() {
        return Err(Untrusted::Exposed { dir }.into());
    }
    let short = ShortPath::of(socket)?;
    let stream = UnixStream::connect(short.path()).await?;
    let uid = stream.peer_cred()?.uid();
    if trust::is_trusted_owner(uid) {
        Ok(stream)
    } else {
        Err(Untrusted::OtherUser { uid }.into())
    }
}

// === impl Untrusted ===

impl fmt::Display for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherUser { uid } => write!(
                f,
                "another user's process (uid {uid}) listens there, and nothing was sent to it"
            ),
            Self::Exposed { dir } => write!(
                f,
                "every user may write its directory {}, so it may be anybody's",
                dir.display()
            ),
        }
    }
}

impl std::error::Error for Untrusted {}

impl From<Untrusted> for io::Error {
    fn from(untrusted: Untrusted) -> Self {
        Self::new(io::ErrorKind::PermissionDenied, untrusted)
    }
}
