//! The daemon as the commands see it: one method for each question, answers without
//! optional wrappers, failures in the user's words. Also knows why no daemon can be
//! reached, and how to start one. Decides nothing and prints nothing.

mod addons;
mod connections;

use std::{
    io,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use borealis_proto::{
    API_VERSION, connect,
    paths::Paths,
    v1::{
        self, account_service_client::AccountServiceClient,
        addon_service_client::AddonServiceClient,
        connection_service_client::ConnectionServiceClient,
        daemon_service_client::DaemonServiceClient,
        diagnostics_service_client::DiagnosticsServiceClient,
        session_service_client::SessionServiceClient,
    },
};
use tonic::{Streaming, transport::Channel};

use crate::{
    failure::{Exit, Failure, reason},
    ports,
};

/// A connection to the daemon.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    sessions: SessionServiceClient<Channel>,
    daemon: DaemonServiceClient<Channel>,
    account: AccountServiceClient<Channel>,
    diagnostics: DiagnosticsServiceClient<Channel>,
    addons: AddonServiceClient<Channel>,
    connections: ConnectionServiceClient<Channel>,
}

/// A session and what a client needs beside it. Not `Debug`: it holds secrets.
#[derive(Clone, Default)]
pub(crate) struct Opened {
    /// The session.
    pub(crate) session: v1::Session,
    /// Empty where the daemon has none to give.
    pub(crate) secrets: v1::Secrets,
}

/// A session that is held for as long as this lives.
#[derive(Debug)]
pub(crate) struct Held {
    stream: Streaming<v1::UseSessionResponse>,
}

// === impl Client ===

impl Client {
    /// Connects to the daemon at `socket`, or at the default place.
    ///
    /// # Errors
    /// [`Exit::NoDaemon`], saying why and how to start one.
    pub(crate) async fn connect(socket: Option<&Path>) -> Result<Self, Failure> {
        let path = socket_path(socket)?;
        let channel = match connect::connect(path.clone()).await {
            Ok(channel) => channel,
            Err(error) if socket.is_none() && is_absent(&error) => {
                let found = Paths::from_environment().and_then(|paths| connect::elsewhere(&paths));
                let elsewhere = match found {
                    Some(other) => connect::connect(other).await.ok(),
                    None => None,
                };
                elsewhere.ok_or_else(|| unreachable(&path, false, &error))?
            }
            Err(error) => return Err(unreachable(&path, socket.is_some(), &error)),
        };
        Ok(Self {
            sessions: SessionServiceClient::new(channel.clone()),
            daemon: DaemonServiceClient::new(channel.clone()),
            account: AccountServiceClient::new(channel.clone()),
            diagnostics: DiagnosticsServiceClient::new(channel.clone()),
            addons: AddonServiceClient::new(channel.clone()),
            connections: ConnectionServiceClient::new(channel),
        })
    }

    /// Refuses a daemon that speaks another major version of the API.
    ///
    /// # Errors
    /// When the versions don't fit. A daemon that can't even be asked is no error here:
    /// the question that follows will say more.
    pub(crate) async fn check_version(&mut self) -> Result<(), Failure> {
        match self.info().await {
            Ok(info) if major(&info.api_version) != major(API_VERSION) => {
                Err(Failure::failed(format!(
                    "borealisd {} speaks version {} of the control API, and this borealisctl {API_VERSION}",
                    info.version, info.api_version
                ))
                .with_hint("restart borealisd after an upgrade, or use the borealisctl that came with it"))
            }
            _ => Ok(()),
        }
    }

    /// Opens a session that stays.
    ///
    /// # Errors
    /// What the daemon answered, or that it went away.
    pub(crate) async fn open(
        &mut self,
        request: v1::OpenSessionRequest,
    ) -> Result<Opened, Failure> {
        let answer = settle(self.sessions.open_session(request).await)?;
        Opened::of(answer.session, answer.secrets)
    }

