//! One session: its local endpoint, the tunnels behind it, and the connections through it.
//!
//! The [`driver`] owns the session and runs the machine that decides over it; [`tunnels`]
//! holds what is up; a [`connection`] serves one client. Which sessions exist is the
//! supervisor's.

mod attempt;
mod connection;
mod driver;
mod ending;
mod endpoint;
mod handover;
mod hold;
mod listener;
mod logins;
mod splice;
mod tunnels;
mod under_way;
mod upstream;
mod warm;
mod warm_start;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use secrecy::SecretString;

pub(crate) use attempt::{Ahead, database_key, key_of};
pub(crate) use driver::spawn;
pub use driver::{Command, Environment, Farewell, Session};
pub use endpoint::{Endpoint, PortWish, bind, sockets};

use crate::{
    machine::Phase,
    model::{Access, Cause, Expiry, Generation, Mode, Resolved, Role, SessionName, Target},
    postgres::ScramVerifier,
    ssh::Keepalive,
};

/// What a session is; the user's choice and what it led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// Its name, unique among sessions.
    pub name: SessionName,
    /// What was typed.
    pub target: Target,
    /// What that became; `None` where the provider could not be asked yet.
    pub resolved: Option<Resolved>,
    /// Whose database user.
    pub role: Role,
    /// What that user may do.
    pub access: Access,
    /// Who logs in to the database.
    pub mode: Mode,
    /// When it closes by itself.
    pub expiry: Option<Expiry>,
    /// The database's name as last known.
    pub database: Option<String>,
}

/// Limits that the config sets for every session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How long a client's connection is held while no tunnel is up.
    pub connect_timeout: Duration,
    /// Connections of one session at a time.
    pub max_connections: u32,
    /// Connections of one session that are kept ready.
    pub warm_connections: u32,
    /// When a silent line counts as dead.
    pub keepalive: Keepalive,
}

/// What a session is doing, published at each change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// As the user sees it.
    pub phase: Phase,
    /// When it entered the phase.
    pub since: Timestamp,
    /// What it is at, while it is not up.
    pub step: String,
    /// Why it is not up.
    pub last_error: Option<Cause>,
    /// The target after look-up.
    pub resolved: Option<Resolved>,
    /// The credential that new connections log in with.
    pub credential: Option<CredentialStatus>,
    /// The database's name as last known.
    pub database: Option<String>,
    /// How many attempts have ended, so that a waiter can tell a new failure from an old one.
    pub concluded: u64,
}

/// What may be shown of a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialStatus {
    /// Which in the row.
    pub generation: Generation,
    /// When it was issued.
    pub issued_at: Timestamp,
    /// When the timer renews it.
    pub rotates_at: Option<Timestamp>,
    /// The database role.
    pub username: String,
}

/// Where clients find the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// TCP port on 127.0.0.1.
    pub port: u16,
    /// Directory of `.s.PGSQL.5432`.
    pub socket_dir: PathBuf,
}

/// What a client logs in to a managed session with, beside the session's name as user.
#[derive(Debug, Clone)]
pub struct LocalLogin {
    /// The session's own password, the same for ever.
    pub password: SecretString,
    verifier: ScramVerifier,
}

/// Connections and bytes, counted where they happen and read where they are shown.
#[derive(Debug, Default)]
pub struct Counters {
    active: AtomicU64,
    total: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
    tunnels: AtomicU64,
    attempts: AtomicU64,
    failed_attempts: AtomicU64,
    warm: AtomicU64,
}

/// Counts one tunnel while it lives.
#[derive(Debug)]
pub struct CountingTunnel(Arc<Counters>);

/// Counts one connection while it lives.
#[derive(Debug)]
pub struct Counting(Arc<Counters>);

// === impl LocalLogin ===

impl LocalLogin {
    /// Derives what log-ins are checked against; takes some milliseconds, by design of SCRAM.
    ///
    /// # Errors
    /// Where the password can't be used with SCRAM.
    pub fn new(password: SecretString) -> Result<Self, Cause> {
        let verifier = ScramVerifier::new(&password).map_err(|error| Cause::Internal {
            detail: error.to_string(),
        })?;
        Ok(Self { password, verifier })
    }
}

// === impl Counters ===

impl Counters {
    /// Counts a connection until the answer is dropped.
    pub fn connection(self: &Arc<Self>) -> Counting {
        self.active.fetch_add(1, Ordering::Relaxed);
        self.total.fetch_add(1, Ordering::Relaxed);
        Counting(Arc::clone(self))
    }

    /// Counts a tunnel until the answer is dropped.
    pub fn tunnel(self: &Arc<Self>) -> CountingTunnel {
        self.tunnels.fetch_add(1, Ordering::Relaxed);
        CountingTunnel(Arc::clone(self))
    }

    /// Connections that are kept ready.
    pub fn warm(&self) -> u64 {
        self.warm.load(Ordering::Relaxed)
    }

    fn set_warm(&self, count: u64) {
        self.warm.store(count, Ordering::Relaxed);
    }

    /// Counts an attempt that has ended.
    pub fn attempted<T>(&self, outcome: &Result<T, Cause>) {
        let count = match outcome {
            Ok(_) => &self.attempts,
            Err(_) => &self.failed_attempts,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Tunnels now.
    pub fn tunnels(&self) -> u64 {
        self.tunnels.load(Ordering::Relaxed)
    }

    /// Attempts that brought the session up, or renewed its credentials.
    pub fn successful_attempts(&self) -> u64 {
        self.attempts.load(Ordering::Relaxed)
    }

    /// Attempts that failed.
    pub fn failed_attempts(&self) -> u64 {
        self.failed_attempts.load(Ordering::Relaxed)
    }

    /// Connections now.
    pub fn active(&self) -> u64 {
        self.active.load(Ordering::Relaxed)
    }

    /// Connections since the session began.
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// Bytes to the database.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Bytes from the database.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

impl Drop for CountingTunnel {
    fn drop(&mut self) {
        self.0.tunnels.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}
