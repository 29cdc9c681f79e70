//! What the API is served from.

use std::{path::PathBuf, sync::Arc};

use borealis_proto::v1;
use jiff::Timestamp;

use crate::{
    credential::{Broker, SignIn},
    doctor::Doctor,
    journal::Journal,
    reload, supervisor,
};

/// What the API is served from.
pub struct Services {
    /// The sessions.
    pub sessions: supervisor::Handle,
    /// Asks the provider about add-ons.
    pub broker: Arc<Broker>,
    /// Facts of this process.
    pub about: About,
    /// Reads config and token again.
    pub reload: reload::Handle,
    /// Signs in and out.
    pub sign_in: Arc<SignIn>,
    /// What happened.
    pub journal: Journal,
    /// Makes the metrics' text.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// Makes checks.
    pub doctor: Doctor,
    /// Stops the daemon.
    pub shutdown: tokio_util::sync::CancellationToken,
}

/// Facts of this process that don't change.
#[derive(Debug, Clone)]
pub struct About {
    /// When it began.
    pub started_at: Timestamp,
    /// Its control socket.
    pub socket: PathBuf,
    /// Its config file, whether there or not.
    pub config_file: PathBuf,
    /// Where it keeps what survives.
    pub state_dir: PathBuf,
    /// Where sockets and libpq's files are.
    pub runtime_dir: PathBuf,
    /// What the certificates of managed sessions are signed by.
    pub ca_file: PathBuf,
    /// What was found wrong at the start.
    pub problems: Vec<v1::Failure>,
}
