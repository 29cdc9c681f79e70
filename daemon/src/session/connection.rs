//! One client's connection, from its first byte to its last.

use std::{sync::Arc, time::Duration};

use bytes::{BufMut as _, Bytes, BytesMut};
use rand::RngExt as _;
use tokio::{
    io::AsyncReadExt as _,
    sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, mpsc, watch},
    time::{Instant, timeout, timeout_at},
};
use tokio_util::task::TaskTracker;

use super::{
    Counters, Limits, attempt,
    ending::{AtIdle, Ending},
    hold::Hold,
    logins::{Login, Logins},
    splice::{Splice, Stopped},
    tunnels::{Gate, Tunnels},
};
use crate::{
    credential::{Broker, DatabaseKey},
    journal::{Journal, Kind},
    machine::Nudge,
    model::{Cause, DatabaseCredential, Generation, HostPort, Lease, Mode, SessionName},
    postgres::{
        self, Authenticated, CancelRequest, ClientError, Dialogue, Greeting, LocalAuth, LocalTls,
        LoggedIn, LoginError, MaybeTls, Rewound, ScramVerifier, StartupParameters, Stream,
        TlsOffer, UpstreamTls, refusal,
    },
    ssh::{ChannelStream, Closing},
};

/// What a client gets to say who it is. PostgreSQL's own `authentication_timeout` is 60 s.
const LOGIN_LIMIT: Duration = Duration::from_secs(30);
/// A cancel request is answered by closing; a server that doesn't isn't waited for.
const CANCEL_LIMIT: Duration = Duration::from_secs(10);
/// Renewals one log-in asks for before it gives up: the credentials that the provider issues
/// don't work. Another machine of the user that renews as fast stays below it, since each
/// waits for the other's turn.
const MAX_RENEWALS: u32 = 12;
/// What a client whose bytes aren't understood may say before it has a tunnel: more than a
/// startup packet, which PostgreSQL limits to 10000 bytes.
const EARLY: usize = 16 * 1024;
/// Pause between tries while the database server restarts.
const RESTART_PAUSE: Duration = Duration::from_millis(250);
/// What is left in a tunnel that has ended is passed on within this time.
const LEFTOVER_LIMIT: Duration = Duration::from_secs(1);
/// A channel's end and its tunnel's are seen so far apart at most.
const TUNNEL_NOTICE: Duration = Duration::from_millis(250);
/// An idle moment that lasts this long isn't one between two statements of a script.
const LASTING: Duration = Duration::from_secs(1);
/// How `pg_isready` names itself, unless it is told otherwise.
const PROBE: &[u8] = b"pg_isready";

/// What all connections of a session share.
pub(super) struct Gateway {
    pub(super) name: SessionName,
    pub(super) verifier: ScramVerifier,
    pub(super) local_tls: Arc<dyn Fn() -> LocalTls + Send + Sync>,
    pub(super) mode: Mode,
    pub(super) limits: Limits,
    pub(super) upstream_tls: UpstreamTls,
    pub(super) broker: Arc<Broker>,
    pub(super) journal: Journal,
    pub(super) tunnels: Arc<Tunnels>,
    /// Known once the target has been looked up.
    pub(super) key: watch::Receiver<Option<DatabaseKey>>,
    pub(super) counters: Arc<Counters>,
    pub(super) nudges: mpsc::Sender<Nudge>,
    pub(super) slots: Slots,
    pub(super) tasks: TaskTracker,
    pub(super) ending: Ending,
}

/// How many connections there may be.
pub(super) struct Slots {
    logins: Arc<Logins>,
    hold: Hold,
    connections: Arc<Semaphore>,
}

/// Who a client is, by the listener that it came through.
#[derive(Debug, Clone, Copy)]
pub(super) enum Peer {
    /// Anybody on this machine.
    Tcp,
    /// The user that the kernel says, and whether that one may come in.
    Unix { uid: u32, trusted: bool },
}

/// What the database says to a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It lets it in.
    Taken,
    /// It refuses this one.
    Refused(Generation),
    /// It could not be asked.
    Unknown,
}

/// A connection on which the database waits for a query.
struct Reached {
    stream: MaybeTls<ChannelStream>,
    greeting: Bytes,
    tunnel: Closing,
}

