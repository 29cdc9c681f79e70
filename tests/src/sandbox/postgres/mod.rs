//! Owns a PostgreSQL server in a directory of its own: makes it, starts, stops and
//! restarts it. What is in its databases is `database`'s business.
//!
//! The superuser has no password and comes in through a socket in a directory that only
//! the server's user (and root) can enter; everyone else comes over TCP with SCRAM.

mod binaries;
mod certificate;

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions, Permissions},
    io::Write as _,
    net::Ipv4Addr,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use tokio_postgres::{Client, NoTls};

use self::binaries::Binaries;
use super::{
    Options, SandboxError,
    child::{Child, RunAs, is_root, run_command_as, tethered},
    port,
};

/// The bootstrap superuser.
pub(crate) const SUPERUSER: &str = "sandbox_admin";

const START_TIME: Duration = Duration::from_secs(60);
const STOP_TIME: Duration = Duration::from_secs(20);
const PORT_ATTEMPTS: u32 = 5;

const HBA: &str = "\
local   all all               trust
hostssl all all samenet       scram-sha-256
host    all all samenet       scram-sha-256
";

/// The same, but nobody who isn't the superuser is let in.
const CLOSED_HBA: &str = "\
local   all all               trust
host    all all samenet       reject
";

/// A database server.
#[derive(Debug)]
pub(crate) struct Postgres {
    home: PathBuf,
    binaries: Binaries,
    run_as: Option<RunAs>,
    port: u16,
    authority: PathBuf,
    child: Mutex<Option<Child>>,
    /// Starts and stops come one after the other.
    turn: tokio::sync::Mutex<()>,
}

/// What can be done to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PostgresAction {
    /// A fast shutdown: clients are told, and disconnected.
    Stop,
    /// Starts it on the port it had.
    Start,
    /// A fast shutdown and a start.
    Restart,
    /// Ends at once without a clean-up, as in a power cut.
    Crash,
    /// Refuses every log-in through the bastion (28000), whatever the password.
    RefuseLogins,
    /// Lets people in again.
    AcceptLogins,
}

// === impl Postgres ===

