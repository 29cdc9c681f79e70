//! Connecting to the control socket.

use std::{io, path::PathBuf, sync::Arc};

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

/// Connects to the daemon that listens on `socket`.
///
/// # Errors
/// The socket's own error (`NotFound`, `ConnectionRefused`, `PermissionDenied`, …), so that
/// the caller can say why there is no daemon. Dropping the future abandons the attempt.
pub async fn connect(socket: PathBuf) -> io::Result<Channel> {
    // The first connection is made here: the transport error of tonic hides which errno
    // it was, and that is what the user needs to know.
    let first = UnixStream::connect(&socket).await?;
    let first = Arc::new(tokio::sync::Mutex::new(Some(first)));
    let connector = service_fn(move |_: Uri| {
        let (socket, first) = (socket.clone(), Arc::clone(&first));
        async move {
            let ready = first.lock().await.take();
            let stream = match ready {
                Some(stream) => stream,
                None => UnixStream::connect(&socket).await?,
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
