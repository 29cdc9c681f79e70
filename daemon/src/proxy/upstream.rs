//! The way from a session to its database: a channel, a log-in with the credentials of the
//! moment, and what is done where one of them fails.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use rand::RngExt as _;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{cancel_keys::CancelTarget, connection::Gateway, leftovers::Database};
use crate::{
    journal::Kind,
    model::{Cause, DatabaseCredential, Generation, HostPort, Lease},
    platform::clock::{BootInstant, Clock},
    postgres::{
        self, CancelRequest, LoggedIn, LoginError, MaybeTls, StartupParameters, last_words,
    },
    ssh::{ChannelStream, Closing, Tunnel},
    tunnels::Gate,
};

/// A cancel request is answered by closing; a server that doesn't isn't waited for.
const CANCEL_LIMIT: Duration = Duration::from_secs(10);
/// Renewals one log-in asks for before it gives up: the credentials that the provider issues
/// don't work. Another machine of the user that renews as fast stays below it, since each
/// waits for the other's turn.
const MAX_RENEWALS: u32 = 12;
/// Pause between tries while the database server restarts.
const RESTART_PAUSE: Duration = Duration::from_millis(250);

/// A connection on which the database waits for a query.
pub(crate) struct Reached {
    pub(crate) stream: MaybeTls<ChannelStream>,
    pub(crate) greeting: Bytes,
    /// What would cancel a query on it.
    pub(crate) cancel: Option<CancelRequest>,
    pub(crate) closing: Closing,
    /// What it goes through.
    pub(crate) tunnel: Tunnel,
    /// When the database was last known to have it: the log-in's end.
    pub(crate) since: BootInstant,
    /// Of the credential that it was logged in with.
    pub(crate) generation: Generation,
}

/// What a connection goes through.
struct Line {
    closing: Closing,
    tunnel: Tunnel,
}

/// Why a client doesn't get its database.
pub(crate) enum Refused {
    /// In our words.
    Because(Cause),
    /// In the database's own.
    ByDatabase(Bytes),
}

// === impl Line ===

impl Line {
    fn of(channel: &ChannelStream) -> Self {
        Self {
            closing: channel.closing(),
            tunnel: channel.tunnel().clone(),
        }
    }
}

// === impl Reached ===

impl Reached {
    fn new(logged_in: LoggedIn<ChannelStream>, line: Line, generation: Generation) -> Self {
        let Line { closing, tunnel } = line;
        Self {
            stream: logged_in.stream,
            greeting: logged_in.greeting,
            cancel: logged_in.cancel,
            closing,
            tunnel,
            since: Clock::now(),
            generation,
        }
    }
}

impl Reached {
    /// What a cancel request for it does.
    pub(crate) fn cancel_target(&self) -> Option<CancelTarget> {
        Some(CancelTarget {
            key: self.cancel.clone()?,
            tunnel: self.tunnel.clone(),
        })
    }
}

impl From<Cause> for Refused {
    fn from(cause: Cause) -> Self {
        Self::Because(cause)
    }
}

// === impl Gateway: upstream ===