    /// Opens or joins a session for as long as the [`Held`] lives; returns once it is up.
    ///
    /// # Errors
    /// What the daemon answered, or that it went away.
    pub(crate) async fn hold(
        &mut self,
        request: v1::UseSessionRequest,
    ) -> Result<(Opened, Held), Failure> {
        let mut stream = settle(self.sessions.use_session(request).await)?;
        let first = stream
            .message()
            .await
            .map_err(|status| Failure::from_status(&status))?
            .ok_or_else(incomplete)?;
        let opened = Opened::of(first.session, first.secrets)?;
        Ok((opened, Held { stream }))
    }

    /// All sessions, ordered by name.
    ///
    /// # Errors
    /// What the daemon answered, or that it went away.
    pub(crate) async fn list(&mut self) -> Result<Vec<v1::Session>, Failure> {
        let request = v1::ListSessionsRequest {};
        let mut sessions = settle(self.sessions.list_sessions(request).await)?.sessions;
        sessions.iter_mut().for_each(ports::complete_session);
        Ok(sessions)
    }

    /// The whole set of sessions, now and at every change.
    ///
    /// # Errors
    /// What the daemon answered, or that it went away.
    pub(crate) async fn watch(&mut self) -> Result<Streaming<v1::WatchSessionsResponse>, Failure> {
        settle(
            self.sessions
                .watch_sessions(v1::WatchSessionsRequest {})
                .await,
        )
    }

    /// One open session, with its secrets if `reveal`.
    ///
    /// # Errors
    /// What the daemon answered, or that it went away.
    pub(crate) async fn get(
        &mut self,
        target: v1::Target,
        reveal: Reveal,
    ) -> Result<Opened, Failure> {
        let request = v1::GetSessionRequest {
            target: Some(target),
            reveal: reveal == Reveal::Secrets,
        };
        let answer = settle(self.sessions.get_session(request).await)?;
        Opened::of(answer.session, answer.secrets)
    }

    /// Closes sessions; returns when the last connection has ended.
    ///
    /// # Errors
    /// What the daemon answered, or that it went away.
    pub(crate) async fn close(
        &mut self,
        request: v1::CloseSessionsRequest,
    ) -> Result<Vec<v1::Session>, Failure> {
        Ok(settle(self.sessions.close_sessions(request).await)?.sessions)
    }

    /// Asks for new personal credentials, session by session.
    ///
    /// # Errors
    /// What the daemon answered, or that it went away.
    pub(crate) async fn rotate(
        &mut self,
        request: v1::RotateSessionsRequest,
    ) -> Result<v1::RotateSessionsResponse, Failure> {
        settle(self.sessions.rotate_sessions(request).await)
    }

    /// Versions, health and where things are.
    ///
    /// # Errors
    /// What the daemon answered, or that it went away.
    pub(crate) async fn info(&mut self) -> Result<v1::GetInfoResponse, Failure> {
        let mut info = settle(self.daemon.get_info(v1::GetInfoRequest {}).await)?;
        for reason in &mut info.reasons {
            ports::complete(&mut reason.message);
        }
        Ok(info)
    }

    /// Has config and token read again.
    ///
    /// # Errors
    /// What the daemon answered, or that it went away.
    pub(crate) async fn reload(&mut self) -> Result<v1::ReloadResponse, Failure> {
        settle(self.daemon.reload(v1::ReloadRequest {}).await)
    }

    /// Checks a Heroku token and has it kept.
    ///
    /// # Errors
    /// What the daemon answered, or that it went away.
    pub(crate) async fn login(
        &mut self,
        token: String,
        keep: v1::Keep,
    ) -> Result<v1::LoginResponse, Failure> {
        let request = v1::LoginRequest {
            token,
            keep: keep.into(),
        };
        settle(self.account.login(request).await)
    }

    /// Has the kept token forgotten.
    ///
    /// # Errors
    /// What the daemon answered, or that it went away.
    pub(crate) async fn logout(&mut self) -> Result<v1::LogoutResponse, Failure> {
        settle(self.account.logout(v1::LogoutRequest {}).await)
    }

