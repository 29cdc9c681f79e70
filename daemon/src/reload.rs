//! Reads config and token again, for SIGHUP and the control API alike: on a task of its own,
//! one at a time. Who asks while one runs gets the next, and all who do share that.

use std::{
    env,
    future::Future,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    config::{self, Config},
    credential::{Broker, BrokerSettings, RotationInterval, TokenSources},
    journal::{Journal, Kind},
    model::Cause,
    platform::file,
    postgres::{UpstreamTls, UpstreamTlsError, UpstreamTlsMode},
    service_manager::notify,
    state::LoginStore,
    supervisor::{self, Reloaded},
};

/// More than any bundle of certificates has.
const LONGEST_CA: u64 = 4 << 20;

/// How many may wait for one reload; more wait until there is room.
const WAITING: usize = 16;

/// Asks for reloads; cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle(mpsc::Sender<Option<Reply>>);

type Reply = oneshot::Sender<Result<Reloaded, Cause>>;

/// Reloads when it is asked to.
pub struct Reloader {
    parts: Parts,
    asked: mpsc::Receiver<Option<Reply>>,
}

/// Where the config is, and who takes what is read.
pub struct Parts {
    /// The config file.
    pub config_file: PathBuf,
    /// Takes sessions and limits.
    pub sessions: supervisor::Handle,
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
    /// Takes whether the desktop is told.
    pub notify: watch::Sender<bool>,
    /// Takes what open connections get when the daemon stops.
    pub shutdown_grace: watch::Sender<Duration>,
    /// The config that is in force.
    pub config: ConfigInForce,
}

/// The config that was taken last.
#[derive(Debug)]
pub struct ConfigInForce(Mutex<Config>);

/// Why there can be no TLS to the database as the config wants it.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamTlsProblem {
    /// The certificates to check the database's with.
    #[error("upstream_ca: {path} {problem}", path = .path.display())]
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

// === impl Handle ===

impl Handle {
    /// Reads the config and the token again, after a reload that is under way. Sessions that
    /// are declared as before are not touched. Dropping the future doesn't end the reload.
    ///
    /// # Errors
    /// `ConfigInvalid`; what was in force stays so. `DaemonStopping`.
    pub async fn reload(&self) -> Result<Reloaded, Cause> {
        let (reply, answer) = oneshot::channel();
        self.0
            .send(Some(reply))
            .await
            .map_err(|_| Cause::DaemonStopping)?;
        answer.await.unwrap_or(Err(Cause::DaemonStopping))
    }

    /// The same for one who reads the log.
    pub fn request(&self) {
        // Where there is no room, those who wait get the reload that this one wants.
        let _ = self.0.try_send(None);
    }
}

// === impl ConfigInForce ===

impl ConfigInForce {
    /// The one that the daemon starts with.
    pub fn new(config: Config) -> Self {
        Self(Mutex::new(config))
    }

    /// Takes another one; answers the one before.
    fn replace(&self, config: Config) -> Config {
        let mut now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut now, config)
    }
}

// === impl Reloader ===

impl Reloader {
    /// Reloads what these parts name, once it runs.
    pub fn new(parts: Parts) -> (Handle, Self) {
        let (ask, asked) = mpsc::channel(WAITING);
        (Handle(ask), Self { parts, asked })
    }

    /// Reloads until nobody can ask any more. Dropping it gives up the reload under way.
    pub async fn run(self) {
        let Self { parts, asked } = self;
        serve(asked, || parts.reload()).await;
    }
}

/// Does the work once for all who have asked before it begins.
async fn serve<F>(mut asked: mpsc::Receiver<Option<Reply>>, work: impl Fn() -> F)
where
    F: Future<Output = Result<Reloaded, Cause>>,
{
    while let Some(first) = asked.recv().await {
        let mut waiting = vec![first];
        while let Ok(next) = asked.try_recv() {
            waiting.push(next);
        }
        let outcome = work().await;
        for reply in waiting.into_iter().flatten() {
            // Who asked may have gone.
            let _ = reply.send(outcome.clone());
        }
    }
}

// === impl Parts ===

