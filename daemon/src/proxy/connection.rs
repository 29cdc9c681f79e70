//! One client's connection, from its first byte to its last.

use std::{sync::Arc, time::Duration};

use bytes::{BufMut as _, Bytes, BytesMut};
use tokio::{io::AsyncReadExt as _, time::timeout};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{
    admission::{Admitted, Peer},
    clients::{Clients, Closing},
    connector::{Channel, Connect, Reached, WatchClosing},
    drain::{DrainReceiver, IdlePolicy},
    leftovers::Backend,
    pending_logins::LoginSlot,
    record::{ConnectionRecord, Registered, State},
    relay::{Relay, RelayObserver, Stopped},
    upstream::Refused,
    warm::{HandedOver, hand_over},
};
use crate::{
    model::{Cause, Mode, SessionName},
    postgres::{
        Authenticated, CancelRequest, ClientError, PrefixedIo, ProtocolTracker, StartupParameters,
        Stream, TlsOffer, last_words, refusal, refuse_unread,
    },
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

/// What is known of one client's connection.
struct Connection<C: Connect> {
    clients: Arc<Clients<C>>,
    peer: Peer,
    /// What others see of it.
    registered: Registered,
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

/// Serves a client on a task of its own.
pub(crate) fn begin<S: Stream + 'static, C: Connect>(
    stream: S,
    peer: Peer,
    clients: &Arc<Clients<C>>,
) {
    let login = clients.pending.admit(&clients.name);
    let connection = Connection {
        clients: Arc::clone(clients),
        peer,
        registered: clients.counters.registry.enter(peer.process()),
    };
    clients.tasks.spawn(async move {
        let mut drain = connection.drain();
        tokio::select! {
            () = connection.serve(stream, login) => {}
            () = drain.abandoned() => {}
        }
    });
}

// === impl Connection ===

impl<C: Connect> Connection<C> {
    fn name(&self) -> &SessionName {
        &self.clients.name
    }

    fn record(&self) -> &ConnectionRecord {
        self.registered.record()
    }

    fn drain(&self) -> DrainReceiver {
        self.record().follow(&self.clients.drain)
    }

    async fn serve<S: Stream>(&self, stream: S, login: LoginSlot) {
        let mut drain = self.drain();
        let opening = tokio::select! {
            opening = timeout(LOGIN_LIMIT, self.open(stream, &login)) => opening,
            () = login.sent_away() => return,
            _ = drain.now() => return,
        };
        drop(login);
        match opening {
            Ok(Ok(Opening::Managed(client, arriving))) => {
                self.record()
                    .has_logged_in(client.startup(), client.is_tls());
                self.record().live.enter(State::Held);
                self.managed(*client, arriving).await;
            }
            Ok(Ok(Opening::Passthrough(stream, arriving))) => {
                self.record().live.enter(State::Held);
                self.passthrough(stream, arriving).await;
            }
            Ok(Ok(Opening::Done)) => {}
            Ok(Err(error)) => {
                tracing::debug!(session = %self.name(), %error, "a client did not get in");
            }
            Err(_) => {
                tracing::debug!(session = %self.name(), "a client's log-in took too long");
            }
        }
    }

    /// Waits for the client to speak, and lets it in where that is the daemon's to do.
    async fn open<S: Stream>(
        &self,
        mut stream: S,
        login: &LoginSlot,
    ) -> Result<Opening<S>, ClientError> {
        let mut first = [0];
        match stream.read(&mut first).await {
            Ok(0) => return Ok(Opening::Done),
            Ok(_) => login.has_spoken(),
            Err(error) => return Err(ClientError::Lost(error)),
        }
        let arriving = self.clients.arriving.token();
        let stream = PrefixedIo::new(Bytes::copy_from_slice(&first), stream);
        if self.clients.mode == Mode::Passthrough {
            return Ok(Opening::Passthrough(stream, arriving));
        }
        match self.clients.admission.admit(stream, self.peer).await? {
            Admitted::Client(client) => Ok(Opening::Managed(Box::new(client), arriving)),
            // Clients take the end for "done".
            Admitted::Cancel(request, mut until_done) => {
                self.clients.cancel(&request).await;
                last_words::say_and_linger(&mut until_done, &[]).await;
                Ok(Opening::Done)
            }
            Admitted::Done => Ok(Opening::Done),
        }
    }

    async fn managed<S: Stream>(&self, client: Authenticated<S>, arriving: TaskTrackerToken) {
        let _slot = match self.clients.slots.take() {
            Ok(slot) => slot,
            Err(cause) => {
                self.clients.tell(&cause);
                return client.refuse(&cause, self.name()).await;
            }
        };
        let startup = client.startup().clone();
        match self.clients.upstream.warm().take(&startup).await {
            Some(ready) => self.serve_ready(client, arriving, ready, &startup).await,
            None => self.serve_new(client, arriving, &startup).await,
        }
    }

    /// Serves a client with a new connection.
    async fn serve_new<S: Stream>(
        &self,
        mut client: Authenticated<S>,
        arriving: TaskTrackerToken,
        startup: &StartupParameters,
    ) {
        let clients = &self.clients;
        let mut drain = self.drain();
        let reached = tokio::select! {
            reached = clients.upstream.log_in(startup) => reached,
            // Nothing more is done for a client that has stopped waiting.
            () = client.left() => return,
            cause = drain.now() => Err(cause.into()),
        };
        drop(arriving);
        match reached {
            Ok(reached) => {
                let _counting = clients.counters.connection();
                let _cancel_key = clients.give_cancel_key(&reached, self.record());
                let Ok(mut client) = client.finish(&reached.greeting).await else {
                    return;
                };
                clients.upstream.warm().prepare(startup);
                self.relay_managed(&mut client, reached, Bytes::new()).await;
            }
            Err(Refused::Because(cause)) => {
                clients.tell(&cause);
                client.refuse(&cause, self.name()).await;
            }
            Err(Refused::ByDatabase(answer)) => client.refuse_with(&answer).await,
        }
    }

    /// Serves a client with a connection that was kept ready; with a new one, should the
    /// database have ended that.
    async fn serve_ready<S: Stream>(
        &self,
        client: Authenticated<S>,
        arriving: TaskTrackerToken,
        ready: Reached<C::Channel>,
        startup: &StartupParameters,
    ) {
        let clients = &self.clients;
        let _counting = clients.counters.connection();
        let cancel_key = clients.give_cancel_key(&ready, self.record());
        let Ok(client) = client.finish(&ready.greeting).await else {
            return;
        };
        let upstream = &clients.upstream;
        upstream.warm().prepare(startup);
        let mut drain = self.drain();
        let handed = hand_over(
            client,
            ready,
            cancel_key.as_ref(),
            startup,
            upstream,
            &mut drain,
        );
        let handed = handed.await;
        drop(arriving);
        match handed {
            Ok(HandedOver {
                mut client,
                database,
                said,
            }) => self.relay_managed(&mut client, database, said).await,
            Err((client, Refused::Because(cause))) => {
                clients.tell(&cause);
                let response = refusal::error_response(&cause, self.name());
                refusal::send_and_close(client, &response).await;
            }
            Err((client, Refused::ByDatabase(answer))) => {
                refusal::send_and_close(client, &answer).await;
            }
        }
    }

    async fn passthrough<S: Stream>(&self, mut stream: S, arriving: TaskTrackerToken) {
        let clients = &self.clients;
        let mut drain = self.drain();
        let mut early = BytesMut::new();
        let reached = match clients.slots.take() {
            Ok(slot) => tokio::select! {
                channel = clients.upstream.channel() => channel.map(|channel| (channel, slot)),
                // Nothing more is done for a client that has stopped waiting.
                () = left(&mut stream, &mut early) => return,
                cause = drain.now() => Err(cause),
            },
            Err(cause) => Err(cause),
        };
        drop(arriving);
        let mut stream = PrefixedIo::new(early.freeze(), stream);
        match reached {
            Ok((channel, _slot)) => {
                let _counting = clients.counters.connection();
                let tunnel = channel.closing();
                self.record().has_reached(tunnel.tunnel(), None);
                self.relay(&mut stream, channel, None, &tunnel, None).await;
            }
            Err(cause) => {
                clients.tell(&cause);
                let refusing = refuse_unread(stream, &TlsOffer::Declined, &cause, self.name());
                let _ = timeout(LOGIN_LIMIT, refusing).await;
            }
        }
    }

    /// Joins a client and its connection to the database, of which `said` is the client's still.
    /// What the connection leaves behind, should its tunnel be lost, is ended later.
    async fn relay_managed<S: Stream>(
        &self,
        client: &mut S,
        reached: Reached<C::Channel>,
        said: Bytes,
    ) {
        // Some poolers give no key.
        let key = reached.cancel.as_ref();
        let backend = key.map(|key| Backend::new(key, reached.since));
        self.record()
            .has_reached(reached.closing.tunnel(), key.map(CancelRequest::process_id));
        let stream = PrefixedIo::new(said, reached.stream);
        let tracker = Some(ProtocolTracker::new());
        self.relay(client, stream, tracker, &reached.closing, backend)
            .await;
    }

    /// Has what a connection leaves at work at the database ended there.
    fn leave_behind(&self, backend: Option<Backend>) {
        let Clients {
            leftovers,
            upstream,
            drain,
            ..
        } = &*self.clients;
        if let Some(backend) = backend {
            leftovers.clear(backend, Arc::clone(upstream), drain);
        }
    }

    /// Ends the statement of a connection that somebody has ended: closing alone doesn't, as
    /// the server looks for its client when it has an answer for it.
    fn stop_statement(&self, backend: Option<Backend>) {
        // A round trip, where the log-in of the other takes several.
        tokio::spawn(self.record().cancel_query());
        self.leave_behind(backend);
    }

    /// Joins client and database until one of them ends it, their tunnel does, or the
    /// session; in the latter cases the client is told where the protocol allows it.
    async fn relay<S: Stream, D: Stream>(
        &self,
        client: &mut S,
        database: D,
        tracker: Option<ProtocolTracker>,
        tunnel: &Closing<C>,
        backend: Option<Backend>,
    ) {
        let observer = RelayObserver {
            counters: &self.clients.counters,
            live: &self.record().live,
            on_changed_log_ins: &|| self.clients.upstream.warm().clear(),
        };
        let mut relay = Relay::new(client, database, tracker, observer);
        let (mut drain, mut at_idle) = (self.drain(), self.drain());
        let cause = tokio::select! {
            stopped = relay.run() => return self.part(relay, stopped, tunnel, backend).await,
            cause = tunnel.closed() => Err(cause),
            cause = drain.now() => Ok(cause),
            (which, cause) = at_idle.at_idle() => tokio::select! {
                stopped = run_until(&mut relay, which) => match stopped {
                    Stopped::Idle => Ok(cause),
                    stopped => return self.part(relay, stopped, tunnel, backend).await,
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
                return self.end_without_tunnel(relay, &lost, backend).await;
            }
        };
        tracing::info!(session = %self.name(), %cause, "a connection was ended");
        if matches!(cause, Cause::ConnectionEnded { .. }) && relay.is_active() {
            self.stop_statement(backend);
        }
        relay
            .close_with_error(&refusal::farewell(&cause, self.name()))
            .await;
    }

    /// Ends a connection whose tunnel has ended.
    async fn end_without_tunnel<S: Stream, D: Stream>(
        &self,
        relay: Relay<'_, S, D>,
        cause: &Cause,
        backend: Option<Backend>,
    ) {
        tracing::info!(session = %self.name(), %cause, "a connection was ended");
        if relay.is_at_work() {
            self.leave_behind(backend);
        }
        relay
            .close_with_error(&refusal::farewell(cause, self.name()))
            .await;
    }

    /// Ends a connection of which one side has ended.
    async fn part<S: Stream, D: Stream>(
        &self,
        relay: Relay<'_, S, D>,
        stopped: Stopped,
        tunnel: &Closing<C>,
        backend: Option<Backend>,
    ) {
        let (ended_by_client, error) = match stopped {
            Stopped::Client(error) => (true, error),
            Stopped::Database(error) => (false, error),
            Stopped::Idle => (false, None),
        };
        if let Some(error) = error {
            tracing::debug!(session = %self.name(), ended_by_client, %error, "a connection broke");
        }
        // A channel ends with its tunnel, and may be seen to end first.
        if !ended_by_client
            && !relay.was_announced()
            && let Ok(cause) = timeout(TUNNEL_NOTICE, tunnel.closed()).await
        {
            return self.end_without_tunnel(relay, &cause, backend).await;
        }
        relay.close().await;
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

/// Copies until the connection ends, or is idle in the way that is wanted.
async fn run_until<S: Stream, D: Stream>(
    relay: &mut Relay<'_, S, D>,
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