    /// The Heroku account, and where its token comes from.
    ///
    /// # Errors
    /// What the daemon answered, or that it went away.
    pub(crate) async fn who_am_i(&mut self) -> Result<v1::WhoAmIResponse, Failure> {
        settle(self.account.who_am_i(v1::WhoAmIRequest {}).await)
    }

    /// What happened, and with `follow` what happens.
    ///
    /// # Errors
    /// What the daemon answered, or that it went away.
    pub(crate) async fn events(
        &mut self,
        request: v1::WatchEventsRequest,
    ) -> Result<Streaming<v1::WatchEventsResponse>, Failure> {
        settle(self.diagnostics.watch_events(request).await)
    }

    /// The metrics as text.
    ///
    /// # Errors
    /// What the daemon answered, or that it went away.
    pub(crate) async fn metrics(&mut self) -> Result<String, Failure> {
        let request = v1::GetMetricsRequest {};
        Ok(settle(self.diagnostics.get_metrics(request).await)?.text)
    }

    /// The daemon's own checks, one at a time.
    ///
    /// # Errors
    /// What the daemon answered, or that it went away.
    pub(crate) async fn diagnose(
        &mut self,
        request: v1::DiagnoseRequest,
    ) -> Result<Streaming<v1::DiagnoseResponse>, Failure> {
        settle(self.diagnostics.diagnose(request).await)
    }

    /// Asks the daemon to stop; returns before it has.
    ///
    /// # Errors
    /// What the daemon answered, or that it went away.
    pub(crate) async fn shutdown(&mut self) -> Result<(), Failure> {
        settle(self.daemon.shutdown(v1::ShutdownRequest {}).await).map(drop)
    }
}

/// Whether secrets are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reveal {
    /// Leave them out.
    Nothing,
    /// Password and URL.
    Secrets,
}

// === impl Opened ===

impl Opened {
    fn of(session: Option<v1::Session>, secrets: Option<v1::Secrets>) -> Result<Self, Failure> {
        let mut session = session.ok_or_else(incomplete)?;
        ports::complete_session(&mut session);
        Ok(Self {
            session,
            secrets: secrets.unwrap_or_default(),
        })
    }
}

// === impl Reveal ===

impl Reveal {
    /// By a flag.
    pub(crate) fn when(asked: bool) -> Self {
        if asked { Self::Secrets } else { Self::Nothing }
    }
}

// === impl Held ===

impl Held {
    /// Waits until the daemon gives the session up, which it doesn't by itself, and says why.
    pub(crate) async fn ended(&mut self) -> Failure {
        loop {
            match self.stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => return Failure::failed("the session was closed"),
                Err(status) => return Failure::from_status(&status),
            }
        }
    }
}

fn settle<T>(answer: Result<tonic::Response<T>, tonic::Status>) -> Result<T, Failure> {
    answer
        .map(tonic::Response::into_inner)
        .map_err(|status| Failure::from_status(&status))
}

fn incomplete() -> Failure {
    Failure::failed("borealisd's answer lacks the session")
        .with_hint("its version may differ from borealisctl's: see `borealisctl status`")
}

/// What two versions must have in common.
pub(crate) fn major(version: &str) -> &str {
    version.split('.').next().unwrap_or(version)
}

/// The socket that was named, or the default one.
///
/// # Errors
/// When none was named and there is no default: the user has no directories.
pub(crate) fn socket_path(named: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(path) = named {
        return Ok(path.to_path_buf());
    }
    Paths::from_environment()
        .map(|paths| paths.control_socket())
        .ok_or_else(|| {
            Failure::new(
                Exit::NoDaemon,
                "can't tell where borealisd's socket is: neither a home nor a runtime directory is known",
            )
            .with_hint("name it with --socket, or set HOME or XDG_RUNTIME_DIR")
        })
}

// --- why there is no daemon ---

