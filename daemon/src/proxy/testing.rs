//! A database in memory that speaks PostgreSQL's protocol, and a connector to it, so that what
//! is done about log-ins can be tested under time that stands still.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, Weak},
    task::{Context, Poll},
    time::Duration,
};

use jiff::Timestamp;
use secrecy::SecretString;
use tokio::{
    io::{
        AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf, duplex,
    },
    sync::{mpsc, watch},
};
use tokio_util::sync::CancellationToken;

use super::{
    Counters, CurrentLimits, Gateway, Limits, LocalLogin, Parts,
    connector::{Channel, Connect, WatchClosing},
    upstream::Upstream,
    warm::WarmPool,
};
use crate::{
    credential::DatabaseLease,
    journal::Journal,
    model::{Cause, DatabaseCredential, Generation, HostPort, Lease, Mode, SessionName},
    postgres::{LocalTls, StartupParameters, UpstreamTls, UpstreamTlsMode},
    tunnels::{Gate, Tunnels},
};

/// How long the provider takes to issue a credential.
const ISSUING: Duration = Duration::from_millis(300);

/// What the database does about a log-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Lets it in, where its password is right and there is room.
    Usual,
    /// Says no with this SQLSTATE.
    Refuse(&'static str),
    /// Says nothing.
    Hang,
    /// Closes.
    Break,
}

/// A connection as the database sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Backend {
    pub(crate) is_logged_in: bool,
    pub(crate) has_ended: bool,
    /// Says nothing more.
    hangs: bool,
    /// What it was asked, but for Sync.
    pub(crate) asked: Vec<u8>,
}

/// A session's database, with its leases.
pub(crate) struct FakeDatabase {
    itself: Weak<Self>,
    pub(crate) gate: watch::Sender<Gate>,
    lease: watch::Sender<Option<DatabaseLease>>,
    state: Mutex<State>,
    /// In the order in which their startup packets came.
    backends: watch::Sender<Vec<Backend>>,
    issuing: tokio::sync::Mutex<()>,
    tls: UpstreamTls,
}

struct State {
    answers: VecDeque<Answer>,
    /// What becomes of log-ins for which none is said.
    usual: Answer,
    /// The newest password that is right.
    accepted: Generation,
    room: usize,
    refused: Vec<Generation>,
    renewals: usize,
    /// Why the provider isn't asked for another credential.
    held_back: Option<Cause>,
    /// What `search_path` is for connections that are made now.
    search_path: &'static str,
}

/// A way to the database, without a tunnel.
pub(crate) struct FakeChannel {
    stream: DuplexStream,
    closing: FakeClosing,
}

#[derive(Clone, Default)]
pub(crate) struct FakeClosing(CancellationToken);

/// A session's way to a database in memory.
pub(crate) struct World {
    pub(crate) database: Arc<FakeDatabase>,
    pub(crate) warm: Arc<WarmPool<FakeDatabase>>,
    pub(crate) upstream: Arc<Upstream<FakeDatabase>>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) client_waits: mpsc::Receiver<()>,
    pub(crate) limits: watch::Sender<Limits>,
}

pub(crate) fn startup(name: &str) -> StartupParameters {
    StartupParameters::new([
        ("user", "u".to_owned()),
        ("application_name", name.to_owned()),
    ])
    .unwrap()
}

/// For sessions to which no client comes by TCP.
pub(crate) fn no_tls() -> Arc<dyn Fn() -> LocalTls + Send + Sync> {
    fn none() -> LocalTls {
        unreachable!("no client comes by TCP")
    }
    Arc::new(none)
}