impl Parts {
    async fn reload(&self) -> Result<Reloaded, Cause> {
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
        let before = self.config.replace(config.clone());
        self.upstream_tls
            .send_modify(|before| *before = tls.after(before));
        self.notify.send_replace(config.notify);
        self.shutdown_grace.send_replace(config.shutdown_grace);
        let later = later(&before, &config);
        let reloaded = self.sessions.reload(config).await?;
        Ok(Reloaded { later, ..reloaded })
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

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, UpstreamTlsProblem> {
    let bad = |problem: String| UpstreamTlsProblem::Ca {
        path: path.to_owned(),
        problem,
    };
    let pem = file::read(path, LONGEST_CA)
        .map_err(|refused| bad(refused.to_string()))?
        .ok_or_else(|| bad("doesn't exist".into()))?;
    CertificateDer::pem_slice_iter(&pem.bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| bad(error.to_string()))
}

/// A sentence for each changed key that does not reach everything that runs.
fn later(before: &Config, now: &Config) -> Vec<String> {
    let keys = [
        (
            before.keepalive != now.keepalive,
            "[keepalive] holds for SSH connections that are made from now on",
        ),
        (
            before.upstream_tls != now.upstream_tls,
            "upstream_tls and upstream_ca hold for connections to databases that are made from now on",
        ),
        (
            before.port_range != now.port_range,
            "port_range holds for sessions that get their first port from now on",
        ),
        (
            before.max_connections > now.max_connections,
            "max_connections holds for connections that come from now on",
        ),
        (
            before.connect_timeout != now.connect_timeout,
            "connect_timeout holds for connections that come from now on",
        ),
    ];
    let changed = keys.into_iter().filter(|(differs, _)| *differs);
    changed.map(|(_, sentence)| sentence.to_owned()).collect()
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::sync::Semaphore;

    use super::*;

    /// Asked three times during the first reload: done once more, for all three.
    #[tokio::test]
    async fn reloads_run_one_at_a_time_and_are_shared_by_those_who_wait() {
        let (ask, asked) = mpsc::channel(WAITING);
        let handle = Handle(ask);
        let go_on = Arc::new(Semaphore::new(0));
        let (begun, mut begins) = mpsc::channel(4);
        let runs = Arc::new(AtomicU32::new(0));
        let serving = {
            let (go_on, runs) = (Arc::clone(&go_on), Arc::clone(&runs));
            serve(asked, move || {
                let (go_on, begun) = (Arc::clone(&go_on), begun.clone());
                let number = runs.fetch_add(1, Ordering::Relaxed) + 1;
                async move {
                    begun.send(number).await.unwrap();
                    go_on.acquire().await.unwrap().forget();
                    Err(Cause::InvalidRequest {
                        problem: number.to_string(),
                    })
                }
            })
        };
        let serving = tokio::spawn(serving);
        handle.request();
        assert_eq!(begins.recv().await, Some(1));
        handle.request();
        let asking = async { tokio::join!(handle.reload(), handle.reload()) };
        let releasing = async {
            go_on.add_permits(1);
            assert_eq!(begins.recv().await, Some(2));
            go_on.add_permits(1);
        };
        let ((one, other), ()) = tokio::join!(asking, releasing);
        assert_eq!(
            (one.unwrap_err().to_string(), other.unwrap_err().to_string()),
            ("2".into(), "2".into())
        );
        assert_eq!(runs.load(Ordering::Relaxed), 2);
        drop(handle);
        serving.await.unwrap();
    }

    #[tokio::test]
    async fn a_reload_that_is_given_up_answers() {
        let (ask, asked) = mpsc::channel(WAITING);
        let handle = Handle(ask);
        let (begun, mut begins) = mpsc::channel(1);
        let serving = tokio::spawn(serve(asked, move || {
            let begun = begun.clone();
            async move {
                begun.send(()).await.unwrap();
                std::future::pending().await
            }
        }));
        let asking = tokio::spawn(async move { handle.reload().await });
        begins.recv().await.unwrap();
        serving.abort();
        assert!(matches!(asking.await.unwrap(), Err(Cause::DaemonStopping)));
    }

    #[test]
    fn a_reload_says_what_does_not_reach_all_that_runs() {
        let before = Config::default();
        assert_eq!(later(&before, &before), [""; 0]);
        let mut now = before.clone();
        now.keepalive.interval = Duration::from_secs(9);
        now.max_connections += 1;
        now.warm_connections += 1;
        now.shutdown_grace += Duration::from_secs(1);
        assert!(matches!(&later(&before, &now)[..], [one] if one.contains("[keepalive]")));
    }
}
