//! A control API with canned replies on a Unix socket, and borealisctl run against it.

use std::{
    path::{Path, PathBuf},
    pin::Pin,
    process::{Output, Stdio},
    sync::{Arc, Mutex},
};

use borealis_proto::v1::{
    self,
    daemon_service_server::{DaemonService, DaemonServiceServer},
    session_service_server::{SessionService, SessionServiceServer},
};
use prost::Message as _;
use tempfile::TempDir;
use tokio::{
    net::UnixListener,
    process::Command,
    sync::{mpsc, watch},
};
use tokio_stream::{
    Stream,
    wrappers::{ReceiverStream, UnixListenerStream},
};
use tonic::{Code, Request, Response, Status, transport::Server};

/// What the daemon answers.
#[derive(Clone)]
pub(crate) struct Canned {
    pub(crate) sessions: Vec<v1::Session>,
    pub(crate) secrets: v1::Secrets,
    /// Answered instead by every call on sessions.
    pub(crate) failure: Option<(Code, Option<v1::Failure>)>,
    pub(crate) info: v1::GetInfoResponse,
    pub(crate) reload: v1::ReloadResponse,
}

/// What the daemon was asked.
#[derive(Clone, Default)]
pub(crate) struct Asked {
    pub(crate) open: Vec<v1::OpenSessionRequest>,
    pub(crate) hold: Vec<v1::UseSessionRequest>,
    pub(crate) get: Vec<v1::GetSessionRequest>,
    pub(crate) close: Vec<v1::CloseSessionsRequest>,
    pub(crate) rotate: Vec<v1::RotateSessionsRequest>,
}

/// A daemon that runs until it is dropped.
pub(crate) struct Daemon {
    dir: TempDir,
    asked: Arc<Mutex<Asked>>,
    /// How many sessions are held by a command.
    pub(crate) held: watch::Receiver<usize>,
    ended: watch::Sender<bool>,
    serving: tokio::task::JoinHandle<()>,
}

#[derive(Clone)]
struct Service {
    canned: Arc<Canned>,
    asked: Arc<Mutex<Asked>>,
    held: watch::Sender<usize>,
    ended: watch::Receiver<bool>,
}

// === impl Canned ===

impl Canned {
    pub(crate) fn with(session: v1::Session) -> Self {
        Self {
            sessions: vec![session],
            ..Self::default()
        }
    }

    pub(crate) fn failing(code: Code, failure: v1::Failure) -> Self {
        Self {
            failure: Some((code, Some(failure))),
            ..Self::default()
        }
    }
}

impl Default for Canned {
    fn default() -> Self {
        Self {
            sessions: Vec::new(),
            secrets: v1::Secrets {
                password: "s3cret word".into(),
                url: "postgresql://sushi:s3cret%20word@127.0.0.1:15432/d4f0".into(),
            },
            failure: None,
            info: v1::GetInfoResponse {
                version: "9.8.7".into(),
                api_version: "1.0".into(),
                health: v1::Health::Ok.into(),
                ..v1::GetInfoResponse::default()
            },
            reload: v1::ReloadResponse::default(),
        }
    }
}

/// The session of the contract's example, up.
pub(crate) fn sushi() -> v1::Session {
    let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 5 });
    v1::Session {
        name: "sushi".into(),
        app: "sushi".into(),
        addon: "borealis-pg-hex-12345".into(),
        attachment: "DATABASE".into(),
        role: v1::Role::Personal.into(),
        access: v1::Access::ReadOnly.into(),
        mode: v1::Mode::Managed.into(),
        state: v1::State::Up.into(),
        since: at(1_795_356_900),
        host: "127.0.0.1".into(),
        port: 15432,
        socket_dir: "/run/user/1000/borealis/pg/sushi".into(),
        database: "d4f0".into(),
        user: "sushi".into(),
        connections: Some(v1::ConnectionCounts {
            active: 2,
            total: 40,
        }),
        bytes: Some(v1::ByteCounts {
            sent: 1,
            received: 2,
        }),
        credential: Some(v1::Credential {
            generation: 3,
            issued_at: at(1_795_356_900),
            rotates_at: at(1_795_385_700),
        }),
        ..v1::Session::default()
    }
}

// === impl Daemon ===

