//! The data plane of one session: its local endpoint, and the way of each client's bytes
//! from there to the database. Knows neither the driver nor the supervisor: whether clients
//! get through is told by the tunnels' gate, and that one waits goes out as a signal.

mod admission;
mod cancel_keys;
mod clients;
mod connection;
mod connector;
mod counters;
mod drain;
mod endpoint;
mod gateway;
mod leftovers;
mod listener;
mod outage;
mod pending_logins;
mod record;
mod relay;
mod slots;
#[cfg(test)]
pub(crate) mod testing;
mod upstream;
mod verification;
mod wait_queue;
mod warm;

use std::{path::PathBuf, time::Duration};

use secrecy::SecretString;
use tokio::sync::watch;

pub(crate) use connector::Connect;
pub use counters::{Counters, Counting};
pub(crate) use drain::IdlePolicy;
pub(crate) use endpoint::locked;
pub use endpoint::{Endpoint, PortWish, bind, sockets};
pub(crate) use gateway::{Gateway, Parts};
pub use record::{ConnectionRecord, PeerProcess, Registry, State};
pub(crate) use verification::probe;

use crate::{model::Cause, postgres::ScramVerifier};

/// Limits that the config sets for every session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How long a client's connection is held while no tunnel is up.
    pub connect_timeout: Duration,
    /// Connections of one session at a time.
    pub max_connections: u32,
    /// Connections of one session that are kept ready.
    pub warm_connections: u32,
}

/// The limits of the moment: a reload changes them for sessions that run.
pub type CurrentLimits = watch::Receiver<Limits>;

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
    pub(crate) verifier: ScramVerifier,
}

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
