//! Builds the daemon's parts, joins them, and takes them down in order.

use std::{env, io, path::PathBuf, sync::Arc, time::Duration};

use borealis_proto::v1;
use futures_util::StreamExt as _;
use jiff::Timestamp;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook_tokio::Signals;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    config::{Config, ConfigError, Settings},
    control::{self, About, ClaimError, Services, Socket},
    credential::{Broker, SignIn},
    doctor::Doctor,
    journal::{Journal, Kind},
    metrics,
    platform::descriptors,
    platform::network,
    postgres::LocalTls,
    provider::{EndpointError, Endpoints, Limits, Provider, SetupError},
    reload::{self, Reloader, UpstreamTlsProblem, broker_settings},
    service_manager::{activation::Inherited, notify},
    session::Environment,
    state::{self, ClientFiles, OpenError, State},
    supervisor, watchdog,
};

/// What the removal of grants gets at the end.
const GRANT_LIMIT: Duration = Duration::from_secs(8);

/// Why the daemon can't start.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each variant's text says what it means")]
pub enum StartError {
    #[error("{0}")]
    Config(#[from] ConfigError),
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
    #[error("signals can't be received: {0}")]
    Signals(io::Error),
    #[error("the control API can't be served: {0}")]
    Control(String),
}

impl StartError {
    /// What the process ends with: 2 where only the user can mend it, by a word in the config
    /// file or in the environment, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_)
            | Self::Endpoint(_)
            | Self::UpstreamTls(UpstreamTlsProblem::Ca { .. }) => 2,
            Self::State(_)
            | Self::Socket(_)
            | Self::Provider(_)
            | Self::UpstreamTls(_)
            | Self::RuntimeDir { .. }
            | Self::Signals(_)
            | Self::Control(_) => 1,
        }
    }
}

/// Runs the daemon until a signal or a client stops it, on the listeners that it was handed
/// where they fit.
///
/// # Errors
/// Why it can't start. Once it runs it ends well.
pub async fn run(settings: Settings, mut inherited: Inherited) -> Result<(), StartError> {
    descriptors::raise();
    let signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(StartError::Signals)?;
    let config = Config::load(&settings.config_file)?;
    let paths = &settings.paths;
    let socket = Socket::claim(&settings.socket, &mut inherited).await?;
    let state = State::open(&paths.state_dir, Timestamp::now())?;
    state::private_dir(&paths.runtime_dir).map_err(|error| StartError::RuntimeDir {
        path: paths.runtime_dir.clone(),
        error,
    })?;
    let endpoints = Endpoints::from_variables(|name| env::var(name).ok())?;
    let machine = endpoints.netrc_machine().to_owned();
    let provider = Provider::new(endpoints, Limits::default())?;
    let broker = Broker::new(provider, broker_settings(&config, &state.login, &machine));
    let (shutdown_grace, grace_of_now) = watch::channel(config.shutdown_grace);
    let journal = Journal::new();
    journal.record(
        Kind::DaemonStarted,
        concat!("(", env!("CARGO_PKG_VERSION"), ")"),
    );
    let upstream_tls = watch::Sender::new(reload::upstream_tls(&config.upstream_tls)?);
    let tls_of_now = upstream_tls.subscribe();
    let live = supervisor::LiveSettings::new(&config);
    let keepalive = live.keepalive();
    let (metrics_listen, listen) = watch::channel(config.metrics_listen);

    let environment = Environment {
        broker: Arc::clone(&broker),
        journal: journal.clone(),
        limits: live.limits(),
        keepalive: live.keepalive(),
        network: network::watch(),
        upstream_tls: upstream_tls.subscribe(),
        local_tls: {
            let tls = state.tls.clone();
            Arc::new(move || {
                let identity = tls.identity(Timestamp::now());
                LocalTls::from_config(Arc::clone(&identity.server_config), &identity.certificate)
            })
        },
    };
    let about = about(&settings, &state);
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
    let reloader = Arc::new(Reloader {
        config_file: settings.config_file.clone(),
        sessions: sessions.clone(),
        broker: Arc::clone(&broker),
        login: state.login.clone(),
        journal: journal.clone(),
        metrics: metrics_listen,
        upstream_tls,
        shutdown_grace,
    });
    let gather: Arc<dyn Fn() -> String + Send + Sync> = {
        let (watch, broker) = (sessions.watch(), Arc::clone(&broker));
        let started_at = about.started_at;
        Arc::new(move || metrics::gather(&watch.borrow(), &broker, started_at))
    };
    let background = tokio::spawn({
        let (broker, journal) = (Arc::clone(&broker), journal.clone());
        let serving = metrics::serve(listen, Arc::clone(&gather), journal.clone());
        async move {
            tokio::join!(
                broker.follow_token(),
                tell_of_tokens(&broker, &journal),
                serving
            )
        }
    });

    let shutdown = CancellationToken::new();
    let stop_serving = CancellationToken::new();
    let services = Services {
        sessions: sessions.clone(),
        broker: Arc::clone(&broker),
        about,
        reloader: Arc::clone(&reloader),
        doctor: Doctor {
            broker: Arc::clone(&broker),
            sessions: sessions.clone(),
            upstream_tls: tls_of_now,
            keepalive,
            config_file: settings.config_file.clone(),
            state_dir: paths.state_dir.clone(),
            runtime_dir: paths.runtime_dir.clone(),
        },
        metrics: gather,
        journal: journal.clone(),
        sign_in: Arc::new(SignIn::new(Arc::clone(&broker), state.login)),
        shutdown: shutdown.clone(),
    };
    let serving = tokio::spawn(control::serve(
        socket,
        services,
        stop_serving.clone().cancelled_owned(),
    ));
    tracing::info!(socket = %settings.socket.display(), version = env!("CARGO_PKG_VERSION"), "borealisd is ready");
    notify::ready();
    let reporting = tokio::spawn(watchdog::report(sessions.clone()));

    wait_for_the_end(signals, &shutdown, &reloader).await;

    tracing::info!("stopping");
    journal.record(Kind::DaemonStopping, "");
    let shutdown_grace = *grace_of_now.borrow();
    notify::stopping(shutdown_grace + GRANT_LIMIT);
    reporting.abort();
    background.abort();
    sessions.stop(shutdown_grace).await;
    broker.drain(GRANT_LIMIT).await;
    stop_serving.cancel();
    // Streams of clients that still watch must not keep the daemon.
    let _ = tokio::time::timeout(Duration::from_secs(1), serving).await;
    tracing::info!("stopped");
    Ok(())
}

/// Returns when the daemon is to drain. From then on a second signal ends the process at
/// once: who sends it doesn't want to wait.
async fn wait_for_the_end(mut signals: Signals, shutdown: &CancellationToken, reloader: &Reloader) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            signal = signals.next() => match signal {
                // What came of it is in the log.
                Some(SIGHUP) => drop(reloader.reload().await),
                Some(_) | None => break,
            }
        }
    }
    tokio::spawn(async move {
        while let Some(signal) = signals.next().await {
            if signal != SIGHUP {
                tracing::warn!("second signal: ending at once");
                std::process::exit(128 + signal);
            }
        }
    });
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
        started_at: Timestamp::now(),
        socket: settings.socket.clone(),
        config_file: settings.config_file.clone(),
        state_dir: settings.paths.state_dir.clone(),
        runtime_dir: settings.paths.runtime_dir.clone(),
        ca_file: state.tls.ca_file().to_owned(),
        problems: state.problems.iter().map(problem).collect(),
    }
}
