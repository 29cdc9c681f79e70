//! The provider to develop against: both HTTP APIs, an SSH bastion and a real PostgreSQL,
//! with faults on demand. Everything listens on 127.0.0.1 unless told otherwise, lives in a
//! temporary directory and ends with the [`Sandbox`]; several run side by side.
//!
//! ```no_run
//! # async fn example() -> Result<(), borealis_tests::sandbox::SandboxError> {
//! use borealis_tests::sandbox::{Action, BastionAction, Fault, Options, Sandbox};
//!
//! let sandbox = Sandbox::start(Options::default()).await?;
//! for (name, value) in sandbox.environment() { /* set it for borealisd */ }
//! sandbox.faults().add(Fault::on("personal-db-users", Action::status(503)).times(2));
//! sandbox.faults().bastion(BastionAction::Cut).await?;
//! # Ok(()) }
//! ```

mod bastion;
mod borealis;
mod catalog;
mod child;
pub mod cli;
mod client;
mod control;
mod database;
mod error;
mod extensions;
mod fault;
mod faults;
mod gate;
mod heroku;
mod issue;
mod paging;
mod port;
mod postgres;
mod provider;
mod pulse;
mod stats;
mod wire;
mod world;

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tempfile::TempDir;
use tokio::runtime::{Builder, Handle, Runtime};

pub use self::{
    bastion::{BastionAction, BastionKind, BastionStats, SshdSetting, SshdSettings},
    catalog::{
        AddonSpec, AddonState, AppSpec, Catalog, ConfigVariable, Content, ServiceSpec, SharedSpec,
    },
    database::Access,
    error::SandboxError,
    fault::{Action, Api, Fault, Moment},
    faults::Faults,
    gate::{FaultId, LoggedRequest},
    postgres::PostgresAction,
    stats::{AddonStats, GrantStats, Stats},
    world::Secret,
};

use self::{
    bastion::Bastion,
    gate::{Door, Gate},
    heroku::Heroku,
    postgres::Postgres,
    provider::Provider,
    pulse::Pulse,
    wire::{Wire, WireListener},
    world::World,
};

/// How a sandbox is to be.
#[derive(Debug, Clone)]
pub struct Options {
    /// Which program is the bastion.
    pub bastion: BastionKind,
    /// What OpenSSH's server is told beyond what the sandbox needs.
    pub sshd: SshdSettings,
    /// Where everything listens and is said to be.
    pub address: Ipv4Addr,
    /// Where the API says that the bastion is, for a line in between; its own address where
    /// this says nothing.
    pub bastion_seen_at: Option<(String, u16)>,
    /// Where its directory is made; the system's temporary directory where there is none.
    /// The user that PostgreSQL runs as must be able to enter it.
    pub directory: Option<PathBuf>,
    /// How many connections the database takes at most.
    pub max_connections: u32,
    /// The apps and add-ons.
    pub catalog: Catalog,
    /// Where a freshly made database cluster is kept, to start others faster. By default
    /// `$BOREALIS_SANDBOX_CACHE`, and nowhere without it.
    pub cache: Option<PathBuf>,
    /// How many of the keys issued to a personal SSH user stay valid.
    pub ssh_keys_kept: usize,
    /// How long a new add-on is provisioning.
    pub provisioning_time: Duration,
    /// How many elements a page of a Heroku list has at most.
    pub page_length: usize,
}

/// A running sandbox. Dropping it ends everything, which takes a moment and blocks.
#[derive(Debug)]
pub struct Sandbox {
    faults: Faults,
    runtime: OwnRuntime,
    // Removed last, when nothing uses it any more.
    _directory: TempDir,
}

/// A runtime that may be dropped within another one, where waiting for its end would panic.
#[derive(Debug)]
struct OwnRuntime(Option<Runtime>);

/// Everything that runs, shared with the fault controls.
#[derive(Debug)]
pub(crate) struct Running {
    provider: Arc<Provider>,
    gate: Arc<Gate>,
    pulse: Pulse,
    heroku: SocketAddr,
    borealis: SocketAddr,
    control: SocketAddr,
}

// === impl Options ===

impl Options {
    /// Before OpenSSH's server with the settings of a hardened bastion.
    pub fn strict_sshd() -> Self {
        Self {
            bastion: BastionKind::Sshd,
            sshd: SshdSettings::strict(),
            ..Self::default()
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            bastion: BastionKind::Embedded,
            sshd: SshdSettings::default(),
            address: Ipv4Addr::LOCALHOST,
            bastion_seen_at: None,
            directory: None,
            max_connections: 300,
            catalog: Catalog::default(),
            cache: std::env::var_os("BOREALIS_SANDBOX_CACHE").map(PathBuf::from),
            ssh_keys_kept: 2,
            provisioning_time: Duration::from_secs(2),
            page_length: paging::USUAL_LENGTH,
        }
    }
}

