//! One client's connection, from its first byte to its last.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::{BufMut as _, Bytes, BytesMut};
use tokio::{
    io::AsyncReadExt as _,
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

use super::{
    CancelKeys, Counters, CurrentLimits, Outage,
    cancel_keys::CancelKeyGuard,
    drain::{Drain, IdlePolicy},
    leftovers::{Backend, Leftovers},
    pending_logins::{LoginSlot, PendingLogins},
    relay::{Relay, RelayObserver, Stopped},
    upstream::{Reached, Refused},
    wait_queue::WaitQueue,
    warm::{self, WarmPool},
};
use crate::{
    credential::{Broker, DatabaseKey},
    journal::{Journal, Kind},
    model::{Cause, Mode, SessionName},
    postgres::{
        self, Authenticated, ClientError, Greeting, LocalAuth, LocalTls, PrefixedIo,
        ProtocolTracker, RefusalPace, ScramVerifier, Stream, TlsOffer, UpstreamTls, last_words,
        refusal, refuse_unread,
    },
    ssh::Closing,
    tunnels::{Gate, Tunnels},
};

/// What a client gets to say who it is. PostgreSQL's own `authentication_timeout` is 60 s.
const LOGIN_LIMIT: Duration = Duration::from_secs(30);
/// What a client whose bytes aren't understood may say before it has a tunnel: more than a
/// startup packet, which PostgreSQL limits to 10000 bytes.
const EARLY: usize = 16 * 1024;
/// What is left in a tunnel that has ended is passed on within this time.
const REST_LIMIT: Duration = Duration::from_secs(1);
/// A channel's end and its tunnel's are seen so far apart at most.
const TUNNEL_NOTICE: Duration = Duration::from_millis(250);
/// An idle moment that lasts this long isn't one between two statements of a script.
const LASTING: Duration = Duration::from_secs(1);
/// How `pg_isready` names itself, unless it is told otherwise.
const PROBE: &[u8] = b"pg_isready";

/// What all connections of a session share.
pub(crate) struct Gateway {
    pub(crate) name: SessionName,
    pub(crate) verifier: ScramVerifier,
    pub(crate) local_tls: Arc<dyn Fn() -> LocalTls + Send + Sync>,
    pub(crate) mode: Mode,
    pub(crate) limits: CurrentLimits,
    pub(crate) upstream_tls: watch::Receiver<UpstreamTls>,
    pub(crate) broker: Arc<Broker>,
    pub(crate) journal: Journal,
    pub(crate) tunnels: Arc<Tunnels>,
    /// Known once the target has been looked up.
    pub(crate) key: watch::Receiver<Option<DatabaseKey>>,
    pub(crate) counters: Arc<Counters>,
    /// A client waits for a tunnel.
    pub(crate) client_waits: mpsc::Sender<()>,
    pub(crate) slots: Slots,
    pub(crate) tasks: TaskTracker,
    /// Clients that have spoken and haven't reached their database.
    pub(crate) arriving: TaskTracker,
    pub(crate) drain: Drain,
    pub(crate) warm: Arc<WarmPool>,
    pub(crate) cancel_keys: CancelKeys,
    pub(crate) leftovers: Arc<Leftovers>,
    pub(crate) outage: Outage,
}

/// How many connections there may be.
pub(crate) struct Slots {
    pub(crate) logins: Arc<PendingLogins>,
    pub(crate) wait_queue: WaitQueue,
    refusal_pace: Arc<RefusalPace>,
    /// Connections that have one.
    taken: Arc<AtomicU32>,
    limits: CurrentLimits,
}

/// One connection's place; given up when it is dropped.
struct Slot(Arc<AtomicU32>);

/// Who a client is, by the listener that it came through.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Peer {
    /// Anybody on this machine.
    Tcp,
    /// The user that the kernel says, and whether that one may come in.
    Unix { uid: u32, trusted: bool },
}

/// How a relayed connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// With its tunnel, while a statement ran or a transaction was open.
    AtWorkWithoutTunnel,
    Otherwise,
}

