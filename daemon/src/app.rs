//! Builds the daemon's parts, joins them, and takes them down in order.

use std::{
    env,
    future::Future,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use borealis_proto::{trust, v1};
use futures_util::StreamExt as _;
use jiff::Timestamp;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook_tokio::Signals;
use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::{Instant, timeout, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    config::{Config, ConfigError, Settings},
    control::{self, About, ClaimError, Services, Socket},
    credential::{Broker, SignIn},
    doctor::Doctor,
    journal::{Journal, Kind},
    metrics, notifications,
    platform::{
        clock::{self, UnusableClock},
        descriptors, memory, network,
    },
    postgres::{LocalTls, UpstreamTls},
    provider::{EndpointError, Endpoints, Limits, Provider, SetupError},
    reload::{self, Reloader, UpstreamTlsProblem, broker_settings},
    service_manager::{activation::Inherited, notify},
    session::{self, Environment},
    state::{self, ClientFiles, EventWriter, OpenError, State},
    supervisor,
    tunnels::Pools,
    watchdog,
};

/// What the removal of grants gets at the end.
const GRANT_LIMIT: Duration = Duration::from_secs(8);
/// What clients of the control API get to hear the last answers.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);
/// What stopping takes at most beyond `shutdown_grace`, all parts together.
const END_LIMIT: Duration = Duration::from_secs(
    session::END_LIMIT.as_secs() + GRANT_LIMIT.as_secs() + ANSWER_LIMIT.as_secs(),
);

/// Why the daemon can't start, or ended without having been asked to.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each variant's text says what it means")]
pub enum RunError {
    #[error("{0}")]
    Config(#[from] ConfigError),
    #[error("{0}")]
    Clock(#[from] UnusableClock),
    #[error("{0}")]
    State(#[from] OpenError),
    #[error("{0}")]
    Socket(#[from] ClaimError),
    #[error("{0}")]
    Endpoint(#[from] EndpointError),
    #[error("HTTPS can't be set up: {0}")]
    Provider(#[from] SetupError),
    #[error("{0}")]
    UpstreamTls(#[from] UpstreamTlsProblem),
    #[error("can't make {path}: {error}", path = .path.display())]
    RuntimeDir { path: PathBuf, error: io::Error },
    #[error(
        "the runtime directory {path} is not safe: every user may write {exposed}; take that right away with `chmod o-w {exposed}`, or set XDG_RUNTIME_DIR to another",
        path = .path.display(), exposed = .exposed.display()
    )]
    RuntimeDirExposed { path: PathBuf, exposed: PathBuf },
    #[error("signals can't be received: {0}")]
    Signals(io::Error),
    #[error("{part} ended, without which borealisd is of no use: {why}")]
    PartEnded { part: &'static str, why: String },
}

impl RunError {
    /// What the process ends with: 2 where only the user can mend it, by a word in the config
    /// file or in the environment, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_)
            | Self::Endpoint(_)
            | Self::UpstreamTls(UpstreamTlsProblem::Ca { .. })
            | Self::RuntimeDirExposed { .. }
            | Self::Socket(ClaimError::NotOurs { .. } | ClaimError::Exposed { .. }) => 2,
            Self::Clock(_)
            | Self::State(_)
            | Self::Socket(_)
            | Self::Provider(_)
            | Self::UpstreamTls(_)
            | Self::RuntimeDir { .. }
            | Self::Signals(_)
            | Self::PartEnded { .. } => 1,
        }
    }
}

/// Runs the daemon until a signal or a client stops it, on the listeners that it was handed
/// where they fit.
///
/// # Errors
/// Why it can't start, or which part ended that it can't do without. It has drained then.
pub async fn run(settings: Settings, inherited: Inherited) -> Result<(), RunError> {
    descriptors::raise();
    memory::keep_to_this_process();
    let signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(RunError::Signals)?;
    let parts = Parts::build(&settings, inherited).await?;
    let mut running = parts.spawn();
    tracing::info!(socket = %settings.socket.display(), version = env!("CARGO_PKG_VERSION"), "borealisd is ready");
    notify::ready();
    let ended = running.until_the_end(signals).await;
    if let Err(error) = &ended {
        tracing::error!("{error}");
    }
    running.drain().await;
    ended
}

/// What the daemon is made of, before anything is served.
struct Parts {
    socket: Socket,
    services: Services,
    reloader: Reloader,
    metrics_listen: watch::Receiver<Option<SocketAddr>>,
    notify: watch::Receiver<bool>,
    shutdown_grace: watch::Receiver<Duration>,
    events: EventWriter,
}

/// The daemon while it runs.
struct Running {
    sessions: supervisor::Handle,
    broker: Arc<Broker>,
    journal: Journal,
    reload: reload::Handle,
    shutdown: CancellationToken,
    shutdown_grace: watch::Receiver<Duration>,
    /// Writes the last events when it is dropped.
    events: EventWriter,
    /// The daemon can do without.
    _notifications: AbortOnDropHandle<()>,
    /// The tasks without which it is of no use, except the control server.
    essential: Essential,
    serving: JoinHandle<Result<(), control::ServeError>>,
    stop_serving: CancellationToken,
}

/// Tasks that end with the daemon and not before.
#[derive(Default)]
struct Essential(JoinSet<RunError>);

// === impl Parts ===

impl Parts {
    /// Takes the state directory first: who has its lock may take over what an earlier daemon
    /// left, such as its control socket. Answers once the sessions' listeners are bound.
    async fn build(settings: &Settings, mut inherited: Inherited) -> Result<Self, RunError> {
        let now = clock::time_of_day()?;
        let config = Config::load(&settings.config_file)?;
        let paths = &settings.paths;
        let state = State::open(&paths.state_dir, now)?;
        let socket = Socket::claim(
            &settings.socket,
            &mut inherited,
            state.lock.earlier_socket(),
        )
        .await?;
        announce(&state, &settings.socket);
        make_runtime_dir(&paths.runtime_dir)?;
        let endpoints = Endpoints::from_variables(|name| env::var(name).ok())?;
        let machine = endpoints.netrc_machine().to_owned();
        let provider = Provider::new(endpoints, Limits::default())?;
        let broker = Broker::new(provider, broker_settings(&config, &state.login, &machine));
        let journal = state.journal.clone();
        journal.record(
            Kind::DaemonStarted,
            concat!("(", env!("CARGO_PKG_VERSION"), ")"),
        );
        let upstream_tls = watch::Sender::new(reload::upstream_tls(&config.upstream_tls)?);
        let (shutdown_grace, grace_of_now) = watch::channel(config.shutdown_grace);
        let (notify, notify_of_now) = watch::channel(config.notify);
        let live = supervisor::LiveSettings::new(&config);
        let in_force = reload::ConfigInForce::new(config.clone());
        let keepalive = live.keepalive();
        let (metrics, metrics_listen) = watch::channel(config.metrics_listen);
        let about = about(settings, &state);
        let environment = environment(&live, &state, &broker, &journal, upstream_tls.subscribe());
        let sessions = supervisor::spawn(supervisor::Setup {
            config,
            environment,
            live,
            saved: state.saved,
            store: state.sessions,
            passwords: state.passwords,
            client_files: ClientFiles::new(&paths.runtime_dir),
            runtime_dir: paths.runtime_dir.clone(),
            inherited,
        })
        .await;
        let tls_of_now = upstream_tls.subscribe();
        let (reload, reloader) = Reloader::new(reload::Parts {
            config_file: settings.config_file.clone(),
            sessions: sessions.clone(),
            broker: Arc::clone(&broker),
            login: state.login.clone(),
            journal: journal.clone(),
            metrics,
            upstream_tls,
            notify,
            shutdown_grace,
            config: in_force,
        });
        let services = Services {
            metrics: gather(&sessions, &broker, about.started_at),
            doctor: Doctor {
                broker: Arc::clone(&broker),
                sessions: sessions.clone(),
                upstream_tls: tls_of_now,
                keepalive,
                config_file: settings.config_file.clone(),
                state_dir: paths.state_dir.clone(),
                runtime_dir: paths.runtime_dir.clone(),
            },
            sign_in: Arc::new(SignIn::new(Arc::clone(&broker), state.login)),
            sessions,
            broker,
            about,
            reload,
            journal,
            shutdown: CancellationToken::new(),
        };
        Ok(Self {
            socket,
            services,
            reloader,
            metrics_listen,
            notify: notify_of_now,
            shutdown_grace: grace_of_now,
            events: state.event_writer,
        })
    }

    /// Starts the tasks.
    fn spawn(self) -> Running {
        let services = self.services;
        let (sessions, broker) = (services.sessions.clone(), Arc::clone(&services.broker));
        let journal = services.journal.clone();
        let mut essential = Essential::default();
        essential.add("the watch on the Heroku token", {
            let (broker, journal) = (Arc::clone(&broker), journal.clone());
            async move { tokio::join!(broker.follow_token(), tell_of_tokens(&broker, &journal)) }
        });
        essential.add(
            "the metrics' server",
            metrics::serve(
                self.metrics_listen,
                Arc::clone(&services.metrics),
                journal.clone(),
            ),
        );
        essential.add(
            "the service manager's watch",
            watchdog::report(sessions.clone()),
        );
        essential.add("the reload of the config", self.reloader.run());
        let notifications = notifications::tell(sessions.clone(), self.notify);
        let stop_serving = CancellationToken::new();
        Running {
            sessions,
            broker,
            journal,
            reload: services.reload.clone(),
            shutdown: services.shutdown.clone(),
            shutdown_grace: self.shutdown_grace,
            events: self.events,
            _notifications: AbortOnDropHandle::new(tokio::spawn(notifications)),
            essential,
            serving: tokio::spawn(control::serve(
                self.socket,
                services,
                stop_serving.clone().cancelled_owned(),
            )),
            stop_serving,
        }
    }
}

// === impl Running ===

impl Running {
    /// Returns when the daemon is to drain. From then on a second signal ends the process at
    /// once: who sends it doesn't want to wait.
    async fn until_the_end(&mut self, mut signals: Signals) -> Result<(), RunError> {
        let ended = loop {
            tokio::select! {
                () = self.shutdown.cancelled() => break Ok(()),
                signal = signals.next() => match signal {
                    // What comes of it is in the log.
                    Some(SIGHUP) => self.reload.request(),
                    Some(_) | None => break Ok(()),
                },
                error = self.essential.ended() => break Err(error),
                () = self.sessions.ended() => break Err(RunError::PartEnded {
                    part: "the supervisor of the sessions",
                    why: "see the lines above".into(),
                }),
                served = &mut self.serving => break Err(RunError::PartEnded {
                    part: "the control API's server",
                    why: why_ended(served),
                }),
            }
        };
        tokio::spawn(async move {
            while let Some(signal) = signals.next().await {
                if signal != SIGHUP {
                    tracing::warn!("second signal: ending at once");
                    std::process::exit(128 + signal);
                }
            }
        });
        ended
    }

    async fn drain(self) {
        tracing::info!("stopping");
        self.journal.record(Kind::DaemonStopping, "");
        // One deadline for all of it, from which each part's own follows.
        let grace_ends = Instant::now() + *self.shutdown_grace.borrow();
        let end = grace_ends + END_LIMIT;
        notify::stopping(end - Instant::now());
        // A reload under way is given up, and the token that it reads with it.
        drop(self.essential);
        let sessions_end = end - GRANT_LIMIT - ANSWER_LIMIT;
        let stopping = self.sessions.stop(grace_ends);
        if timeout_at(sessions_end, stopping).await.is_err() {
            tracing::error!("sessions did not end in time");
        }
        self.broker.drain(end - ANSWER_LIMIT - Instant::now()).await;
        self.stop_serving.cancel();
        if !self.serving.is_finished() {
            // Streams of clients that still watch must not keep the daemon.
            let _ = timeout(ANSWER_LIMIT, self.serving).await;
        }
        drop(self.events);
        tracing::info!("stopped");
    }
}

// === impl Essential ===

impl Essential {
    fn add<T: Send + 'static>(
        &mut self,
        part: &'static str,
        task: impl Future<Output = T> + Send + 'static,
    ) {
        let task = AbortOnDropHandle::new(tokio::spawn(task));
        self.0.spawn(async move {
            let ended = task.await.map(|_| Ok::<_, String>(()));
            RunError::PartEnded {
                part,
                why: why_ended(ended),
            }
        });
    }

    /// Which one has ended. Never returns while all run.
    async fn ended(&mut self) -> RunError {
        match self.0.join_next().await {
            Some(Ok(error)) => error,
            Some(Err(error)) => RunError::PartEnded {
                part: "a task",
                why: error.to_string(),
            },
            None => std::future::pending().await,
        }
    }
}

/// A panic's message is in the log already, written by the panic hook.
fn why_ended<E: ToString>(ended: Result<Result<(), E>, tokio::task::JoinError>) -> String {
    match ended {
        Ok(Ok(())) => "it returned".into(),
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    }
}

/// Clients without the variables that this daemon was started with find it there.
fn announce(state: &State, socket: &Path) {
    if let Err(error) = state.lock.announce(socket) {
        tracing::warn!(%error, "the state directory can't say where the control socket is");
    }
}

fn make_runtime_dir(path: &Path) -> Result<(), RunError> {
    let failed = |error| RunError::RuntimeDir {
        path: path.to_owned(),
        error,
    };
    state::private_dir(path).map_err(failed)?;
    match trust::exposed(path).map_err(failed)? {
        None => Ok(()),
        Some(exposed) => Err(RunError::RuntimeDirExposed {
            path: path.to_owned(),
            exposed,
        }),
    }
}

fn environment(
    live: &supervisor::LiveSettings,
    state: &State,
    broker: &Arc<Broker>,
    journal: &Journal,
    upstream_tls: watch::Receiver<UpstreamTls>,
) -> Environment {
    let tls = state.tls.clone();
    Environment {
        broker: Arc::clone(broker),
        pools: Pools::new(Arc::clone(broker), live.keepalive()),
        journal: journal.clone(),
        limits: live.limits(),
        network: network::watch(),
        upstream_tls,
        local_tls: Arc::new(move || {
            let identity = tls.identity(clock::timestamp());
            LocalTls::from_config(Arc::clone(&identity.server_config), &identity.certificate)
        }),
    }
}

fn gather(
    sessions: &supervisor::Handle,
    broker: &Arc<Broker>,
    started_at: Timestamp,
) -> Arc<dyn Fn() -> String + Send + Sync> {
    let (watch, broker) = (sessions.watch(), Arc::clone(broker));
    Arc::new(move || metrics::gather(&watch.borrow(), &broker, started_at))
}

/// Never ends.
async fn tell_of_tokens(broker: &Broker, journal: &Journal) {
    let mut changed = broker.token_changed();
    while changed.changed().await.is_ok() {
        journal.record(Kind::TokenChanged, "");
    }
}

fn about(settings: &Settings, state: &State) -> About {
    let problem = |problem: &state::Problem| v1::Failure {
        code: problem.code.into(),
        class: v1::FailureClass::Operation.into(),
        message: problem.sentence.clone(),
        hint: problem.hint.clone(),
    };
    for found in &state.problems {
        tracing::warn!(problem = %found.sentence, "found at the start");
    }
    About {
        started_at: clock::timestamp(),
        socket: settings.socket.clone(),
        config_file: settings.config_file.clone(),
        state_dir: settings.paths.state_dir.clone(),
        runtime_dir: settings.paths.runtime_dir.clone(),
        ca_file: state.tls.ca_file().to_owned(),
        problems: state.problems.iter().map(problem).collect(),
    }
}

#[cfg(test)]
mod tests {
    use borealis_proto::paths::Paths;

    use super::*;
    use crate::log::LogFormat;

    /// A daemon in a directory of its own.
    async fn daemon(dir: &Path) -> Running {
        let at = |name: &str| dir.join(name);
        let settings = Settings {
            socket: at("run/control.sock"),
            config_file: at("config.toml"),
            log_format: LogFormat::default(),
            verbosity: 0,
            paths: Paths {
                config_dir: at(""),
                state_dir: at("state"),
                runtime_dir: at("run"),
            },
        };
        let parts = Parts::build(&settings, Inherited::default()).await;
        parts.unwrap().spawn()
    }

    #[tokio::test]
    async fn the_end_of_the_control_server_or_of_the_supervisor_is_the_daemons() {
        let parts = ["the control API's server", "the supervisor of the sessions"];
        for part in parts {
            let dir = tempfile::tempdir().unwrap();
            let mut daemon = daemon(dir.path()).await;
            if part == parts[0] {
                daemon.serving.abort();
            } else {
                daemon.sessions.stop(Instant::now()).await;
            }
            let signals = Signals::new([SIGHUP]).unwrap();
            let ended = timeout(Duration::from_secs(10), daemon.until_the_end(signals)).await;
            let error = ended.expect("an end in time").unwrap_err();
            assert!(error.to_string().starts_with(part), "{error}");
            assert_eq!(error.exit_code(), 1);
            daemon.drain().await;
            assert!(!dir.path().join("run/control.sock").exists(), "{part}");
        }
    }

    #[tokio::test]
    async fn the_end_of_an_essential_task_is_told_with_its_name() {
        let mut essential = Essential::default();
        essential.add("the one that goes on", std::future::pending::<()>());
        let waiting = tokio::time::timeout(Duration::ZERO, essential.ended());
        assert!(waiting.await.is_err(), "all run");
        essential.add("the one that returns", async {});
        let error = essential.ended().await;
        assert_eq!(error.exit_code(), 1);
        assert_eq!(
            error.to_string(),
            "the one that returns ended, without which borealisd is of no use: it returned"
        );
        essential.add("the one that panics", async { panic!("on purpose") });
        let error = essential.ended().await.to_string();
        assert!(error.starts_with("the one that panics ended"), "{error}");
        assert!(error.contains("panicked"), "{error}");
    }
}
