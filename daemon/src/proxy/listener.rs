//! Accepts clients, on both of a session's listeners.

use std::{os::fd::AsFd, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, UnixListener},
    time::sleep,
};

use super::{
    admission::Peer,
    connection::{self, Clients},
    connector::Connect,
};
use crate::platform::{accept::Acceptor, descriptors};

/// How long the next client waits in a crowd: with 500 places each has half a second and more
/// to say who it is.
const BREATH: Duration = Duration::from_millis(1);

/// Serves TCP clients until it is dropped.
pub(crate) async fn tcp<C: Connect>(listener: &TcpListener, clients: &Arc<Clients<C>>) {
    let mut acceptor = Acceptor::new(format!("port of session {}", clients.name));
    loop {
        let (stream, _) = acceptor.next(|| listener.accept()).await;
        // Queries are small packets that must not wait for each other.
        let _ = stream.set_nodelay(true);
        make_room(&stream, clients).await;
        connection::begin(stream, Peer::Tcp, clients);
        breathe(clients).await;
    }
}

/// Serves clients of the Unix socket until it is dropped.
pub(crate) async fn unix<C: Connect>(listener: &UnixListener, clients: &Arc<Clients<C>>) {
    let own = rustix::process::geteuid().as_raw();
    let mut acceptor = Acceptor::new(format!("Unix socket of session {}", clients.name));
    loop {
        let (stream, _) = acceptor.next(|| listener.accept()).await;
        match stream.peer_cred().map(|peer| peer.uid()) {
            Ok(uid) => {
                // Root can read the daemon's memory anyway.
                let trusted = uid == own || uid == 0;
                make_room(&stream, clients).await;
                connection::begin(stream, Peer::Unix { uid, trusted }, clients);
                breathe(clients).await;
            }
            Err(error) => {
                tracing::warn!(session = %clients.name, %error, "can't tell who a client is");
            }
        }
    }
}

/// Where what was just accepted leaves few descriptors, silent clients give theirs up.
async fn make_room<C: Connect>(accepted: impl AsFd, clients: &Clients<C>) {
    for _ in 0..descriptors::missing_after(accepted) {
        clients.pending.send_silent_away().await;
    }
}

/// In a crowd lets those be heard that have come, before the next can take their places.
async fn breathe<C: Connect>(clients: &Clients<C>) {
    if clients.pending.are_crowded() {
        sleep(BREATH).await;
    }
}
