//! Reading config and token again, for SIGHUP and the control API alike.

use std::path::PathBuf;

use crate::{
    config::Config,
    credential::{BrokerSettings, RotationInterval, TokenSources},
    model::Cause,
    notify::Notify,
    supervisor::{Handle, Reloaded},
};

/// Knows where the config is and who takes it.
pub struct Reloader {
    /// The config file.
    pub config_file: PathBuf,
    /// Takes sessions and limits.
    pub sessions: Handle,
}