/// Serves a client on a task of its own.
pub(crate) fn begin<S: Stream + 'static>(stream: S, peer: Peer, gateway: &Arc<Gateway>) {
    let login = gateway.slots.logins.admit(&gateway.name);
    let gateway = Arc::clone(gateway);
    let tasks = gateway.tasks.clone();
    tasks.spawn(async move {
        let mut drain = gateway.drain.follow();
        tokio::select! {
            () = serve(stream, peer, login, &gateway) => {}
            () = drain.abandoned() => {}
        }
    });
}

async fn serve<S: Stream>(stream: S, peer: Peer, login: LoginSlot, gateway: &Arc<Gateway>) {
    let mut drain = gateway.drain.follow();
    let opening = tokio::select! {
        opening = timeout(LOGIN_LIMIT, gateway.open(stream, peer, &login)) => opening,
        () = login.sent_away() => return,
        _ = drain.now() => return,
    };
    drop(login);
    match opening {
        Ok(Ok(Opening::Managed(client, arriving))) => {
            managed(*client, arriving, gateway).await;
        }
        Ok(Ok(Opening::Passthrough(stream, arriving))) => {
            passthrough(stream, arriving, gateway).await;
        }
        Ok(Ok(Opening::Done)) => {}
        Ok(Err(error)) => {
            tracing::debug!(session = %gateway.name, %error, "a client did not get in");
        }
        Err(_) => {
            tracing::debug!(session = %gateway.name, "a client's log-in took too long");
        }
    }
}

/// What a connection came to once its client had spoken.
enum Opening<S: Stream> {
    /// A client that has been let in.
    Managed(Box<Authenticated<PrefixedIo<S>>>, TaskTrackerToken),
    /// One whose bytes aren't the daemon's to understand.
    Passthrough(PrefixedIo<S>, TaskTrackerToken),
    /// A client that has got what it came for, or has gone.
    Done,
}

async fn managed<S: Stream>(
    mut client: Authenticated<S>,
    arriving: TaskTrackerToken,
    gateway: &Arc<Gateway>,
) {
    let name = &gateway.name;
    let Some(_slot) = gateway.slots.take() else {
        let cause = gateway.too_many();
        gateway.tell(&cause);
        return client.refuse(&cause, name).await;
    };
    let startup = client.startup().clone();
    if let Some(ready) = warm::take(gateway, &startup).await {
        return warm::serve(client, arriving, ready, &startup, gateway).await;
    }
    let mut drain = gateway.drain.follow();
    let reached = tokio::select! {
        reached = gateway.log_in(&startup) => reached,
        // Nothing more is done for a client that has stopped waiting.
        () = client.left() => return,
        cause = drain.now() => Err(cause.into()),
    };
    drop(arriving);
    match reached {
        Ok(reached) => {
            let _counting = gateway.counters.connection();
            let _cancel_key = gateway.give_cancel_key(&reached);
            let Ok(mut client) = client.finish(&reached.greeting).await else {
                return;
            };
            warm::prepare(gateway, &startup);
            gateway
                .relay_managed(&mut client, reached, Bytes::new())
                .await;
        }
        Err(Refused::Because(cause)) => {
            gateway.tell(&cause);
            client.refuse(&cause, name).await;
        }
        Err(Refused::ByDatabase(answer)) => client.refuse_with(&answer).await,
    }
}

