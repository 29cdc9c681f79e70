//! Picks ports for programs that can't choose one themselves, and for listeners that must
//! come back on the port they had.

use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};

use rand::RngExt as _;

use super::SandboxError;

/// Below what systems hand out for port 0 and for outgoing connections, so that nobody
/// takes a port by chance while its owner is stopped.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// A port on 127.0.0.1 that nobody listens on at this moment.
///
/// # Errors
/// When many ports in a row are taken.
pub(crate) fn free() -> Result<u16, SandboxError> {
    let mut rng = rand::rng();
    (0..200)
        .map(|_| rng.random_range(RANGE))
        .find(|port| !is_taken(*port))
        .ok_or_else(|| SandboxError::failed("found no free port on 127.0.0.1"))
}

/// Whether somebody listens on the port.
pub(crate) fn is_taken(port: u16) -> bool {
    TcpListener::bind(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)).is_err()
}
