//! Reads config and token again, for SIGHUP and the control API alike.

use std::{
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use tokio::sync::watch;

use crate::{
    config::{self, Config},
    credential::{Broker, BrokerSettings, RotationInterval, TokenSources},
    journal::{Journal, Kind},
    model::Cause,
    postgres::{UpstreamTls, UpstreamTlsError, UpstreamTlsMode},
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
    /// Takes what connections to the database do for TLS.
    pub upstream_tls: watch::Sender<UpstreamTls>,
    /// Takes what open connections get when the daemon stops.
    pub shutdown_grace: watch::Sender<Duration>,
}

/// Why there can be no TLS to the database as the config wants it.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamTlsProblem {
    /// The certificates to check the database's with.
    #[error("upstream_ca: {path}: {problem}", path = .path.display())]
    Ca {
        /// Their file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// TLS itself.
    #[error("TLS to the database can't be set up: {0}")]
    Tls(#[from] UpstreamTlsError),
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
        let tls = config.upstream_tls.clone();
        let tls = tokio::task::spawn_blocking(move || upstream_tls(&tls)).await;
        let tls = match tls {
            Ok(made) => made.map_err(|problem| Cause::ConfigInvalid {
                problem: problem.to_string(),
            })?,
            Err(error) => {
                return Err(Cause::Internal {
                    detail: error.to_string(),
                });
            }
        };
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
        self.upstream_tls.send_replace(tls);
        self.shutdown_grace.send_replace(config.shutdown_grace);
        self.sessions.reload(config).await
    }
}

/// TLS to the database as the config wants it. Blocks on the disk.
///
/// # Errors
/// Where the certificates can't be read, or TLS can't be set up with them.
pub(crate) fn upstream_tls(
    config: &config::UpstreamTls,
) -> Result<UpstreamTls, UpstreamTlsProblem> {
    let mode = match config {
        config::UpstreamTls::Prefer => UpstreamTlsMode::Prefer,
        config::UpstreamTls::Require => UpstreamTlsMode::Require,
        config::UpstreamTls::Disable => UpstreamTlsMode::Disable,
        config::UpstreamTls::VerifyCa { ca_file } => {
            UpstreamTlsMode::VerifyCa(certificates(ca_file)?)
        }
    };
    Ok(UpstreamTls::new(mode)?)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, UpstreamTlsProblem> {
    let bad = |problem: String| UpstreamTlsProblem::Ca {
        path: file.to_owned(),
        problem,
    };
    let pem = fs::read(file).map_err(|error| bad(error.to_string()))?;
    CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| bad(error.to_string()))
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