async fn passthrough<S: Stream>(mut stream: S, arriving: TaskTrackerToken, gateway: &Gateway) {
    let name = &gateway.name;
    let mut drain = gateway.drain.follow();
    let mut early = BytesMut::new();
    let reached = match gateway.slots.take() {
        Some(slot) => tokio::select! {
            channel = gateway.reach() => channel.map(|channel| (channel, slot)),
            // Nothing more is done for a client that has stopped waiting.
            () = left(&mut stream, &mut early) => return,
            cause = drain.now() => Err(cause),
        },
        None => Err(gateway.too_many()),
    };
    drop(arriving);
    let mut stream = PrefixedIo::new(early.freeze(), stream);
    match reached {
        Ok((channel, _slot)) => {
            let _counting = gateway.counters.connection();
            let tunnel = channel.closing();
            gateway.relay(&mut stream, channel, None, &tunnel).await;
        }
        Err(cause) => {
            gateway.tell(&cause);
            let refusing = refuse_unread(stream, &TlsOffer::Declined, &cause, name);
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
    pub(crate) fn new(limits: CurrentLimits) -> Self {
        Self {
            logins: Arc::default(),
            wait_queue: WaitQueue::new(),
            refusal_pace: Arc::default(),
            taken: Arc::default(),
            limits,
        }
    }

    /// A place, where fewer connections have one than the limit of the moment allows. One
    /// that is lowered ends no connection.
    fn take(&self) -> Option<Slot> {
        let limit = self.limits.borrow().max_connections;
        let one_more = |taken: u32| (taken < limit).then_some(taken + 1);
        self.taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
            .ok()?;
        Some(Slot(Arc::clone(&self.taken)))
    }
}

// === impl Slot ===

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

// === impl Gateway ===

impl Gateway {
    /// How connections to the database that are made now do TLS.
    pub(super) fn upstream_tls(&self) -> UpstreamTls {
        self.upstream_tls.borrow().clone()
    }

    /// Waits for the client to speak, and lets it in where that is the daemon's to do.
    async fn open<S: Stream>(
        &self,
        mut stream: S,
        peer: Peer,
        login: &LoginSlot,
    ) -> Result<Opening<S>, ClientError> {
        let mut first = [0];
        match stream.read(&mut first).await {
            Ok(0) => return Ok(Opening::Done),
            Ok(_) => login.has_spoken(),
            Err(error) => return Err(ClientError::Lost(error)),
        }
        let arriving = self.arriving.token();
        let stream = PrefixedIo::new(Bytes::copy_from_slice(&first), stream);
        match self.mode {
            Mode::Passthrough => Ok(Opening::Passthrough(stream, arriving)),
            Mode::Managed => Ok(match self.admit(stream, peer).await? {
                Some(client) => Opening::Managed(Box::new(client), arriving),
                None => Opening::Done,
            }),
        }
    }

    /// Says why a client is refused, beside saying so to the client.
    pub(crate) fn tell(&self, cause: &Cause) {
        // Those that retry in an outage would fill the log.
        if self
            .journal
            .failure(Some(&self.name), Kind::ConnectionRefused, cause)
        {
            tracing::info!(session = %self.name, %cause, "a client was refused");
        } else {
            tracing::debug!(session = %self.name, %cause, "a client was refused");
        }
    }

    /// Has cancel requests of the client that is about to hear of the connection lead there.
    pub(super) fn give_cancel_key(&self, reached: &Reached) -> Option<CancelKeyGuard> {
        let target = reached.cancel_target()?;
        Some(self.cancel_keys.give(target.key.clone(), target))
    }

    /// Joins a client and its connection to the database, of which `said` is the client's still.
    /// What the connection leaves behind, should its tunnel be lost, is ended later.
    pub(super) async fn relay_managed<C: Stream>(
        self: &Arc<Self>,
        client: &mut C,
        reached: Reached,
        said: Bytes,
    ) {
        // Some poolers give no key.
        let key = reached.cancel.as_ref();
        let backend = key.map(|key| Backend::new(key, reached.since));
        let stream = PrefixedIo::new(said, reached.stream);
        let tracker = Some(ProtocolTracker::new());
        let ended = self.relay(client, stream, tracker, &reached.closing).await;
        if let (Ended::AtWorkWithoutTunnel, Some(backend)) = (ended, backend) {
            self.leftovers.clear(backend, Arc::clone(self), &self.drain);
        }
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
            Greeting::Startup(client) => {
                let client = client.paced(&self.slots.refusal_pace);
                let admitted = client.authenticate(&self.name, auth).await;
                if let Err(ClientError::Refused { message, .. }) = &admitted {
                    self.journal
                        .counted(&self.name, Kind::PasswordRefused, message.clone());
                }
                admitted.map(Some)
            }
            // Clients take the end for "done".
            Greeting::Cancel(request, mut until_done) => {
                self.cancel(&request).await;
                last_words::say_and_linger(&mut until_done, &[]).await;
                Ok(None)
            }
            Greeting::Gone => Ok(None),
        }
    }

    /// Joins client and database until one of them ends it, their tunnel does, or the
    /// session; in the latter cases the client is told where the protocol allows it.
    async fn relay<C: Stream, D: Stream>(
        &self,
        client: &mut C,
        database: D,
        tracker: Option<ProtocolTracker>,
        tunnel: &Closing,
    ) -> Ended {
        let observer = RelayObserver {
            counters: &self.counters,
            on_changed_log_ins: &|| self.warm.clear(),
        };
        let mut relay = Relay::new(client, database, tracker, observer);
        let (mut drain, mut at_idle) = (self.drain.follow(), self.drain.follow());
        let cause = tokio::select! {
            stopped = relay.run() => return self.part(relay, stopped, tunnel).await,
            cause = tunnel.closed() => Err(cause),
            cause = drain.now() => Ok(cause),
            (which, cause) = at_idle.at_idle() => tokio::select! {
                stopped = run_until(&mut relay, which) => match stopped {
                    Stopped::Idle => Ok(cause),
                    stopped => return self.part(relay, stopped, tunnel).await,
                },
                cause = tunnel.closed() => Err(cause),
                cause = drain.now() => Ok(cause),
            },
        };
        let cause = match cause {
            Ok(cause) => cause,
            Err(lost) => {
                // What was received before the line broke is the client's.
                let _ = timeout(REST_LIMIT, relay.run()).await;
                return self.end_without_tunnel(relay, &lost).await;
            }
        };
        tracing::info!(session = %self.name, %cause, "a connection was ended");
        relay
            .close_with_error(&refusal::farewell(&cause, &self.name))
            .await;
        Ended::Otherwise
    }

    /// Ends a connection whose tunnel has ended.
    async fn end_without_tunnel<C: Stream, D: Stream>(
        &self,
        relay: Relay<'_, C, D>,
        cause: &Cause,
    ) -> Ended {
        tracing::info!(session = %self.name, %cause, "a connection was ended");
        let ended = if relay.is_at_work() {
            Ended::AtWorkWithoutTunnel
        } else {
            Ended::Otherwise
        };
        relay
            .close_with_error(&refusal::farewell(cause, &self.name))
            .await;
        ended
    }

    /// Ends a connection of which one side has ended.
    async fn part<C: Stream, D: Stream>(
        &self,
        relay: Relay<'_, C, D>,
        stopped: Stopped,
        tunnel: &Closing,
    ) -> Ended {
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
            && !relay.was_announced()
            && let Ok(cause) = timeout(TUNNEL_NOTICE, tunnel.closed()).await
        {
            return self.end_without_tunnel(relay, &cause).await;
        }
        relay.close().await;
        Ended::Otherwise
    }

    fn too_many(&self) -> Cause {
        Cause::TooManyConnections {
            limit: self.limits.borrow().max_connections,
        }
    }
}

/// Copies until the connection ends, or is idle in the way that is wanted.
async fn run_until<C: Stream, D: Stream>(
    relay: &mut Relay<'_, C, D>,
    which: IdlePolicy,
) -> Stopped {
    loop {
        match relay.run_until_idle().await {
            Stopped::Idle if which == IdlePolicy::Lasting => {}
            stopped => return stopped,
        }
        let asked = relay.asked();
        match timeout(LASTING, relay.run()).await {
            Ok(stopped) => return stopped,
            Err(_) if relay.is_idle() && relay.asked() == asked => return Stopped::Idle,
            Err(_) => {}
        }
    }
}
