//! Reads config and token again, for SIGHUP and the control API alike.

use std::{env, net::SocketAddr, path::PathBuf, sync::Arc};

use tokio::sync::watch;

use crate::{
    config::Config,
    credential::{Broker, BrokerSettings, RotationInterval, TokenSources},
    journal::{Journal, Kind},
    model::Cause,
    service_manager::notify,
    state::LoginStore,
    supervisor::{Handle, Reloaded},
};

/// Knows where the config is and who takes it.
pub struct Reloader {
    /// The config file.
    pub config_file: PathBuf,
    /// Takes sessions and limits.
    pub sessions: Handle,
    /// Takes token and rotation.
    pub broker: Arc<Broker>,
    /// Where the token may be kept.
    pub login: LoginStore,
    /// Where it is told what came of it.
    pub journal: Journal,
    /// Takes the address that metrics are served at.
    pub metrics: watch::Sender<Option<SocketAddr>>,
}

// === impl Reloader ===

impl Reloader {
    /// Reads the config and the token again. Sessions that are declared as before are not
    /// touched.
    ///
    /// # Errors
    /// `ConfigInvalid`; what was in force stays so.
    pub async fn reload(&self) -> Result<Reloaded, Cause> {
        notify::reloading();
        let reloaded = self.read().await;
        match &reloaded {
            Ok(changes) => {
                tracing::info!(opened = ?changes.opened, closed = ?changes.closed, changed = ?changes.changed, "reloaded");
                self.journal.record(Kind::Reloaded, "");
            }
            Err(cause) => {
                tracing::error!(%cause, "not reloaded");
                self.journal.failure(None, Kind::ConfigRefused, cause);
            }
        }
        notify::ready();
        reloaded
    }

    async fn read(&self) -> Result<Reloaded, Cause> {
        let config = Config::load(&self.config_file).map_err(|error| Cause::ConfigInvalid {
            problem: error.to_string(),
        })?;
        let machine = self.broker.provider().endpoints().netrc_machine();
        let settings = broker_settings(&config, &self.login, machine);
        if let Err(cause) = self.broker.reload(settings).await {
            // No reason to keep the rest of the config away.
            tracing::warn!(%cause, "no token");
        }
        self.metrics.send_if_modified(|listen| {
            let before = std::mem::replace(listen, config.metrics_listen);
            before != *listen
        });
        self.sessions.reload(config).await
    }
}

/// What the broker takes from config and environment.
pub(crate) fn broker_settings(
    config: &Config,
    login: &LoginStore,
    machine: &str,
) -> BrokerSettings {
    let home = directories::BaseDirs::new().map(|dirs| dirs.home_dir().to_owned());
    let tokens = TokenSources::from_environment(
        |name| env::var(name).ok(),
        home,
        login.clone(),
        config.token_command.clone(),
        machine,
    );
    let rotation = match config.rotation.interval {
        Some(interval) => RotationInterval::Every(interval),
        None => RotationInterval::Never,
    };
    BrokerSettings { tokens, rotation }
}
