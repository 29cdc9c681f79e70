//! The way from a session to its database: a channel, a log-in with the credentials of the
//! moment, and what is done where one of them fails.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use rand::RngExt as _;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, timeout_at},
};

use super::{
    CurrentLimits,
    cancel_keys::CancelTarget,
    connector::{self, Channel, Connect, Reached, is_full},
    leftovers::Database,
    outage::Outage,
    wait_queue::WaitQueue,
    warm::WarmPool,
};
use crate::{
    credential::DatabaseLease,
    journal::{Journal, Kind},
    model::{Cause, Generation, HostPort, SessionName},
    postgres::{self, LoginError, StartupParameters, last_words},
    tunnels::Gate,
};

/// Renewals one log-in asks for before it gives up: the credentials that the provider issues
/// don't work. Another machine of the user that renews as fast stays below it, since each
/// waits for the other's turn.
const MAX_RENEWALS: u32 = 12;
/// Pause between tries while the database server restarts.
const RESTART_PAUSE: Duration = Duration::from_millis(250);

/// The way to the database of one session.
pub(crate) struct Upstream<C: Connect> {
    name: SessionName,
    connector: Arc<C>,
    warm: Arc<WarmPool<C>>,
    limits: CurrentLimits,
    journal: Journal,
    wait_queue: WaitQueue,
    /// A client waits for a tunnel.
    client_waits: mpsc::Sender<()>,
    outage: Outage,
}

/// Why a client doesn't get its database.
#[derive(Debug)]
pub(crate) enum Refused {
    /// In our words.
    Because(Cause),
    /// In the database's own.
    ByDatabase(Bytes),
}

/// What follows from a log-in that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// The credential is refused: another one is asked for.
    Renew,
    /// The database has no connection left: one that is kept ready takes no client's place.
    GiveBack,
    /// The server is starting or stopping, or the channel broke: another try in a moment.
    Pause,
    /// The client is told.
    Refuse,
}

impl From<Cause> for Refused {
    fn from(cause: Cause) -> Self {
        Self::Because(cause)
    }
}

// === impl Upstream ===

impl<C: Connect> Upstream<C> {
    /// `client_waits` hears of clients that wait for a tunnel.
    pub(crate) fn new(
        warm: Arc<WarmPool<C>>,
        limits: CurrentLimits,
        journal: Journal,
        client_waits: mpsc::Sender<()>,
    ) -> Self {
        Self {
            name: warm.name().clone(),
            connector: Arc::clone(warm.connector()),
            warm,
            limits,
            journal,
            wait_queue: WaitQueue::new(),
            client_waits,
            outage: Outage::default(),
        }
    }

    pub(crate) fn name(&self) -> &SessionName {
        &self.name
    }

    /// The connections that are kept ready.
    pub(crate) fn warm(&self) -> &Arc<WarmPool<C>> {
        &self.warm
    }

    /// Since when the session has been away.
    pub(crate) fn outage(&self) -> &Outage {
        &self.outage
    }

    /// Asks the line for a sign of life, in the background.
    pub(crate) fn probe(&self) {
        self.connector.probe();
    }

    /// A channel to the database, held for while there is no tunnel.
    ///
    /// # Errors
    /// Why there is none within `connect_timeout`.
    pub(crate) async fn channel(&self) -> Result<C::Channel, Cause> {
        let began = Instant::now();
        let deadline = began + self.limits.borrow().connect_timeout;
        loop {
            self.wait_for_tunnel(began, deadline).await?;
            let lease = self.lease(None, deadline).await?;
            match self.channel_to(&lease.credential.server, deadline).await {
                Ok(channel) => return Ok(channel),
                Err(cause) => pause_after(cause, deadline).await?,
            }
        }
    }

    /// A log-in to the database with the credentials of the moment; with the next ones,
    /// where the database refuses those.
    ///
    /// # Errors
    /// Why there is none within `connect_timeout`.
    pub(crate) async fn log_in(
        &self,
        startup: &StartupParameters,
    ) -> Result<Reached<C::Channel>, Refused> {
        let began = Instant::now();
        let deadline = began + self.limits.borrow().connect_timeout;
        let mut after = None;
        let mut renewals = 0;
        loop {
            self.wait_for_tunnel(began, deadline).await?;
            let lease = self.lease(after, deadline).await?;
            let server = &lease.credential.server;
            let channel = match self.channel_to(server, deadline).await {
                Ok(channel) => channel,
                Err(cause) => {
                    pause_after(cause, deadline).await?;
                    continue;
                }
            };
            let logging_in = connector::log_in(&*self.connector, channel, &lease, startup);
            let error = match timeout_at(deadline, logging_in).await {
                Ok(Ok(reached)) => return Ok(reached),
                Ok(Err(error)) => error,
                Err(_) => return Err(timed_out(began, None).into()),
            };
            let cause = error.cause(server);
            match classify(&error, &cause, deadline.duration_since(Instant::now())) {
                Next::Renew => {
                    renewals += 1;
                    if renewals > MAX_RENEWALS {
                        return Err(cause.into());
                    }
                    tracing::info!(session = %self.name, %cause, "asking for new credentials");
                    self.connector.was_refused(lease.generation, &cause);
                    after = Some(lease.generation);
                }
                Next::GiveBack if self.warm.give_back() => sleep(RESTART_PAUSE).await,
                Next::Pause => pause_after(cause, deadline).await?,
                Next::GiveBack | Next::Refuse => {
                    return Err(self.in_the_databases_words(&error, &lease, startup));
                }
            }
        }
    }

