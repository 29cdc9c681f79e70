//! What the provider issues, and the leases in which it is held.

use std::fmt;

use jiff::Timestamp;
use secrecy::SecretString;

/// Number of a lease; grows with each one of the same add-on and kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Generation(pub u64);

/// A host, by name or address, and a TCP port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// A DNS name or an address without brackets.
    pub host: String,
    /// A TCP port.
    pub port: u16,
}

/// How to log in to the bastion.
#[derive(Debug, Clone)]
pub struct SshCredential {
    /// The bastion.
    pub bastion: HostPort,
    /// The personal SSH user.
    pub username: String,
    /// PEM or OpenSSH text.
    pub private_key: SecretString,
    /// The only host key to accept: `<format> <base64>`.
    pub host_key: String,
}

/// How to log in to the database, through the bastion.
#[derive(Debug, Clone)]
pub struct DatabaseCredential {
    /// The database server as the bastion sees it.
    pub server: HostPort,
    /// The database's name.
    pub database: String,
    /// The role to log in as.
    pub username: String,
    /// Its password of the moment.
    pub password: SecretString,
}

/// A credential as it is held: shared by all sessions of its add-on and kind.
#[derive(Debug, Clone)]
pub struct Lease<C> {
    /// Which one in the row of its kind.
    pub generation: Generation,
    /// When the provider issued it, by this machine's clock.
    pub issued_at: Timestamp,
    /// When the timer asks for the next; `None` where none does.
    pub rotates_at: Option<Timestamp>,
    /// What was issued.
    pub credential: C,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}
