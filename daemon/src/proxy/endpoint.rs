//! A session's local endpoint: a TCP port on loopback and a Unix socket.

use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener as StdTcpListener},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::net::{TcpListener, UnixListener};

use super::Address;
use crate::{
    model::{Cause, SessionName},
    service_manager::activation::{self, Inherited},
    service_manager::notify,
};

/// Connections that may wait to be accepted; the kernel's own bound is lower on old ones.
const BACKLOG: i32 = 1024;

/// libpq looks for this file in the directory it is given as host, as its default port is
/// 5432.
const SOCKET: &str = ".s.PGSQL.5432";

/// `sun_path` holds 108 bytes on Linux and 104 on macOS, the closing zero included.
const LONGEST_SOCKET_PATH: usize = if cfg!(target_os = "macos") { 103 } else { 107 };

/// Which TCP port a session should get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortWish {
    /// This one and no other.
    Exactly(u16),
    /// The first of these that nobody listens on.
    FirstFree {
        /// In the order in which they are tried.
        candidates: Vec<u16>,
        /// Where they are from, for who is told that there is none.
        range: String,
    },
}

/// Bound listeners, of which the service manager, where there is one, keeps copies. Dropping
/// it frees the port and removes the socket.
#[derive(Debug)]
pub struct Endpoint {
    address: Address,
    pub(crate) tcp: TcpListener,
    pub(crate) unix: UnixListener,
    is_stored: bool,
    stays: bool,
}

/// Where the sessions' own directories are, each with a socket.
pub fn sockets(runtime_dir: &Path) -> PathBuf {
    runtime_dir.join("pg")
}

/// Binds both listeners of a session, or takes over those that were `inherited`. Blocks on the
/// disk.
///
/// # Errors
/// `PortInUse`, `PortRangeUsedUp`, or what keeps the socket from being made. Nothing stays
/// behind then, and what was inherited still is.
pub fn bind(
    inherited: &Mutex<Inherited>,
    runtime_dir: &Path,
    name: &SessionName,
    wish: &PortWish,
) -> Result<Endpoint, Cause> {
    let mut inherited = locked(inherited);
    let (tcp, port, was_inherited) = bind_tcp(&mut inherited, wish)?;
    let socket_dir = sockets(runtime_dir).join(name.as_str());
    let made = bind_unix(&mut inherited, &socket_dir);
    let unix = match made {
        Ok(unix) => unix,
        Err(cause) => {
            if was_inherited {
                // The manager has a copy, so that nobody could have the port.
                inherited.put_back(tcp);
            }
            return Err(cause);
        }
    };
    let tcp = TcpListener::from_std(tcp).map_err(|error| Cause::Internal {
        detail: format!("port {port}: {error}"),
    })?;
    let is_stored = notify::store(&activation::tcp_name(port), &tcp)
        && notify::store(&activation::unix_name(&socket_dir.join(SOCKET)), &unix);
    Ok(Endpoint {
        address: Address { port, socket_dir },
        tcp,
        unix,
        is_stored,
        stays: false,
    })
}

/// The listeners that were handed over and are nobody's yet.
pub(crate) fn locked(inherited: &Mutex<Inherited>) -> MutexGuard<'_, Inherited> {
    inherited.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Endpoint ===

impl Endpoint {
    /// Where clients find it.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Whether the service manager has copies of the listeners.
    pub(crate) fn is_stored(&self) -> bool {
        self.is_stored
    }

    /// Closes the listeners here and leaves them with the service manager, where clients
    /// wait for the next daemon.
    pub(crate) fn leave(mut self) {
        self.stays = true;
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        if self.stays {
            return;
        }
        let path = self.address.socket_dir.join(SOCKET);
        notify::discard(&activation::tcp_name(self.address.port));
        notify::discard(&activation::unix_name(&path));
        // Best effort: what stays is taken over at the next start.
        let _ = fs::remove_file(path);
        let _ = fs::remove_dir(&self.address.socket_dir);
    }
}

/// The listener, its port, and whether it was inherited.
fn bind_tcp(
    inherited: &mut Inherited,
    wish: &PortWish,
) -> Result<(StdTcpListener, u16, bool), Cause> {
    match wish {
        PortWish::Exactly(port) => {
            if let Some(listener) = inherited.take_tcp(*port) {
                return Ok((listener, *port, true));
            }
            match listen(*port) {
                Ok(listener) => Ok((listener, *port, false)),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    Err(Cause::InvalidRequest {
                        problem: format!("port {port} needs root; choose one above 1023"),
                    })
                }
                Err(_) => Err(Cause::PortInUse {
                    port: *port,
                    holder: None,
                }),
            }
        }
        PortWish::FirstFree { candidates, range } => candidates
            .iter()
            .find_map(|port| listen(*port).ok().map(|listener| (listener, *port, false)))
            .ok_or_else(|| Cause::PortRangeUsedUp {
                range: range.clone(),
            }),
    }
}

