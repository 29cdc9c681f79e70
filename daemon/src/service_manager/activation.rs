//! Listeners that the service manager hands over: those of a socket unit, and those that
//! the daemon before this one left with it (sd_listen_fds(3), "File Descriptor Store").
//!
//! Each is told by the address that it is bound to, not by its name or place: a unit may
//! call it what it likes. What nobody takes is given back at the end of the start.

use std::{
    collections::BTreeMap,
    net::TcpListener,
    os::unix::{fs::FileTypeExt as _, net::UnixListener},
    path::{Path, PathBuf},
};

use listenfd::ListenFd;

use crate::service_manager::notify;

/// Listeners that are bound and wait for somebody to accept on them.
#[derive(Debug, Default)]
pub struct Inherited {
    tcp: BTreeMap<u16, TcpListener>,
    unix: BTreeMap<PathBuf, UnixListener>,
}

// === impl Inherited ===

impl Inherited {
    /// Takes all that this process was handed, and the variables that say so: a program that
    /// is run later must not take them for its own. To be called once, before there are
    /// other threads.
    pub fn take() -> Self {
        let mut handed = ListenFd::from_env();
        let mut inherited = Self::default();
        for index in 0..handed.len() {
            if let Ok(Some(listener)) = handed.take_unix_listener(index) {
                inherited.add_unix(listener);
            } else if let Ok(Some(listener)) = handed.take_tcp_listener(index) {
                inherited.add_tcp(listener);
            } else {
                tracing::warn!(index, "the service manager handed over what is no listener");
            }
        }
        inherited
    }

    /// The listener of a port.
    pub fn take_tcp(&mut self, port: u16) -> Option<TcpListener> {
        self.tcp.remove(&port)
    }

    /// Takes back a listener that nobody could use.
    pub fn put_back(&mut self, listener: TcpListener) {
        self.add_tcp(listener);
    }

    /// The listener of a path, where clients can still find it.
    pub fn take_unix(&mut self, path: &Path) -> Option<UnixListener> {
        let is_there = path
            .symlink_metadata()
            .is_ok_and(|found| found.file_type().is_socket());
        self.unix.remove(path).filter(|_| is_there)
    }

    /// Closes what nobody has taken, here and in the manager's store: a client would wait
    /// there for ever. A session's socket, which is one below `sessions`, goes with its
    /// directory; another is a socket unit's own.
    pub fn give_back_rest(&mut self, sessions: &Path) {
        for port in std::mem::take(&mut self.tcp).into_keys() {
            tracing::info!(port, "a listener of a session that is gone is closed");
            notify::discard(&tcp_name(port));
        }
        for path in std::mem::take(&mut self.unix).into_keys() {
            if !path.starts_with(sessions) {
                tracing::warn!(path = %path.display(), "the socket unit's socket isn't the one that --socket or BOREALIS_SOCKET names, and isn't served");
                continue;
            }
            tracing::info!(path = %path.display(), "a listener of a session that is gone is closed");
            notify::discard(&unix_name(&path));
            let _ = std::fs::remove_file(&path);
            let _ = path.parent().map(std::fs::remove_dir);
        }
    }

    fn add_tcp(&mut self, listener: TcpListener) {
        match listener.local_addr() {
            Ok(address) if listener.set_nonblocking(true).is_ok() => {
                self.tcp.insert(address.port(), listener);
            }
            _ => tracing::warn!("a listener that was handed over can't be used"),
        }
    }

    fn add_unix(&mut self, listener: UnixListener) {
        let path = listener
            .local_addr()
            .ok()
            .and_then(|address| address.as_pathname().map(Path::to_owned));
        match path {
            Some(path) if listener.set_nonblocking(true).is_ok() => {
                self.unix.insert(path, listener);
            }
            _ => tracing::warn!("a listener that was handed over can't be used"),
        }
    }
}

/// What the manager's store calls the listener of a port.
pub fn tcp_name(port: u16) -> String {
    format!("tcp-{port}")
}

/// What the manager's store calls the listener in a session's directory.
pub fn unix_name(path: &Path) -> String {
    let session = path.parent().and_then(Path::file_name).unwrap_or_default();
    format!("unix-{}", session.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_known_by_where_they_are_bound() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sushi/.s.PGSQL.5432");
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        let tcp = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = tcp.local_addr().unwrap().port();
        let mut inherited = Inherited::default();
        inherited.add_tcp(tcp);
        inherited.add_unix(UnixListener::bind(&path).unwrap());
        assert!(inherited.take_tcp(port ^ 1).is_none());
        assert!(inherited.take_tcp(port).is_some());
        assert!(inherited.take_tcp(port).is_none());
        assert!(inherited.take_unix(dir.path()).is_none());
        assert!(inherited.take_unix(&path).is_some());
        assert_eq!(unix_name(&path), "unix-sushi");
    }

    #[test]
    fn a_socket_that_nobody_can_find_is_no_use() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let mut inherited = Inherited::default();
        inherited.add_unix(UnixListener::bind(&path).unwrap());
        std::fs::remove_file(&path).unwrap();
        assert!(inherited.take_unix(&path).is_none());
    }

    #[test]
    fn what_is_left_over_is_closed_and_its_socket_gone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sushi/.s.PGSQL.5432");
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        let mut inherited = Inherited::default();
        inherited.add_unix(UnixListener::bind(&path).unwrap());
        inherited.give_back_rest(dir.path());
        assert!(!path.parent().unwrap().exists());
    }

    #[test]
    fn a_socket_units_socket_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        let mut inherited = Inherited::default();
        inherited.add_unix(UnixListener::bind(&path).unwrap());
        inherited.give_back_rest(&dir.path().join("pg"));
        assert!(path.exists());
    }
}