/// Why a client doesn't get its database.
enum Refused {
    /// In our words.
    Because(Cause),
    /// In the database's own.
    ByDatabase(Bytes),
}

/// Serves a client on a task of its own.
pub(super) fn begin<S: Stream + 'static>(stream: S, peer: Peer, gateway: &Arc<Gateway>) {
    let login = gateway.slots.logins.admit(&gateway.name);
    let gateway = Arc::clone(gateway);
    let tasks = gateway.tasks.clone();
    tasks.spawn(async move {
        let mut ending = gateway.ending.follow();
        let opening = tokio::select! {
            opening = timeout(LOGIN_LIMIT, gateway.open(stream, peer, &login)) => opening,
            () = login.sent_away() => return,
            _ = ending.now() => return,
        };
        drop(login);
        match opening {
            Ok(Ok(Opening::Managed(client))) => managed(*client, &gateway).await,
            Ok(Ok(Opening::Passthrough(stream))) => passthrough(stream, &gateway).await,
            Ok(Ok(Opening::Done)) => {}
            Ok(Err(error)) => {
                tracing::debug!(session = %gateway.name, %error, "a client did not get in");
            }
            Err(_) => {
                tracing::debug!(session = %gateway.name, "a client's log-in took too long");
            }
        }
    });
}

/// What a connection came to once its client had spoken.
enum Opening<S> {
    /// A client that has been let in.
    Managed(Box<Authenticated<Rewound<S>>>),
    /// One whose bytes aren't the daemon's to understand.
    Passthrough(Rewound<S>),
    /// A client that has got what it came for, or has gone.
    Done,
}

async fn managed<S: Stream>(mut client: Authenticated<S>, gateway: &Gateway) {
    let name = &gateway.name;
    let Ok(_slot) = gateway.slots.take() else {
        let cause = gateway.too_many();
        gateway.tell(&cause);
        return client.refuse(&cause, name).await;
    };
    let startup = client.startup().clone();
    let mut ending = gateway.ending.follow();
    let reached = tokio::select! {
        reached = gateway.log_in(&startup) => reached,
        // Nothing more is done for a client that has stopped waiting.
        () = client.left() => return,
        cause = ending.now() => Err(cause.into()),
    };
    match reached {
        Ok(Reached {
            stream,
            greeting,
            tunnel,
        }) => {
            let _counting = gateway.counters.connection();
            let Ok(mut client) = client.finish(&greeting).await else {
                return;
            };
            let dialogue = Some(Dialogue::new());
            gateway.splice(&mut client, stream, dialogue, &tunnel).await;
        }
        Err(Refused::Because(cause)) => {
            gateway.tell(&cause);
            client.refuse(&cause, name).await;
        }
        Err(Refused::ByDatabase(answer)) => client.refuse_with(&answer).await,
    }
}

async fn passthrough<S: Stream>(mut stream: S, gateway: &Gateway) {
    let name = &gateway.name;
    let mut ending = gateway.ending.follow();
    let mut early = BytesMut::new();
    let reached = match gateway.slots.take() {
        Ok(slot) => tokio::select! {
            channel = gateway.reach() => channel.map(|channel| (channel, slot)),
            // Nothing more is done for a client that has stopped waiting.
            () = left(&mut stream, &mut early) => return,
            cause = ending.now() => Err(cause),
        },
        Err(_) => Err(gateway.too_many()),
    };
    let mut stream = Rewound::new(early.freeze(), stream);
    match reached {
        Ok((channel, _slot)) => {
            let _counting = gateway.counters.connection();
            let tunnel = channel.closing();
            gateway.splice(&mut stream, channel, None, &tunnel).await;
        }
        Err(cause) => {
            gateway.tell(&cause);
            let refusing = refusal::refuse_unread(stream, &TlsOffer::Declined, &cause, name);
            let _ = timeout(LOGIN_LIMIT, refusing).await;
        }
    }
}

/// Completes when a client that waits has gone; keeps what it says meanwhile. One that says
/// more than clients do before they have an answer is no longer watched.
async fn left<S: Stream>(stream: &mut S, early: &mut BytesMut) {
    while early.len() < EARLY {
        let room = EARLY - early.len();
        if !matches!(stream.read_buf(&mut early.limit(room)).await, Ok(1..)) {
            return;
        }
    }
    std::future::pending().await
}

// === impl Slots ===