impl Gateway {
    /// A channel to the database, held for while there is no tunnel.
    pub(crate) async fn reach(&self) -> Result<ChannelStream, Cause> {
        let began = Instant::now();
        let deadline = began + self.limits.borrow().connect_timeout;
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
    pub(crate) async fn log_in(&self, startup: &StartupParameters) -> Result<Reached, Refused> {
        let began = Instant::now();
        let deadline = began + self.limits.borrow().connect_timeout;
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
            let line = Line::of(&channel);
            let tls = self.upstream_tls();
            let database = lease.credential.database.as_str();
            let other_database = startup
                .chosen_database()
                .filter(|chosen| *chosen != database.as_bytes())
                .map(|_| database);
            let logging_in = postgres::log_in(channel, &tls, &lease.credential, startup);
            let error = match timeout_at(deadline, logging_in).await {
                Ok(Ok(logged_in)) => {
                    self.note_taken(lease.generation);
                    return Ok(Reached::new(logged_in, line, lease.generation));
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
                        self.broker.database_refused(key, lease.generation, &cause);
                    }
                    after = Some(lease.generation);
                }
                // The connection that is kept ready takes no client's place.
                _ if is_full(&error) && self.warm.give_back() => sleep(RESTART_PAUSE).await,
                // A server that is starting or stopping, or a channel that broke, is another
                // one in a moment.
                cause if may_pass(&error) && Instant::now() + RESTART_PAUSE * 2 < deadline => {
                    self.pause_after(cause, deadline).await?;
                }
                _ => {
                    return Err(Refused::ByDatabase(error.error_response(
                        server,
                        &self.name,
                        other_database,
                    )));
                }
            }
        }
    }

    /// A log-in with what is at hand: where a renewal or a tunnel would have to be waited for,
    /// or anything goes wrong, none.
    pub(crate) async fn log_in_ahead(&self, startup: &StartupParameters) -> Option<Reached> {
        if *self.tunnels.gate().borrow() != Gate::Open {
            return None;
        }
        let lease = self.current_lease()?;
        let channel = self.tunnels.channel(&lease.credential.server).await.ok()?;
        let line = Line::of(&channel);
        match postgres::log_in(channel, &self.upstream_tls(), &lease.credential, startup).await {
            Ok(logged_in) => {
                self.note_taken(lease.generation);
                Some(Reached::new(logged_in, line, lease.generation))
            }
            Err(error) => {
                tracing::debug!(session = %self.name, %error, "no connection ahead of need");
                if is_full(&error) {
                    self.warm.give_back();
                }
                None
            }
        }
    }

    /// The lease that a log-in would be made with now.
    pub(crate) fn current_lease(&self) -> Option<Arc<Lease<DatabaseCredential>>> {
        let key = self.key.borrow().clone()?;
        self.broker.current_database(&key)
    }

    fn note_taken(&self, generation: Generation) {
        if let Some(key) = &*self.key.borrow() {
            self.broker.database_took(key, generation);
        }
    }

    async fn wait_for_tunnel(&self, began: Instant, deadline: Instant) -> Result<(), Cause> {
        let passing = self
            .slots
            .wait_queue
            .wait_turn(self.tunnels.gate(), &self.client_waits);
        let hold = self.outage.hold(self.limits.borrow().connect_timeout);
        let outcome = match timeout_at(deadline.min(began + hold), passing).await {
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

    /// Passes a cancel request on, where a client of this session was given its key; others are
    /// closed without a word, as PostgreSQL does. Goes through the tunnel of the connection
    /// that it is for: a new one might take long, or not come up at all.
    pub(crate) async fn cancel(&self, request: &CancelRequest) {
        let Some(CancelTarget { key, tunnel }) = self.cancel_keys.find(request) else {
            self.journal
                .counted(&self.name, Kind::CancelRefused, String::new());
            return;
        };
        let forwarding = async {
            let lease = self.current_lease()?;
            let server = &lease.credential.server;
            let closing = tunnel.closing();
            let channel = self.tunnels.channel_for_cancel(server, Some(&closing));
            postgres::forward_cancel(channel.await.ok()?, &key)
                .await
                .ok()
        };
        match timeout(CANCEL_LIMIT, forwarding).await {
            Ok(Some(())) => {}
            _ => tracing::info!(session = %self.name, "a cancel request could not be passed on"),
        }
    }
}

impl Database for Gateway {
    fn gate(&self) -> watch::Receiver<Gate> {
        self.tunnels.gate()
    }

    async fn count_true(&self, sql: &str) -> Option<usize> {
        let names = [("user", "borealisd"), ("application_name", "borealisd")];
        let startup = StartupParameters::new(names).ok()?;
        let mut reached = self.log_in_ahead(&startup).await?;
        let rows = postgres::query(&mut reached.stream, sql).await;
        last_words::terminate(&mut reached.stream).await;
        match rows {
            Ok(rows) => Some(rows.iter().filter(|row| &row[..] == b"t").count()),
            Err(error) => {
                tracing::info!(session = %self.name, %error, "a question of its own failed");
                None
            }
        }
    }

    fn have_ended(&self, count: usize) {
        let what = if count == 1 {
            "connection"
        } else {
            "connections"
        };
        let detail = format!("({count} {what} with a transaction or a statement)");
        tracing::info!(session = %self.name, count, "ended what lost connections had left at work");
        self.journal
            .of_session(&self.name, Kind::LeftoversEnded, detail);
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

/// Whether the server, or the role, has all the connections that it may have.
fn is_full(error: &LoginError) -> bool {
    matches!(error, LoginError::Refused(refusal) if refusal.sqlstate() == "53300")
}

fn timed_out(began: Instant, because: Option<Cause>) -> Cause {
    Cause::HoldTimeout {
        waited: began.elapsed(),
        because: because.map(Box::new),
    }
}