// === impl Sandbox ===

impl Sandbox {
    /// Starts one on a runtime of its own, so that it goes on while its user blocks.
    ///
    /// # Errors
    /// When a program is missing (the error names the package) or doesn't start.
    pub async fn start(options: Options) -> Result<Self, SandboxError> {
        let directory = new_directory(options.directory.as_deref())?;
        let runtime = OwnRuntime::new()?;
        let home = directory.path().to_owned();
        let running = runtime
            .handle()
            .spawn(async move { start(options, &home).await })
            .await
            .map_err(SandboxError::failed)??;
        Ok(Self::assemble(running, runtime, directory))
    }

    /// The same for a caller without a runtime.
    ///
    /// # Errors
    /// As [`Sandbox::start`].
    ///
    /// # Panics
    /// Within a runtime.
    pub fn start_blocking(options: Options) -> Result<Self, SandboxError> {
        let directory = new_directory(options.directory.as_deref())?;
        let runtime = OwnRuntime::new()?;
        let running = runtime
            .handle()
            .block_on(start(options, directory.path()))?;
        Ok(Self::assemble(running, runtime, directory))
    }

    fn assemble(running: Arc<Running>, runtime: OwnRuntime, directory: TempDir) -> Self {
        Self {
            faults: Faults::new(running, runtime.handle()),
            runtime,
            _directory: directory,
        }
    }

    /// Runs a future on the sandbox's runtime, for callers without one.
    ///
    /// # Panics
    /// Within a runtime.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.handle().block_on(future)
    }

    /// Everything that can be done to it.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// What a daemon needs in its environment to use this sandbox, and its control URL.
    pub fn environment(&self) -> Vec<(String, String)> {
        self.running().environment()
    }

    /// The first user's Heroku token.
    pub fn token(&self) -> String {
        self.running().token()
    }

    /// The base URL of the Heroku API.
    pub fn heroku_url(&self) -> String {
        url(self.running().heroku)
    }

    /// The base URL of the Borealis API.
    pub fn borealis_url(&self) -> String {
        url(self.running().borealis)
    }

    /// The base URL of the control API.
    pub fn control_url(&self) -> String {
        url(self.running().control)
    }

    /// The database's port, which only the bastion should use.
    pub fn database_port(&self) -> u16 {
        self.running().provider.postgres.port()
    }

    /// The PEM file of the authority that signed the database's certificate.
    pub fn database_authority(&self) -> &Path {
        self.running().provider.postgres.authority()
    }

    /// The bastion's port.
    pub fn bastion_port(&self) -> u16 {
        self.running().provider.bastion.port()
    }

    /// How to come into an add-on's database as the superuser, past everything.
    ///
    /// # Errors
    /// When `what` is no app with one add-on of ours, no such add-on and no `APP::ATTACHMENT`.
    pub async fn admin_config(&self, what: &str) -> Result<tokio_postgres::Config, SandboxError> {
        self.faults.admin_config(what).await
    }

    /// Adds a Heroku account that sees the same apps; returns its token.
    pub fn add_user(&self, email: &str) -> String {
        self.running().provider.world().add_user(email)
    }

    /// What it has seen so far.
    pub fn stats(&self) -> Stats {
        self.running().stats()
    }

    /// The requests that both APIs got, oldest first.
    pub fn requests(&self) -> Vec<LoggedRequest> {
        self.running().gate.log()
    }

    /// Everything secret that was issued so far, to search logs and files for.
    pub fn secrets(&self) -> Vec<Secret> {
        self.running().provider.world().secrets.clone()
    }

    /// Waits until `wanted` is true of the statistics, which is checked at every change.
    ///
    /// # Errors
    /// When that takes longer than `patience`; the error shows the last statistics.
    pub async fn wait_for(
        &self,
        patience: Duration,
        wanted: impl Fn(&Stats) -> bool,
    ) -> Result<Stats, SandboxError> {
        self.faults.wait_for(patience, wanted).await
    }

    fn running(&self) -> &Running {
        self.faults.running()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let provider = &self.running().provider;
        provider.bastion.end();
        provider.postgres.end();
    }
}

// === impl OwnRuntime ===