impl Slots {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            logins: Arc::default(),
            hold: Hold::new(),
            connections: Arc::new(Semaphore::new(limits.max_connections as usize)),
        }
    }

    fn take(&self) -> Result<OwnedSemaphorePermit, TryAcquireError> {
        Arc::clone(&self.connections).try_acquire_owned()
    }
}

// === impl Gateway ===

impl Gateway {
    /// Waits for the client to speak, and lets it in where that is the daemon's to do.
    async fn open<S: Stream>(
        &self,
        mut stream: S,
        peer: Peer,
        login: &Login,
    ) -> Result<Opening<S>, ClientError> {
        let mut first = [0];
        match stream.read(&mut first).await {
            Ok(0) => return Ok(Opening::Done),
            Ok(_) => login.has_spoken(),
            Err(error) => return Err(ClientError::Lost(error)),
        }
        let stream = Rewound::new(Bytes::copy_from_slice(&first), stream);
        match self.mode {
            Mode::Passthrough => Ok(Opening::Passthrough(stream)),
            Mode::Managed => Ok(match self.admit(stream, peer).await? {
                Some(client) => Opening::Managed(Box::new(client)),
                None => Opening::Done,
            }),
        }
    }

    /// Says why a client is refused, beside saying so to the client.
    fn tell(&self, cause: &Cause) {
        tracing::info!(session = %self.name, %cause, "a client was refused");
        let (session, kind) = (Some(&self.name), Kind::ConnectionRefused);
        self.journal.failure(session, kind, cause);
    }

    /// Lets a client in, or does what else it came for.
    async fn admit<S: Stream>(
        &self,
        stream: S,
        peer: Peer,
    ) -> Result<Option<Authenticated<S>>, ClientError> {
        // Clients of a Unix socket don't ask for TLS; the kernel keeps others out.
        let (offer, auth) = match peer {
            Peer::Tcp => (
                TlsOffer::Offered((self.local_tls)()),
                LocalAuth::Password(&self.verifier),
            ),
            Peer::Unix { trusted: true, .. } => (TlsOffer::Declined, LocalAuth::SameUser),
            Peer::Unix { uid, .. } => (TlsOffer::Declined, LocalAuth::OtherUser { uid }),
        };
        match postgres::greet(stream, &offer).await? {
            // It asks for no more than an answer, and takes a question for "yes".
            Greeting::Startup(client)
                if client.startup().get("application_name") == Some(PROBE)
                    && *self.tunnels.gate().borrow() != Gate::Open =>
            {
                client.refuse_with(&refusal::not_ready(&self.name)).await;
                Ok(None)
            }
            Greeting::Startup(client) => client.authenticate(&self.name, auth).await.map(Some),
            Greeting::Cancel(request, _until_done) => {
                self.cancel(&request).await;
                Ok(None)
            }
            Greeting::Gone => Ok(None),
        }
    }

    /// Joins client and database until one of them ends it, their tunnel does, or the
    /// session; in the latter cases the client is told where the protocol allows it.
    async fn splice<C: Stream, D: Stream>(
        &self,
        client: &mut C,
        database: D,
        dialogue: Option<Dialogue>,
        tunnel: &Closing,
    ) {
        let mut splice = Splice::new(client, database, dialogue, &self.counters);
        let (mut ending, mut at_idle) = (self.ending.follow(), self.ending.follow());
        let cause = tokio::select! {
            stopped = splice.run() => return self.part(splice, stopped, tunnel).await,
            cause = tunnel.closed() => Err(cause),
            cause = ending.now() => Ok(cause),
            (which, cause) = at_idle.at_idle() => tokio::select! {
                stopped = run_until(&mut splice, which) => match stopped {
                    Stopped::Idle => Ok(cause),
                    stopped => return self.part(splice, stopped, tunnel).await,
                },
                cause = tunnel.closed() => Err(cause),
                cause = ending.now() => Ok(cause),
            },
        };
        let cause = match cause {
            Ok(cause) => cause,
            Err(lost) => {
                // What was received before the line broke is the client's.
                let _ = timeout(LEFTOVER_LIMIT, splice.run()).await;
                lost
            }
        };
        tracing::info!(session = %self.name, %cause, "a connection was ended");
        splice.tell(&refusal::farewell(&cause, &self.name)).await;
    }