    fn in_the_databases_words(
        &self,
        error: &LoginError,
        lease: &DatabaseLease,
        startup: &StartupParameters,
    ) -> Refused {
        let database = lease.credential.database.as_str();
        let other_database = startup
            .chosen_database()
            .filter(|chosen| *chosen != database.as_bytes())
            .map(|_| database);
        let server = &lease.credential.server;
        Refused::ByDatabase(error.error_response(server, &self.name, other_database))
    }

    async fn wait_for_tunnel(&self, began: Instant, deadline: Instant) -> Result<(), Cause> {
        let gate = self.connector.gate();
        let passing = self.wait_queue.wait_turn(gate.clone(), &self.client_waits);
        let hold = self.outage.hold(self.limits.borrow().connect_timeout);
        match timeout_at(deadline.min(began + hold), passing).await {
            Ok(Some(Gate::Refuse(cause))) => Err(cause),
            Ok(Some(Gate::Open | Gate::Hold(_))) => Ok(()),
            Ok(None) => Err(Cause::SessionClosing),
            Err(_) => {
                let because = match &*gate.borrow() {
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
    ) -> Result<DatabaseLease, Cause> {
        let began = Instant::now();
        match timeout_at(deadline, self.connector.lease(after)).await {
            Ok(answer) => answer,
            Err(_) => Err(timed_out(began, None)),
        }
    }

    async fn channel_to(&self, server: &HostPort, deadline: Instant) -> Result<C::Channel, Cause> {
        let began = Instant::now();
        match timeout_at(deadline, self.connector.channel(server)).await {
            Ok(answer) => answer,
            Err(_) => Err(timed_out(began, None)),
        }
    }

    /// Passes a cancel request on to the connection that it is for, through the tunnel of that:
    /// a new one might take long, or not come up at all. `None` where it isn't known to have
    /// arrived. The time is the caller's to bound.
    pub(crate) async fn forward_cancel(
        &self,
        target: &CancelTarget<<C::Channel as Channel>::Closing>,
    ) -> Option<()> {
        let lease = self.connector.current_lease()?;
        let server = &lease.credential.server;
        let channel = self.connector.channel_for_cancel(server, &target.closing);
        postgres::forward_cancel(channel.await.ok()?, &target.key)
            .await
            .ok()
    }
}

impl<C: Connect> Database for Upstream<C> {
    fn gate(&self) -> watch::Receiver<Gate> {
        self.connector.gate()
    }

    async fn count_true(&self, sql: &str) -> Option<usize> {
        let names = [("user", "borealisd"), ("application_name", "borealisd")];
        let startup = StartupParameters::new(names).ok()?;
        let mut reached = self.warm.log_in_ahead(&startup).await?;
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

/// What follows from a log-in that failed with `error`, which is that `cause`, so long before
/// the client is held no longer.
fn classify(error: &LoginError, cause: &Cause, time_left: Duration) -> Next {
    match cause {
        Cause::DatabaseRefusedLogin { .. } => Next::Renew,
        _ if is_full(error) => Next::GiveBack,
        _ if may_pass(error) && RESTART_PAUSE * 2 < time_left => Next::Pause,
        _ => Next::Refuse,
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

/// Waits a moment after a failure that may pass; the cause itself where there is no time
/// left, or where waiting is no use.
async fn pause_after(cause: Cause, deadline: Instant) -> Result<(), Cause> {
    match cause {
        Cause::TunnelLost { .. }
        | Cause::DatabaseUnreachable { .. }
        | Cause::DatabaseRefused { .. } => {}
        other => return Err(other),
    }
    let pause = RESTART_PAUSE.mul_f64(rand::rng().random_range(0.5..1.5));
    if Instant::now() + pause >= deadline {
        return Err(cause);
    }
    sleep(pause).await;
    Ok(())
}

fn timed_out(began: Instant, because: Option<Cause>) -> Cause {
    Cause::HoldTimeout {
        waited: began.elapsed(),
        because: because.map(Box::new),
    }
}

#[cfg(test)]
mod tests;