impl Daemon {
    pub(crate) fn start(canned: Canned) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("control.sock")).unwrap();
        let asked = Arc::default();
        let (held, held_now) = watch::channel(0);
        let (ended, is_ended) = watch::channel(false);
        let service = Service {
            canned: Arc::new(canned),
            asked: Arc::clone(&asked),
            held,
            ended: is_ended,
        };
        let serving = tokio::spawn(async move {
            Server::builder()
                .add_service(SessionServiceServer::new(service.clone()))
                .add_service(DaemonServiceServer::new(service))
                .serve_with_incoming(UnixListenerStream::new(listener))
                .await
                .unwrap();
        });
        Self {
            dir,
            asked,
            held: held_now,
            ended,
            serving,
        }
    }

    pub(crate) fn asked(&self) -> Asked {
        self.asked.lock().unwrap().clone()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("control.sock")
    }

    /// Ends every session that a command holds.
    pub(crate) fn end_sessions(&self) {
        self.ended.send_replace(true);
    }

    /// borealisctl, to be run against this daemon.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = command(self.dir.path(), words);
        command.env("BOREALIS_SOCKET", self.socket());
        command
    }

    /// Runs borealisctl to its end.
    pub(crate) async fn run(&self, words: &[&str]) -> Ran {
        Ran::of(self.command(words).output().await.unwrap())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// borealisctl in an environment that holds nothing of the tester's.
pub(crate) fn command(home: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_borealisctl"));
    command
        .args(words)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", home)
        // Not in the checkout that the tests are run in.
        .current_dir(home)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// What a run of borealisctl left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

// === impl Ran ===

impl Ran {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// The JSON that was printed, where nothing else was and all went well.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        assert_eq!((self.code, self.stderr.as_str()), (Some(0), ""), "{self:?}");
        serde_json::from_str(&self.stdout).unwrap()
    }

    #[track_caller]
    pub(crate) fn assert(&self, code: i32, stdout: &str, stderr: &str) {
        assert_eq!(self.stdout, stdout, "stdout; {self:?}");
        assert_eq!(self.stderr, stderr, "stderr; {self:?}");
        assert_eq!(self.code, Some(code), "{self:?}");
    }
}

// === impl Service ===

impl Service {
    fn check(&self) -> Result<(), Status> {
        let Some((code, failure)) = &self.canned.failure else {
            return Ok(());
        };
        let details = failure.iter().map(|failure| prost_types::Any {
            type_url: "type.googleapis.com/borealis.control.v1.Failure".into(),
            value: failure.encode_to_vec(),
        });
        let status = tonic_types::pb::Status {
            code: *code as i32,
            message: "said by gRPC".into(),
            details: details.collect(),
        };
        Err(Status::with_details(
            *code,
            "said by gRPC",
            status.encode_to_vec().into(),
        ))
    }

    fn first(&self) -> Option<v1::Session> {
        self.canned.sessions.first().cloned()
    }

    fn ask(&self, ask: impl FnOnce(&mut Asked)) -> Result<(), Status> {
        ask(&mut self.asked.lock().unwrap());
        self.check()
    }
}

type Reply<T> = Result<Response<T>, Status>;
type Replies<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl SessionService for Service {
    type UseSessionStream = Replies<v1::UseSessionResponse>;
    type WatchSessionsStream = Replies<v1::WatchSessionsResponse>;

    async fn open_session(
        &self,
        request: Request<v1::OpenSessionRequest>,
    ) -> Reply<v1::OpenSessionResponse> {
        self.ask(|asked| asked.open.push(request.into_inner()))?;
        Ok(Response::new(v1::OpenSessionResponse {
            session: self.first(),
            secrets: Some(self.canned.secrets.clone()),
            created: true,
        }))
    }

    async fn use_session(
        &self,
        request: Request<v1::UseSessionRequest>,
    ) -> Reply<Self::UseSessionStream> {
        self.ask(|asked| asked.hold.push(request.into_inner()))?;
        let (sender, receiver) = mpsc::channel(1);
        let first = v1::UseSessionResponse {
            session: self.first(),
            secrets: Some(self.canned.secrets.clone()),
        };
        sender.try_send(Ok(first)).unwrap();
        let held = self.held.clone();
        held.send_modify(|count| *count += 1);
        let mut ended = self.ended.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = sender.closed() => {}
                _ = ended.wait_for(|ended| *ended) => {}
            }
            held.send_modify(|count| *count -= 1);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn list_sessions(
        &self,
        _: Request<v1::ListSessionsRequest>,
    ) -> Reply<v1::ListSessionsResponse> {
        self.check()?;
        Ok(Response::new(v1::ListSessionsResponse {
            sessions: self.canned.sessions.clone(),
        }))
    }

    async fn get_session(
        &self,
        request: Request<v1::GetSessionRequest>,
    ) -> Reply<v1::GetSessionResponse> {
        let request = request.into_inner();
        let reveal = request.reveal;
        self.ask(|asked| asked.get.push(request))?;
        Ok(Response::new(v1::GetSessionResponse {
            session: self.first(),
            secrets: reveal.then(|| self.canned.secrets.clone()),
        }))
    }

    async fn close_sessions(
        &self,
        request: Request<v1::CloseSessionsRequest>,
    ) -> Reply<v1::CloseSessionsResponse> {
        self.ask(|asked| asked.close.push(request.into_inner()))?;
        Ok(Response::new(v1::CloseSessionsResponse {
            sessions: self.canned.sessions.clone(),
        }))
    }

    async fn rotate_sessions(
        &self,
        request: Request<v1::RotateSessionsRequest>,
    ) -> Reply<v1::RotateSessionsResponse> {
        self.ask(|asked| asked.rotate.push(request.into_inner()))?;
        Ok(Response::new(v1::RotateSessionsResponse {
            sessions: self.canned.sessions.clone(),
            failures: Vec::new(),
        }))
    }

    async fn watch_sessions(
        &self,
        _: Request<v1::WatchSessionsRequest>,
    ) -> Reply<Self::WatchSessionsStream> {
        self.check()?;
        let change = |revision, sessions| Ok(v1::WatchSessionsResponse { revision, sessions });
        let changes = [
            change(1, Vec::new()),
            change(2, self.canned.sessions.clone()),
        ];
        Ok(Response::new(Box::pin(tokio_stream::iter(changes))))
    }
}

#[tonic::async_trait]
impl DaemonService for Service {
    async fn get_info(&self, _: Request<v1::GetInfoRequest>) -> Reply<v1::GetInfoResponse> {
        Ok(Response::new(self.canned.info.clone()))
    }

    async fn reload(&self, _: Request<v1::ReloadRequest>) -> Reply<v1::ReloadResponse> {
        Ok(Response::new(self.canned.reload.clone()))
    }

    async fn shutdown(&self, _: Request<v1::ShutdownRequest>) -> Reply<v1::ShutdownResponse> {
        Ok(Response::new(v1::ShutdownResponse {}))
    }
}
