//! A session's local endpoint: a TCP port on loopback and a Unix socket.

use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder, Permissions},
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener as StdTcpListener},
    ops::RangeInclusive,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use tokio::net::{TcpListener, UnixListener};

use super::Address;
use crate::{
    model::{Cause, SessionName},
    platform::port,
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
    /// One of the range that is nobody's, `preferred` first.
    Pick {
        /// The port the session had before.
        preferred: Option<u16>,
        /// The configured range.
        range: RangeInclusive<u16>,
        /// Ports that belong to other sessions, open or closed.
        reserved: BTreeSet<u16>,
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

/// Binds both listeners of a session, or takes over those that were `inherited`.
///
/// # Errors
/// `PortInUse` with the program that has it, `PortRangeUsedUp`, or what keeps the socket
/// from being made. Nothing stays behind then.
pub fn bind(
    inherited: &mut Inherited,
    runtime_dir: &Path,
    name: &SessionName,
    wish: &PortWish,
) -> Result<Endpoint, Cause> {
    let (tcp, port) = bind_tcp(inherited, wish)?;
    let socket_dir = sockets(runtime_dir).join(name.as_str());
    let unix = bind_unix(inherited, &socket_dir)?;
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

fn bind_tcp(inherited: &mut Inherited, wish: &PortWish) -> Result<(TcpListener, u16), Cause> {
    let wanted = match wish {
        PortWish::Exactly(port) => Some(*port),
        PortWish::Pick { preferred, .. } => *preferred,
    };
    if let Some(port) = wanted
        && let Some(listener) = inherited.take_tcp(port)
        && let Ok(listener) = TcpListener::from_std(listener)
    {
        return Ok((listener, port));
    }
    match wish {
        PortWish::Exactly(port) => match listen(*port) {
            Ok(listener) => Ok((listener, *port)),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Err(Cause::InvalidRequest {
                    problem: format!("port {port} needs root; choose one above 1023"),
                })
            }
            Err(_) => Err(Cause::PortInUse {
                port: *port,
                holder: port::holder(*port),
            }),
        },
        PortWish::Pick {
            preferred,
            range,
            reserved,
        } => preferred
            .iter()
            .copied()
            .chain(range.clone().filter(|port| !reserved.contains(port)))
            // Better a closed session's port than none: it gets another when it is opened.
            .chain(range.clone())
            .find_map(|port| listen(port).ok().map(|listener| (listener, port)))
            .ok_or_else(|| Cause::PortRangeUsedUp {
                range: format!("{}-{}", range.start(), range.end()),
            }),
    }
}

fn listen(port: u16) -> io::Result<TcpListener> {
    let listener = StdTcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    // The standard library's queue of 128 makes clients that come at once wait a second.
    rustix::net::listen(&listener, BACKLOG)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
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

    fn pick(preferred: Option<u16>, range: RangeInclusive<u16>, reserved: &[u16]) -> PortWish {
        PortWish::Pick {
            preferred,
            range,
            reserved: reserved.iter().copied().collect(),
        }
    }

    /// Ports that were free a moment ago, one after the other.
    fn free(count: u16) -> RangeInclusive<u16> {
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

    #[tokio::test]
    async fn ports_of_others_are_taken_last() {
        let range = free(3);
        let first = *range.start();
        let wish = pick(None, range.clone(), &[first, first + 1]);
        let (_held, port) = bind_tcp(&mut Inherited::default(), &wish).unwrap();
        assert_eq!(port, first + 2);
        let (_held, port) = bind_tcp(&mut Inherited::default(), &wish).unwrap();
        assert_eq!(port, first);
        let wish = pick(Some(first + 1), range.clone(), &[first, first + 1]);
        let (_held, port) = bind_tcp(&mut Inherited::default(), &wish).unwrap();
        assert_eq!(port, first + 1);
        assert_eq!(
            bind_tcp(&mut Inherited::default(), &wish).unwrap_err(),
            Cause::PortRangeUsedUp {
                range: format!("{first}-{}", first + 2)
            }
        );
    }

    #[tokio::test]
    async fn a_socket_that_nobody_serves_is_taken_over_and_none_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let name = SessionName::parse("sushi").unwrap();
        let path = dir.path().join("pg/sushi/.s.PGSQL.5432");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let wish = pick(None, free(1), &[]);
        let endpoint = bind(&mut Inherited::default(), dir.path(), &name, &wish).unwrap();
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