fn listen(port: u16) -> io::Result<StdTcpListener> {
    let listener = StdTcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    // The standard library's queue of 128 makes clients that come at once wait a second.
    rustix::net::listen(&listener, BACKLOG)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn bind_unix(inherited: &mut Inherited, dir: &Path) -> Result<UnixListener, Cause> {
    let path = dir.join(SOCKET);
    if path.as_os_str().len() > LONGEST_SOCKET_PATH {
        return Err(Cause::SocketPathTooLong {
            path: path.display().to_string(),
        });
    }
    let unwritable = |error: io::Error| Cause::StateUnwritable {
        path: path.display().to_string(),
        detail: error.to_string(),
    };
    private_dir(dir).map_err(unwritable)?;
    if let Some(listener) = inherited.take_unix(&path) {
        return UnixListener::from_std(listener).map_err(unwritable);
    }
    // The daemon's lock says that no other daemon of this user serves it: what is there is
    // left from one that was killed.
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unwritable(error)),
        _ => {}
    }
    let listener = UnixListener::bind(&path).map_err(unwritable)?;
    fs::set_permissions(&path, Permissions::from_mode(0o600)).map_err(unwritable)?;
    Ok(listener)
}

fn private_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    fs::set_permissions(dir, Permissions::from_mode(0o700))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first_free(candidates: &[u16]) -> PortWish {
        PortWish::FirstFree {
            candidates: candidates.to_vec(),
            range: "these".into(),
        }
    }

    fn bound(wish: &PortWish) -> Result<(StdTcpListener, u16), Cause> {
        bind_tcp(&mut Inherited::default(), wish).map(|(listener, port, _)| (listener, port))
    }

    /// Ports that were free a moment ago, one after the other.
    fn free(count: u16) -> std::ops::RangeInclusive<u16> {
        loop {
            let first = listen(0).unwrap().local_addr().unwrap().port();
            let Some(last) = first.checked_add(count - 1) else {
                continue;
            };
            if (first..=last).all(|port| listen(port).is_ok()) {
                return first..=last;
            }
        }
    }

    #[test]
    fn candidates_are_tried_in_their_order() {
        let range = free(2);
        let (low, high) = (*range.start(), *range.end());
        let wish = first_free(&[high, low]);
        let (_held, port) = bound(&wish).unwrap();
        assert_eq!(port, high);
        let (_held, port) = bound(&wish).unwrap();
        assert_eq!(port, low);
        let used_up = Cause::PortRangeUsedUp {
            range: "these".into(),
        };
        assert_eq!(bound(&wish).unwrap_err(), used_up);
        let in_use = Cause::PortInUse {
            port: low,
            holder: None,
        };
        assert_eq!(bound(&PortWish::Exactly(low)).unwrap_err(), in_use);
    }

    #[tokio::test]
    async fn an_inherited_port_is_not_lost_where_the_socket_can_not_be_made() {
        let dir = tempfile::tempdir().unwrap();
        // A file where the directory of sockets would be.
        fs::write(dir.path().join("pg"), "").unwrap();
        let name = SessionName::parse("sushi").unwrap();
        let listener = listen(0).unwrap();
        let port = listener.local_addr().unwrap().port();
        let inherited = Mutex::new(Inherited::default());
        locked(&inherited).put_back(listener);
        let wish = PortWish::Exactly(port);
        let refused = bind(&inherited, dir.path(), &name, &wish).unwrap_err();
        assert!(
            matches!(refused, Cause::StateUnwritable { .. }),
            "{refused}"
        );
        fs::remove_file(dir.path().join("pg")).unwrap();
        // The same listener is still there, for the next try.
        let endpoint = bind(&inherited, dir.path(), &name, &wish).unwrap();
        assert_eq!(endpoint.address().port, port);
        assert!(locked(&inherited).take_tcp(port).is_none());
    }

    #[tokio::test]
    async fn a_socket_that_nobody_serves_is_taken_over_and_none_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let name = SessionName::parse("sushi").unwrap();
        let path = dir.path().join("pg/sushi/.s.PGSQL.5432");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let wish = PortWish::Exactly(*free(1).start());
        let endpoint = bind(&Mutex::default(), dir.path(), &name, &wish).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        drop(endpoint);
        assert!(!path.parent().unwrap().exists());
    }

    #[test]
    fn a_path_too_long_for_a_socket_is_said_to_be_that() {
        let dir = PathBuf::from("/tmp").join("x".repeat(100));
        assert!(matches!(
            bind_unix(&mut Inherited::default(), &dir),
            Err(Cause::SocketPathTooLong { .. })
        ));
    }
}