/// Lets everything run that can, until `holds`. Time stands still meanwhile.
pub(crate) async fn until(holds: impl Fn() -> bool) {
    for _ in 0..10_000 {
        if holds() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("it doesn't come to that");
}

// === impl World ===

impl World {
    /// Keeps so many connections ready, and holds a client for 30 s.
    pub(crate) fn new(warm_connections: u32) -> Self {
        let database = FakeDatabase::new();
        let counters = Arc::new(Counters::default());
        let limits = watch::Sender::new(Limits {
            connect_timeout: Duration::from_secs(30),
            max_connections: 200,
            warm_connections,
        });
        let name = SessionName::parse("sushi").unwrap();
        let receiver: CurrentLimits = limits.subscribe();
        let warm = WarmPool::new(
            name,
            Arc::clone(&database),
            receiver.clone(),
            Arc::clone(&counters),
        );
        let (signal, client_waits) = mpsc::channel(1);
        let upstream = Upstream::new(Arc::clone(&warm), receiver, Journal::new(), signal);
        Self {
            database,
            warm,
            upstream: Arc::new(upstream),
            counters,
            client_waits,
            limits,
        }
    }

    /// What serves the clients of its session.
    pub(crate) fn gateway(&self) -> Gateway<FakeDatabase> {
        let login = LocalLogin::new(SecretString::from("secret")).unwrap();
        let parts = Parts {
            name: self.warm.name(),
            mode: Mode::Managed,
            login: &login,
            limits: &self.limits.subscribe(),
            local_tls: &no_tls(),
            journal: &Journal::new(),
            counters: &self.counters,
            tunnels: &Tunnels::new(self.counters.tunnels.clone()),
            client_waits: mpsc::channel(1).0,
        };
        Gateway::to(parts, Arc::clone(&self.database))
    }

    /// Waits until so many connections are kept ready.
    pub(crate) async fn until_ready(&self, count: u64) {
        until(|| self.counters.warm() == count).await;
    }
}

// === impl FakeDatabase ===

impl FakeDatabase {
    fn new() -> Arc<Self> {
        Arc::new_cyclic(|itself| Self {
            itself: itself.clone(),
            gate: watch::Sender::new(Gate::Open),
            lease: watch::Sender::new(Some(lease(1))),
            state: Mutex::new(State {
                answers: VecDeque::new(),
                usual: Answer::Usual,
                accepted: Generation(1),
                room: usize::MAX,
                refused: Vec::new(),
                renewals: 0,
                held_back: None,
                search_path: "public",
            }),
            backends: watch::Sender::default(),
            issuing: tokio::sync::Mutex::default(),
            tls: UpstreamTls::new(UpstreamTlsMode::Disable).unwrap(),
        })
    }

    /// What becomes of the next log-ins.
    pub(crate) fn answer(&self, answers: impl IntoIterator<Item = Answer>) {
        self.state().answers.extend(answers);
    }

    /// What becomes of all others.
    pub(crate) fn answer_always(&self, answer: Answer) {
        self.state().usual = answer;
    }

    /// Takes no password but that of this generation, and of later ones.
    pub(crate) fn accept(&self, generation: u64) {
        self.state().accepted = Generation(generation);
    }

    /// Has room for so many connections.
    pub(crate) fn has_room_for(&self, count: usize) {
        self.state().room = count;
    }

    pub(crate) fn hold_back(&self, cause: Cause) {
        self.state().held_back = Some(cause);
    }

    pub(crate) fn set_search_path(&self, path: &'static str) {
        self.state().search_path = path;
    }

    /// A connection answers nothing any more.
    pub(crate) fn hang(&self, backend: usize) {
        self.backends
            .send_modify(|backends| backends[backend].hangs = true);
    }

    /// Another lease is held.
    pub(crate) fn renew(&self) {
        self.lease.send_modify(|held| {
            let generation = held.as_ref().map_or(0, |held| held.generation.0);
            *held = Some(lease(generation + 1));
        });
    }

    pub(crate) fn backends(&self) -> Vec<Backend> {
        self.backends.borrow().clone()
    }

    /// Connections that it has, also those that are being made.
    pub(crate) fn connections(&self) -> usize {
        let backends = self.backends.borrow();
        backends.iter().filter(|backend| !backend.has_ended).count()
    }

    /// The generations that it refused, as the connector was told.
    pub(crate) fn refused(&self) -> Vec<Generation> {
        self.state().refused.clone()
    }

    pub(crate) fn renewals(&self) -> usize {
        self.state().renewals
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn change(&self, backend: usize, change: impl FnOnce(&mut Backend)) {
        self.backends
            .send_modify(|backends| change(&mut backends[backend]));
    }

    fn connect(&self) -> FakeChannel {
        let (ours, servers) = duplex(64 * 1024);
        tokio::spawn(self.itself.upgrade().unwrap().serve(servers));
        FakeChannel {
            stream: ours,
            closing: FakeClosing::default(),
        }
    }

    /// Serves one connection to its end.
    async fn serve(self: Arc<Self>, mut stream: DuplexStream) {
        let Ok(user) = read_startup(&mut stream).await else {
            return;
        };
        let backend = self.backends.borrow().len();
        self.backends
            .send_modify(|backends| backends.push(Backend::default()));
        let _ = self.talk(&mut stream, backend, &user).await;
        self.change(backend, |backend| backend.has_ended = true);
    }

    async fn talk(&self, stream: &mut DuplexStream, backend: usize, user: &str) -> io::Result<()> {
        let answer = {
            let mut state = self.state();
            state.answers.pop_front().unwrap_or(state.usual)
        };
        let sqlstate = match answer {
            Answer::Usual => self.reason_to_refuse(user),
            Answer::Refuse(sqlstate) => Some(sqlstate),
            Answer::Break => return Ok(()),
            Answer::Hang => {
                while stream.read_u8().await.is_ok() {}
                return Ok(());
            }
        };
        if let Some(sqlstate) = sqlstate {
            return stream.write_all(&refusal(sqlstate)).await;
        }
        self.change(backend, |backend| backend.is_logged_in = true);
        let number = u32::try_from(backend).unwrap();
        stream.write_all(&self.greeting(number)).await?;
        loop {
            let tag = stream.read_u8().await?;
            let mut body = vec![0; stream.read_u32().await? as usize - 4];
            stream.read_exact(&mut body).await?;
            if self.backends.borrow()[backend].hangs {
                continue;
            }
            match tag {
                b'X' => return Ok(()),
                b'S' => {}
                _ => self.change(backend, |backend| backend.asked.extend(&body)),
            }
            stream.write_all(b"Z\0\0\0\x05I").await?;
        }
    }

    fn reason_to_refuse(&self, user: &str) -> Option<&'static str> {
        let state = self.state();
        let generation: u64 = user.strip_prefix("role-").unwrap().parse().unwrap();
        if Generation(generation) < state.accepted {
            return Some("28P01");
        }
        let backends = self.backends.borrow();
        let taken = backends
            .iter()
            .filter(|backend| backend.is_logged_in && !backend.has_ended);
        (taken.count() >= state.room).then_some("53300")
    }

    fn greeting(&self, number: u32) -> Vec<u8> {
        let mut greeting = message(b'R', &0_u32.to_be_bytes());
        let path = format!("search_path\0{}\0", self.state().search_path);
        greeting.extend(message(b'S', path.as_bytes()));
        let key = [number.to_be_bytes(), *b"key!"].concat();
        greeting.extend(message(b'K', &key));
        greeting.extend(message(b'Z', b"I"));
        greeting
    }
}

impl Connect for FakeDatabase {
    type Channel = FakeChannel;

    fn gate(&self) -> watch::Receiver<Gate> {
        self.gate.subscribe()
    }

    fn current_lease(&self) -> Option<DatabaseLease> {
        self.lease.borrow().clone()
    }

    fn watch_lease(&self) -> Option<watch::Receiver<Option<DatabaseLease>>> {
        Some(self.lease.subscribe())
    }

    /// As the broker: who asks for the same shares the renewal.
    async fn lease(&self, after: Option<Generation>) -> Result<DatabaseLease, Cause> {
        let _one_at_a_time = self.issuing.lock().await;
        let held = self.current_lease().unwrap();
        if after.is_none_or(|after| held.generation > after) {
            return Ok(held);
        }
        if let Some(cause) = self.state().held_back.clone() {
            return Err(cause);
        }
        tokio::time::sleep(ISSUING).await;
        self.state().renewals += 1;
        self.renew();
        Ok(self.current_lease().unwrap())
    }

    fn was_accepted(&self, _: Generation) {}

    fn was_refused(&self, generation: Generation, _: &Cause) {
        self.state().refused.push(generation);
    }

    fn tls(&self) -> UpstreamTls {
        self.tls.clone()
    }

    async fn channel(&self, _: &HostPort) -> Result<FakeChannel, Cause> {
        Ok(self.connect())
    }

    async fn channel_for_cancel(
        &self,
        _: &HostPort,
        _: &FakeClosing,
    ) -> Result<FakeChannel, Cause> {
        Ok(self.connect())
    }

    fn probe(&self) {}
}

impl Channel for FakeChannel {
    type Closing = FakeClosing;

    fn closing(&self) -> FakeClosing {
        self.closing.clone()
    }

    fn round_trip(&self) -> Duration {
        Duration::from_millis(20)
    }
}

impl WatchClosing for FakeClosing {
    async fn closed(&self) -> Cause {
        self.0.cancelled().await;
        Cause::TunnelLost {
            detail: "it was cut".into(),
        }
    }

    fn silent_for(&self) -> Duration {
        Duration::ZERO
    }

    fn tunnel(&self) -> u64 {
        1
    }
}

impl AsyncRead for FakeChannel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for FakeChannel {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// The user that a startup packet names.
async fn read_startup(stream: &mut DuplexStream) -> io::Result<String> {
    let length = stream.read_u32().await?;
    let mut packet = vec![0; length as usize - 4];
    stream.read_exact(&mut packet).await?;
    let texts: Vec<_> = packet[4..].split(|byte| *byte == 0).collect();
    let user = texts.iter().position(|text| *text == b"user").unwrap();
    Ok(String::from_utf8(texts[user + 1].to_vec()).unwrap())
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[tag], &length.to_be_bytes()[..], body].concat()
}

fn refusal(sqlstate: &str) -> Vec<u8> {
    message(b'E', format!("SFATAL\0C{sqlstate}\0Mno\0\0").as_bytes())
}

fn lease(generation: u64) -> DatabaseLease {
    Arc::new(Lease {
        generation: Generation(generation),
        issued_at: Timestamp::UNIX_EPOCH,
        rotates_at: None,
        credential: DatabaseCredential {
            server: HostPort {
                host: "db".into(),
                port: 5432,
            },
            database: "d4f0".into(),
            username: format!("role-{generation}"),
            password: SecretString::from("secret"),
        },
    })
}
