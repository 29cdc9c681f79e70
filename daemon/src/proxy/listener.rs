//! Accepts clients, on both of a session's listeners.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, UnixListener},
    time::sleep,
};

use super::connection::{self, Gateway, Peer};

/// First and longest pause while the process has no descriptors left.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// How long the next client waits in a crowd: with 500 places each has half a second and more
/// to say who it is.
const BREATH: Duration = Duration::from_millis(1);

/// Serves TCP clients until it is dropped.
pub(crate) async fn tcp(listener: &TcpListener, gateway: &Arc<Gateway>) {
    let mut pause = PAUSE.0;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                pause = recovered(pause, gateway);
                // Queries are small packets that must not wait for each other.
                let _ = stream.set_nodelay(true);
                connection::begin(stream, Peer::Tcp, gateway);
                breathe(gateway).await;
            }
            Err(error) => pause = rest(&error, pause, gateway).await,
        }
    }
}

/// Serves clients of the Unix socket until it is dropped.
pub(crate) async fn unix(listener: &UnixListener, gateway: &Arc<Gateway>) {
    let own = rustix::process::geteuid().as_raw();
    let mut pause = PAUSE.0;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                pause = recovered(pause, gateway);
                // Root can read the daemon's memory anyway.
                match stream.peer_cred().map(|peer| peer.uid()) {
                    Ok(uid) => {
                        let trusted = uid == own || uid == 0;
                        connection::begin(stream, Peer::Unix { uid, trusted }, gateway);
                        breathe(gateway).await;
                    }
                    Err(error) => {
                        tracing::warn!(session = %gateway.name, %error, "can't tell who a client is");
                    }
                }
            }
            Err(error) => pause = rest(&error, pause, gateway).await,
        }
    }
}

/// In a crowd lets those be heard that have come, before the next can take their places.
async fn breathe(gateway: &Gateway) {
    if gateway.slots.logins.are_crowded() {
        sleep(BREATH).await;
    }
}

/// Says that a listener that had to rest accepts again; answers the next pause.
fn recovered(pause: Duration, gateway: &Gateway) -> Duration {
    if pause != PAUSE.0 {
        tracing::info!(session = %gateway.name, "connections are accepted again");
    }
    PAUSE.0
}

/// Waits after a failed accept where that can help, and answers the next pause.
async fn rest(error: &io::Error, pause: Duration, gateway: &Gateway) -> Duration {
    if !is_exhaustion(error) {
        // The client was gone before it was accepted.
        return PAUSE.0;
    }
    if pause == PAUSE.0 {
        tracing::warn!(session = %gateway.name, %error, "can't accept connections; those that come wait until it can");
    }
    sleep(pause).await;
    (pause * 2).min(PAUSE.1)
}

/// Whether the process or the machine has run out of something that comes back.
fn is_exhaustion(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(
        Errno::from_io_error(error),
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)
    )
}