    /// Ends a connection of which one side has ended.
    async fn part<C: Stream, D: Stream>(
        &self,
        splice: Splice<'_, C, D>,
        stopped: Stopped,
        tunnel: &Closing,
    ) {
        let (ended_by_client, error) = match stopped {
            Stopped::Client(error) => (true, error),
            Stopped::Database(error) => (false, error),
            Stopped::Idle => (false, None),
        };
        if let Some(error) = error {
            tracing::debug!(session = %self.name, ended_by_client, %error, "a connection broke");
        }
        // A channel ends with its tunnel, and may be seen to end first.
        if !ended_by_client
            && !splice.was_announced()
            && let Ok(cause) = timeout(TUNNEL_NOTICE, tunnel.closed()).await
        {
            tracing::info!(session = %self.name, %cause, "a connection was ended");
            return splice.tell(&refusal::farewell(&cause, &self.name)).await;
        }
        splice.close().await;
    }

    fn too_many(&self) -> Cause {
        Cause::TooManyConnections {
            limit: self.limits.max_connections,
        }
    }

    /// A channel to the database, held for while there is no tunnel.
    async fn reach(&self) -> Result<ChannelStream, Cause> {
        let began = Instant::now();
        let deadline = began + self.limits.connect_timeout;
        loop {
            self.wait_for_tunnel(began, deadline).await?;
            let lease = self.lease(None, deadline).await?;
            match self.channel(&lease.credential.server, deadline).await {
                Ok(channel) => return Ok(channel),
                Err(cause) => self.pause_after(cause, deadline).await?,
            }
        }
    }

    /// A log-in to the database with the credentials of the moment; with the next ones,
    /// where the database refuses those.
    async fn log_in(&self, startup: &StartupParameters) -> Result<Reached, Refused> {
        let began = Instant::now();
        let deadline = began + self.limits.connect_timeout;
        let mut after = None;
        let mut renewals = 0;
        loop {
            self.wait_for_tunnel(began, deadline).await?;
            let lease = self.lease(after, deadline).await?;
            let server = &lease.credential.server;
            let channel = match self.channel(server, deadline).await {
                Ok(channel) => channel,
                Err(cause) => {
                    self.pause_after(cause, deadline).await?;
                    continue;
                }
            };
            let tunnel = channel.closing();
            let logging_in =
                postgres::log_in(channel, &self.upstream_tls, &lease.credential, startup);
            let error = match timeout_at(deadline, logging_in).await {
                Ok(Ok(LoggedIn {
                    stream, greeting, ..
                })) => {
                    return Ok(Reached {
                        stream,
                        greeting,
                        tunnel,
                    });
                }
                Ok(Err(error)) => error,
                Err(_) => return Err(timed_out(began, None).into()),
            };
            match error.cause(server) {
                cause @ Cause::DatabaseRefusedLogin { .. } => {
                    renewals += 1;
                    if renewals > MAX_RENEWALS {
                        return Err(cause.into());
                    }
                    tracing::info!(session = %self.name, %cause, "asking for new credentials");
                    if let Some(key) = &*self.key.borrow() {
                        self.broker.database_refused(key, lease.generation);
                    }
                    after = Some(lease.generation);
                }
                // A server that is starting or stopping, or a channel that broke, is another
                // one in a moment.
                cause if may_pass(&error) && Instant::now() + RESTART_PAUSE * 2 < deadline => {
                    self.pause_after(cause, deadline).await?;
                }
                _ => {
                    return Err(Refused::ByDatabase(
                        error.error_response(server, &self.name),
                    ));
                }
            }
        }
    }

    async fn wait_for_tunnel(&self, began: Instant, deadline: Instant) -> Result<(), Cause> {
        let passing = self.slots.hold.pass(self.tunnels.gate(), &self.nudges);
        let outcome = match timeout_at(deadline, passing).await {
            Ok(Some(gate)) => Some(gate),
            Ok(None) => return Err(Cause::SessionClosing),
            Err(_) => None,
        };
        match outcome {
            Some(Gate::Refuse(cause)) => Err(cause),
            Some(_) => Ok(()),
            None => {
                let because = match &*self.tunnels.gate().borrow() {
                    Gate::Hold(cause) => cause.clone(),
                    Gate::Open | Gate::Refuse(_) => None,
                };
                Err(timed_out(began, because))
            }
        }
    }