/// Whether nobody listens at a socket's place.
fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}

fn unreachable(path: &Path, named: bool, error: &io::Error) -> Failure {
    let shown = path.display();
    if let Some(untrusted) = error.get_ref().and_then(|inner| inner.downcast_ref()) {
        return untrusted_socket(path, untrusted);
    }
    let metadata = std::fs::metadata(path).ok();
    let me = rustix::process::geteuid().as_raw();
    let failure = |message| Failure::new(Exit::NoDaemon, message);
    if error.kind() == io::ErrorKind::PermissionDenied {
        let whose = match metadata.as_ref().map(|m| m.uid()) {
            Some(owner) if owner != me => format!("it belongs to another user (uid {owner})"),
            _ => reason(error),
        };
        return failure(format!("can't use the control socket {shown}: {whose}")).with_hint(
            "a daemon serves only the user who started it: start your own, and check --socket and BOREALIS_SOCKET",
        );
    }
    let message = match error.kind() {
        // Somebody listens there, but hung up during the first words.
        io::ErrorKind::Other | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
            return Failure::connection_lost();
        }
        io::ErrorKind::NotFound => {
            format!("borealisd is not running: there is no socket {shown}")
        }
        _ if metadata.is_some_and(|m| !m.file_type().is_socket()) => {
            return failure(format!("{shown} is not a socket"))
                .with_hint("check --socket and BOREALIS_SOCKET");
        }
        io::ErrorKind::ConnectionRefused => {
            format!(
                "borealisd is not running: nobody listens on {shown}, left behind by an earlier one"
            )
        }
        _ => format!("can't reach borealisd at {shown}: {}", reason(error)),
    };
    failure(message).with_hint(start_hint(path, named))
}

fn untrusted_socket(path: &Path, why: &connect::Untrusted) -> Failure {
    let hint = match why {
        connect::Untrusted::OtherUser { .. } => {
            "check --socket, BOREALIS_SOCKET and XDG_RUNTIME_DIR: a daemon serves only the user who started it".to_owned()
        }
        connect::Untrusted::Exposed { dir } => format!(
            "take that right away with `chmod o-w {}`, or have the socket elsewhere",
            crate::output::quote::sh(&dir.to_string_lossy())
        ),
    };
    Failure::new(
        Exit::NoDaemon,
        format!("can't use the control socket {}: {why}", path.display()),
    )
    .with_hint(hint)
}

fn start_hint(path: &Path, named: bool) -> String {
    if named {
        let path = path.to_string_lossy();
        let path = crate::output::quote::sh(&path);
        format!("start it with `borealisd --socket {path}`, or check --socket and BOREALIS_SOCKET")
    } else if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        "start it with `borealisd`; one that runs with an XDG_RUNTIME_DIR, which isn't set here, is found by --socket or BOREALIS_SOCKET".to_owned()
    } else if unit_is_installed() {
        "start it with `systemctl --user start borealisd`".to_owned()
    } else {
        "start it with `borealisd` in another terminal".to_owned()
    }
}

/// Whether systemd's user manager would find the daemon's unit, by the search path of
/// systemd.unit(5).
pub(crate) fn unit_is_installed() -> bool {
    let from_variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let home = from_variable("HOME");
    let below_home = |rest: &str| home.as_ref().map(|home| home.join(rest));
    let manager_runs = from_variable("XDG_RUNTIME_DIR")
        .is_some_and(|runtime| runtime.join("systemd/private").exists());
    let config = from_variable("XDG_CONFIG_HOME").or_else(|| below_home(".config"));
    let data = from_variable("XDG_DATA_HOME").or_else(|| below_home(".local/share"));
    let fixed = ["/etc", "/run", "/usr/local/lib", "/usr/lib", "/lib"].map(PathBuf::from);
    manager_runs
        && config
            .into_iter()
            .chain(data)
            .chain(fixed)
            .any(|dir| dir.join("systemd/user/borealisd.service").exists())
}