impl OwnRuntime {
    fn new() -> Result<Self, SandboxError> {
        Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("sandbox")
            .enable_all()
            .build()
            .map(|runtime| Self(Some(runtime)))
            .map_err(SandboxError::io("starting a runtime"))
    }

    fn handle(&self) -> Handle {
        match &self.0 {
            Some(runtime) => runtime.handle().clone(),
            None => unreachable!("the runtime is there until this is dropped"),
        }
    }
}

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

// === impl Running ===

impl Running {
    fn environment(&self) -> Vec<(String, String)> {
        let authority = self.provider.postgres.authority().display().to_string();
        [
            ("HEROKU_API_KEY", self.token()),
            ("HEROKU_API_URL", url(self.heroku)),
            ("BOREALIS_PG_API_BASE_URL", url(self.borealis)),
            ("BOREALIS_SANDBOX_CONTROL", url(self.control)),
            ("BOREALIS_SANDBOX_DATABASE_CA", authority),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    fn token(&self) -> String {
        let world = self.provider.world();
        world
            .users
            .first()
            .map(|user| user.token.clone())
            .unwrap_or_default()
    }
}

fn url(address: SocketAddr) -> String {
    format!("http://{address}")
}

fn new_directory(parent: Option<&Path>) -> Result<TempDir, SandboxError> {
    let parent = parent.map_or_else(std::env::temp_dir, Path::to_owned);
    let directory = tempfile::Builder::new()
        .prefix("borealis-sandbox-")
        .tempdir_in(&parent)
        .map_err(SandboxError::path("creating a directory in", &parent))?;
    // PostgreSQL's user, and sshd's, must be able to pass through; none can list it.
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o711))
        .map_err(SandboxError::path("changing the mode of", directory.path()))?;
    Ok(directory)
}

async fn start(options: Options, home: &Path) -> Result<Arc<Running>, SandboxError> {
    let pulse = Pulse::new();
    let postgres = Arc::new(Postgres::start(home, &options).await?);
    database::close_common_databases(&postgres).await?;
    let bastion = Bastion::start(&options, home, postgres.port(), pulse.clone()).await?;
    let bastion_seen_at = options
        .bastion_seen_at
        .unwrap_or_else(|| (options.address.to_string(), bastion.port()));
    let provider = Arc::new(Provider::new(
        World::new(&options.catalog),
        postgres,
        Arc::new(bastion),
        pulse.clone(),
        bastion_seen_at,
        options.ssh_keys_kept,
        options.provisioning_time,
    ));
    let gate = Arc::new(Gate::new(pulse.clone()));

    let (heroku_listener, heroku) = WireListener::bind(options.address).await?;
    let (borealis_listener, borealis) = WireListener::bind(options.address).await?;
    let (control_listener, control) = WireListener::bind(options.address).await?;
    let heroku_state = Heroku {
        provider: Arc::clone(&provider),
        borealis_url: url(borealis),
        page: options.page_length.max(1),
    };
    serve(
        heroku_listener,
        heroku::router(heroku_state),
        Some(Door {
            gate: Arc::clone(&gate),
            api: Api::Heroku,
        }),
    );
    serve(
        borealis_listener,
        borealis::router(Arc::clone(&provider)),
        Some(Door {
            gate: Arc::clone(&gate),
            api: Api::Borealis,
        }),
    );
    let running = Arc::new(Running {
        provider: Arc::clone(&provider),
        gate,
        pulse,
        heroku,
        borealis,
        control,
    });
    let faults = Faults::new(Arc::clone(&running), Handle::current());
    serve(control_listener, control::router(faults), None);
    tokio::spawn(prepare_databases(provider));
    Ok(running)
}

/// Makes the databases ahead, so that the first request for each is a fast one.
async fn prepare_databases(provider: Arc<Provider>) {
    let addons: Vec<String> = {
        let world = provider.world();
        let ours = world.addons.iter().filter(|addon| addon.borealis.is_some());
        ours.map(|addon| addon.name.clone()).collect()
    };
    for addon in addons {
        // The server may be stopped by now; then the first request makes it.
        if let Err(error) = provider.database(&addon).await {
            tracing::debug!(addon, %error, "a database could not be made ahead");
        }
    }
}

fn serve(listener: WireListener, router: axum::Router, door: Option<Door>) {
    let router = match door {
        Some(door) => router.layer(axum::middleware::from_fn_with_state(door, gate::pass)),
        None => router,
    };
    let service = router.into_make_service_with_connect_info::<Wire>();
    tokio::spawn(async move { axum::serve(listener, service).await });
}