impl Postgres {
    /// Makes and starts a server below `home`, which its user must be able to enter.
    ///
    /// # Errors
    /// When PostgreSQL isn't installed, or doesn't start within a minute; the server's own
    /// words are included.
    pub(crate) async fn start(home: &Path, options: &Options) -> Result<Self, SandboxError> {
        let binaries = Binaries::find()?;
        let run_as = if is_root() {
            Some(unprivileged()?)
        } else {
            None
        };
        let home = home.join("postgres");
        let (made, authority) = {
            let (home, binaries, run_as) = (home.clone(), binaries.clone(), run_as.clone());
            let options = options.clone();
            tokio::task::spawn_blocking(move || {
                prepare(&home, &binaries, run_as.as_ref(), &options)
            })
            .await
            .map_err(SandboxError::failed)?
        }
        .map(|authority| (home, authority))?;
        let mut server = Self {
            home: made,
            binaries,
            run_as,
            port: 0,
            authority,
            child: Mutex::new(None),
            turn: tokio::sync::Mutex::new(()),
        };
        let mut attempt = 1;
        loop {
            server.port = port::free()?;
            match server.launch().await {
                Ok(()) => return Ok(server),
                // Somebody else may have taken the port since it was found free.
                Err(_) if attempt < PORT_ATTEMPTS && port::is_taken(server.port) => attempt += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// The TCP port on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The PEM file of the authority that signed the server's certificate.
    pub(crate) fn authority(&self) -> &Path {
        &self.authority
    }

    /// Whether the server's process is there.
    pub(crate) fn is_running(&self) -> bool {
        self.lock().as_ref().is_some_and(|c| c.status().is_none())
    }

    /// How to connect as the superuser.
    pub(crate) fn admin_config(&self, database: &str) -> tokio_postgres::Config {
        let mut config = tokio_postgres::Config::new();
        config
            .host_path(self.socket_dir())
            .port(self.port)
            .user(SUPERUSER)
            .dbname(database)
            .application_name("borealis-sandbox")
            .connect_timeout(Duration::from_secs(10));
        config
    }

    /// Connects as the superuser; the connection ends when the client is dropped.
    ///
    /// # Errors
    /// When the server isn't running or there is no such database.
    pub(crate) async fn admin(&self, database: &str) -> Result<Client, SandboxError> {
        let (client, connection) = self
            .admin_config(database)
            .connect(NoTls)
            .await
            .map_err(SandboxError::sql(format!("connecting to {database}")))?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// Stops, starts or restarts the server; returns when it is done.
    ///
    /// # Errors
    /// When it doesn't start.
    pub(crate) async fn act(&self, action: PostgresAction) -> Result<(), SandboxError> {
        let _turn = self.turn.lock().await;
        match action {
            PostgresAction::Stop => self.halt(Signal::INT).await,
            PostgresAction::Crash => self.halt(Signal::QUIT).await,
            PostgresAction::Start if self.is_running() => {}
            PostgresAction::Start => self.launch().await?,
            PostgresAction::Restart => {
                self.halt(Signal::INT).await;
                self.launch().await?;
            }
            PostgresAction::RefuseLogins => self.obey(CLOSED_HBA).await?,
            PostgresAction::AcceptLogins => self.obey(HBA).await?,
        }
        Ok(())
    }

    /// Changes who is let in, from the next log-in on.
    async fn obey(&self, hba: &str) -> Result<(), SandboxError> {
        let file = self.home.join("data").join("pg_hba.conf");
        write(&file, hba, self.run_as.as_ref(), 0o600)?;
        let admin = self.admin("postgres").await?;
        let reload = "select pg_reload_conf()";
        admin
            .batch_execute(reload)
            .await
            .map_err(SandboxError::sql("reading pg_hba.conf again"))
    }

    /// Ends the server for good without a clean-up, which its temporary data doesn't need.
    pub(crate) fn end(&self) {
        drop(self.lock().take());
    }

    /// A client program of PostgreSQL's, set up to come in as `user` through the socket.
    pub(crate) fn client_program(&self, name: &str, user: &str) -> Command {
        let mut command = Command::new(self.binaries.program(name));
        command
            .env_clear()
            .env("PGHOST", self.socket_dir())
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", user)
            .env("LC_ALL", "C");
        command
    }

    async fn halt(&self, signal: Signal) {
        let child = self.lock().take();
        if let Some(child) = child {
            child.stop(signal, STOP_TIME).await;
        }
    }

    async fn launch(&self) -> Result<(), SandboxError> {
        let log = self.home.join("server.log");
        let log_start = log.metadata().map_or(0, |metadata| metadata.len());
        let output = append(&log)?;
        let mut command = tethered(
            &self.binaries.program("postgres"),
            "INT",
            self.run_as.as_ref(),
        );
        command
            .arg("-D")
            .arg(self.home.join("data"))
            .args(["-p", &self.port.to_string()])
            .arg("-c")
            .arg(format!(
                "unix_socket_directories={}",
                self.socket_dir().display()
            ))
            .env("LC_ALL", "C")
            .stdout(
                output
                    .try_clone()
                    .map_err(SandboxError::path("opening", &log))?,
            )
            .stderr(output);
        let child = Child::spawn(command, Signal::QUIT)?;
        if let Err(why) = self.wait_until_up(&child).await {
            drop(child);
            let said = tail(&log, log_start);
            return Err(SandboxError::failed(format!(
                "PostgreSQL did not start: {why}; it said:\n{said}"
            )));
        }
        *self.lock() = Some(child);
        Ok(())
    }

    /// The server has no way to tell: it is asked until it answers.
    async fn wait_until_up(&self, child: &Child) -> Result<(), String> {
        let answer = async {
            let mut pause = tokio::time::interval(Duration::from_millis(15));
            loop {
                pause.tick().await;
                if self.admin("postgres").await.is_ok() {
                    return;
                }
            }
        };
        tokio::select! {
            () = answer => Ok(()),
            () = child.ended() => Err("its process ended".into()),
            () = tokio::time::sleep(START_TIME) => {
                Err(format!("no answer within {} s", START_TIME.as_secs()))
            }
        }
    }

    fn socket_dir(&self) -> PathBuf {
        self.home.join("run")
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// PostgreSQL refuses to run as root.
fn unprivileged() -> Result<RunAs, SandboxError> {
    ["postgres", "nobody"]
        .into_iter()
        .find_map(RunAs::find)
        .ok_or_else(|| {
            SandboxError::failed(
                "PostgreSQL does not run as root, and there is no user postgres or nobody to run it as",
            )
        })
}

/// Makes the cluster with its configuration and certificate; returns the authority's file.
fn prepare(
    home: &Path,
    binaries: &Binaries,
    run_as: Option<&RunAs>,
    options: &Options,
) -> Result<PathBuf, SandboxError> {
    for directory in [home.to_owned(), home.join("run")] {
        fs::create_dir(&directory).map_err(SandboxError::path("creating", &directory))?;
        give(&directory, run_as, 0o700)?;
    }
    let data = home.join("data");
    match &options.cache {
        None => initialise(&data, binaries, run_as)?,
        Some(cache) => {
            let owner = run_as.map_or_else(|| rustix::process::getuid().as_raw(), |u| u.uid);
            let kept = cache.join(format!("cluster-{owner}{}", binaries.fingerprint()));
            if kept.is_dir() {
                copy(&kept, &data)?;
            } else {
                initialise(&data, binaries, run_as)?;
                keep(&data, cache, &kept)?;
            }
        }
    }
    configure(&data, options, run_as)?;
    let certificate = certificate::make()?;
    write(&data.join("server.crt"), &certificate.chain, run_as, 0o600)?;
    write(&data.join("server.key"), &certificate.key, run_as, 0o600)?;
    // Beside the private directory: whoever verifies the server must be able to read it.
    let authority = home.with_file_name("database-ca.pem");
    write(&authority, &certificate.authority, None, 0o644)?;
    Ok(authority)
}

fn initialise(
    data: &Path,
    binaries: &Binaries,
    run_as: Option<&RunAs>,
) -> Result<(), SandboxError> {
    let mut command = Command::new(binaries.program("initdb"));
    command
        .args(["--no-sync", "--encoding=UTF8", "--locale=C"])
        .args(["--auth=scram-sha-256", "--auth-local=trust"])
        .args(["--username", SUPERUSER])
        .arg("-D")
        .arg(data)
        .env("LC_ALL", "C");
    run_command_as(&mut command, run_as);
    run(command, "initdb").map_err(|error| match run_as {
        Some(user) => SandboxError::failed(format!(
            "{error}\n(it ran as the user {}, who must be able to enter the directory: choose \
             another with --dir or TMPDIR)",
            user.name
        )),
        None => error,
    })
}

/// Puts a copy of a fresh cluster in place in one step, so that nobody sees half of it.
fn keep(data: &Path, cache: &Path, kept: &Path) -> Result<(), SandboxError> {
    fs::create_dir_all(cache).map_err(SandboxError::path("creating", cache))?;
    let half = tempfile::Builder::new()
        .prefix("cluster-")
        .tempdir_in(cache)
        .map_err(SandboxError::path("creating a directory in", cache))?;
    let copied = half.path().join("data");
    copy(data, &copied)?;
    match fs::rename(&copied, kept) {
        // Another sandbox was faster with the same.
        Err(_) if kept.is_dir() => Ok(()),
        other => other.map_err(SandboxError::path("renaming to", kept)),
    }
}

fn copy(from: &Path, to: &Path) -> Result<(), SandboxError> {
    let mut command = Command::new("cp");
    command.arg("-pR").arg(from).arg(to);
    run(command, "cp")
}

fn configure(data: &Path, options: &Options, run_as: Option<&RunAs>) -> Result<(), SandboxError> {
    write(&data.join("pg_hba.conf"), HBA, run_as, 0o600)?;
    // Nothing here has to survive a crash of the machine, so nothing is synced.
    // The bastion comes by 127.0.0.1, wherever it listens itself.
    let listen: BTreeSet<_> = [Ipv4Addr::LOCALHOST, options.address].into();
    let listen: Vec<_> = listen.iter().map(Ipv4Addr::to_string).collect();
    let own = format!(
        "listen_addresses = '{}'\nmax_connections = {}\n",
        listen.join(","),
        options.max_connections
    );
    let settings = "\
        shared_buffers = '32MB'\n\
        ssl = on\n\
        ssl_cert_file = 'server.crt'\n\
        ssl_key_file = 'server.key'\n\
        password_encryption = 'scram-sha-256'\n\
        fsync = off\n\
        synchronous_commit = off\n\
        full_page_writes = off\n\
        wal_level = minimal\n\
        max_wal_senders = 0\n\
        max_parallel_workers_per_gather = 0\n\
        timezone = 'UTC'\n\
        log_timezone = 'UTC'\n\
        log_line_prefix = '%m [%p] %q%u@%d '\n";
    let settings = own + settings;
    write(&data.join("postgresql.auto.conf"), &settings, run_as, 0o600)
}

fn run(mut command: Command, name: &str) -> Result<(), SandboxError> {
    let output = command
        .stdin(std::process::Stdio::null())
        .output()
        .map_err(SandboxError::io(format!("running {name}")))?;
    if output.status.success() {
        return Ok(());
    }
    Err(SandboxError::failed(format!(
        "{name} failed ({}): {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    )))
}

fn write(path: &Path, text: &str, run_as: Option<&RunAs>, mode: u32) -> Result<(), SandboxError> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)
        .map_err(SandboxError::path("creating", path))?;
    file.write_all(text.as_bytes())
        .map_err(SandboxError::path("writing", path))?;
    give(path, run_as, mode)
}

fn give(path: &Path, run_as: Option<&RunAs>, mode: u32) -> Result<(), SandboxError> {
    fs::set_permissions(path, Permissions::from_mode(mode))
        .map_err(SandboxError::path("changing the mode of", path))?;
    if let Some(user) = run_as {
        std::os::unix::fs::chown(path, Some(user.uid), Some(user.gid))
            .map_err(SandboxError::path("changing the owner of", path))?;
    }
    Ok(())
}

fn append(path: &Path) -> Result<File, SandboxError> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
        .map_err(SandboxError::path("opening", path))
}

fn tail(log: &Path, from: u64) -> String {
    let text = fs::read(log).unwrap_or_default();
    let new = text
        .get(usize::try_from(from).unwrap_or(0)..)
        .unwrap_or_default();
    String::from_utf8_lossy(new).trim().to_owned()
}