    async fn lease(
        &self,
        after: Option<Generation>,
        deadline: Instant,
    ) -> Result<Arc<Lease<DatabaseCredential>>, Cause> {
        let key = self.key.borrow().clone();
        let key = key.ok_or(Cause::Internal {
            detail: "a tunnel is up, but the add-on isn't known".into(),
        })?;
        let began = Instant::now();
        match timeout_at(deadline, self.broker.database(&key, after)).await {
            Ok(answer) => answer,
            Err(_) => Err(timed_out(began, None)),
        }
    }

    async fn channel(&self, server: &HostPort, deadline: Instant) -> Result<ChannelStream, Cause> {
        let began = Instant::now();
        match timeout_at(deadline, self.tunnels.channel(server)).await {
            Ok(answer) => answer,
            Err(_) => Err(timed_out(began, None)),
        }
    }

    /// Waits a moment after a failure that may pass; the cause itself where there is no time
    /// left, or where waiting is no use.
    async fn pause_after(&self, cause: Cause, deadline: Instant) -> Result<(), Cause> {
        match cause {
            Cause::TunnelLost { .. } => {}
            Cause::DatabaseUnreachable { .. } | Cause::DatabaseRefused { .. } => {}
            other => return Err(other),
        }
        let pause = RESTART_PAUSE.mul_f64(rand::rng().random_range(0.5..1.5));
        if Instant::now() + pause >= deadline {
            return Err(cause);
        }
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// Whether the database takes the credential that is held. One that it refuses has been
    /// taken away by somebody, and isn't replaced before a client or the user asks for it.
    pub(super) async fn check_credential(&self) -> Verdict {
        let checking = async {
            let key = self.key.borrow().clone()?;
            let lease = self.broker.current_database(&key)?;
            let channel = self.tunnels.channel(&lease.credential.server).await.ok()?;
            let outcome = attempt::prove(channel, &self.upstream_tls, &lease.credential).await;
            match outcome {
                Ok(()) => Some(Verdict::Taken),
                Err(error) => match error.cause(&lease.credential.server) {
                    Cause::DatabaseRefusedLogin { .. } => Some(Verdict::Refused(lease.generation)),
                    _ => None,
                },
            }
        };
        let verdict = timeout(self.limits.connect_timeout, checking).await;
        verdict.ok().flatten().unwrap_or(Verdict::Unknown)
    }

    async fn cancel(&self, request: &CancelRequest) {
        let forwarding = async {
            let key = self.key.borrow().clone()?;
            let lease = self.broker.current_database(&key)?;
            let channel = self.tunnels.channel(&lease.credential.server).await.ok()?;
            postgres::forward_cancel(channel, request).await.ok()
        };
        match timeout(CANCEL_LIMIT, forwarding).await {
            Ok(Some(())) => {}
            _ => tracing::info!(session = %self.name, "a cancel request could not be passed on"),
        }
    }
}

impl From<Cause> for Refused {
    fn from(cause: Cause) -> Self {
        Self::Because(cause)
    }
}

/// Copies until the connection ends, or is idle in the way that is wanted.
async fn run_until<C: Stream, D: Stream>(splice: &mut Splice<'_, C, D>, which: AtIdle) -> Stopped {
    loop {
        match splice.run_until_idle().await {
            Stopped::Idle if which == AtIdle::Lasting => {}
            stopped => return stopped,
        }
        let asked = splice.asked();
        match timeout(LASTING, splice.run()).await {
            Ok(stopped) => return stopped,
            Err(_) if splice.is_idle() && splice.asked() == asked => return Stopped::Idle,
            Err(_) => {}
        }
    }
}

/// Whether the same log-in may succeed in a moment: the server is starting up or shutting
/// down (57P03), ended the log-in itself (57P01, 57P02), or the channel was lost.
fn may_pass(error: &LoginError) -> bool {
    match error {
        LoginError::Refused(refusal) => {
            matches!(refusal.sqlstate(), "57P01" | "57P02" | "57P03")
        }
        LoginError::Lost(_) => true,
        LoginError::Tls(_) | LoginError::Protocol(_) => false,
    }
}

fn timed_out(began: Instant, because: Option<Cause>) -> Cause {
    Cause::HoldTimeout {
        waited: began.elapsed(),
        because: because.map(Box::new),
    }
}
