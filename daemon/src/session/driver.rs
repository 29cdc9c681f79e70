//! Owns one session: feeds the machine what happens, does what it decides, and tells.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use rand::RngExt as _;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::{
    CredentialStatus, Spec, Status,
    connect::{Attempt, EarlyDial, Found, database_key},
    machine::{Action, Event, Phase, RetryTrigger, SessionStateMachine},
};
use crate::{
    credential::{Broker, DatabaseKey, DatabaseLease},
    journal::{Journal, Kind},
    model::{Cause, Class, Retry},
    platform::clock::{self, BootInstant, Clock},
    postgres::{LocalTls, UpstreamTls},
    proxy::{
        Address, CancelKeys, Counters, CurrentLimits, Drain, Endpoint, Gateway, IdlePolicy,
        LocalLogin, Outage, Slots, WarmPool, accept_tcp, accept_unix,
    },
    service_manager::notify,
    tunnels::{Gate, Level, Pools, Tunnels, none_is_up},
};

mod credential;
mod inputs;
mod target;

use self::inputs::{Input, Inputs};

/// What every session is built with.
#[derive(Clone)]
pub struct Environment {
    /// Where leases come from.
    pub broker: Arc<Broker>,
    /// Where what happens to it is told.
    pub journal: Journal,
    /// Where tunnels come from.
    pub pools: Arc<Pools>,
    /// The config's limits.
    pub limits: CurrentLimits,
    /// Grows when the network has changed, or the machine has woken up.
    pub network: watch::Receiver<u64>,
    /// TLS to the database, for connections that are made from now on.
    pub upstream_tls: watch::Receiver<UpstreamTls>,
    /// TLS for local clients, asked for at each connection: its certificate is renewed.
    pub local_tls: Arc<dyn Fn() -> LocalTls + Send + Sync>,
}

/// A running session, as the supervisor holds it.
#[derive(Debug)]
pub struct Session {
    /// Where clients find it.
    pub address: Address,
    /// What it is doing.
    pub status: watch::Receiver<Status>,
    /// What passed through it.
    pub counters: Arc<Counters>,
    /// What it can be told.
    pub commands: mpsc::Sender<Command>,
    task: JoinHandle<()>,
}

/// What a session can be told.
#[derive(Debug)]
pub enum Command {
    /// Ask for new credentials, in place of those that were held when the user `asked`;
    /// answered when they are in use, or why they are not, within a minute.
    Rotate {
        /// When.
        asked: BootInstant,
        /// Who waits.
        reply: oneshot::Sender<Result<(), Cause>>,
    },
    /// Somebody asks for the session again: a reason to try now, and to look where its target
    /// leads. Answered when that is known, as far as it can be.
    Refresh(oneshot::Sender<()>),
    /// Take no more connections, let the open ones end, and end.
    Close(CloseRequest),
}

/// How a session ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloseRequest {
    /// What clients are told.
    pub cause: Cause,
    /// When connections that are open still are ended. The session itself has ended
    /// [`END_LIMIT`] later at the latest.
    pub deadline: Instant,
}

/// How a wait that a session's end begins with came to its own end.
enum Waited {
    /// What was waited for has come.
    Done,
    /// The deadline has passed.
    Over,
    /// Somebody is in a greater hurry: the request is that one's now.
    Hurried,
}

/// What a session may take beyond the deadline of its [`CloseRequest`]: the service manager
/// takes note, and connections are told and cut.
pub const END_LIMIT: Duration = Duration::from_secs(5);
/// The part of [`END_LIMIT`] in which connections are told why they end; a client that
/// doesn't read is dropped after it.
const CUT_LIMIT: Duration = Duration::from_secs(3);
const _: () = assert!(END_LIMIT.as_secs() >= CUT_LIMIT.as_secs() + notify::BARRIER_LIMIT.as_secs());

/// The longest sleep: due times are checked against clocks that count suspend, and the
/// runtime's timers don't.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

/// A grace beyond what the clock can count is this long.
const FAR_FUTURE: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// Starts a session on its listeners; with a tunnel that is being dialled, where there is one.
pub(crate) fn spawn(
    spec: Spec,
    endpoint: Endpoint,
    login: &LocalLogin,
    environment: Environment,
    early_dial: Option<EarlyDial>,
) -> Session {
    let address = endpoint.address().clone();
    let counters = Arc::new(Counters::default());
    let (commands, inbox) = mpsc::channel(16);
    let (status, watching) = watch::channel(Status::opening(&spec));
    let driver = Driver::new(Beginning {
        spec,
        login,
        environment,
        counters: Arc::clone(&counters),
        status,
        early_dial,
    });
    let task = tokio::spawn(driver.run(endpoint, inbox));
    Session {
        address,
        status: watching,
        counters,
        commands,
        task,
    }
}

// === impl Session ===

impl Session {
    /// Waits until the session has ended.
    pub async fn ended(self) {
        if let Err(error) = self.task.await {
            tracing::error!(%error, "a session's driver ended in disorder");
        }
    }
}

impl CloseRequest {
    /// Gives open connections this long from now on.
    pub fn within(grace: Duration, cause: Cause) -> Self {
        let now = Instant::now();
        let deadline = now.checked_add(grace).unwrap_or_else(|| now + FAR_FUTURE);
        Self { cause, deadline }
    }
}

impl Status {
    /// Of a session that has done nothing yet.
    pub(crate) fn opening(spec: &Spec) -> Self {
        Self {
            phase: Phase::Opening,
            since: clock::timestamp(),
            step: String::new(),
            last_error: None,
            resolved: spec.resolved.clone(),
            credential: None,
            database: spec.database.clone(),
            next_attempt_at: None,
            concluded: 0,
        }
    }
}

struct Driver {
    spec: Spec,
    environment: Environment,
    life: SessionStateMachine,
    inputs: Inputs,
    tunnels: Arc<Tunnels>,
    gateway: Arc<Gateway>,
    key: watch::Sender<Option<DatabaseKey>>,
    step: watch::Sender<String>,
    status: watch::Sender<Status>,
    /// Attempts that have ended.
    concluded: u64,
    waiting_for_rotation: Vec<oneshot::Sender<Result<(), Cause>>>,
    waiting_for_look_up: Vec<oneshot::Sender<()>>,
    /// For the first attempt: what was begun before the target was known.
    early_dial: Option<EarlyDial>,
    /// When the target is looked up again, while the session is up.
    look_up_at: BootInstant,
}

/// What a driver begins with.
struct Beginning<'a> {
    spec: Spec,
    login: &'a LocalLogin,
    environment: Environment,
    counters: Arc<Counters>,
    status: watch::Sender<Status>,
    early_dial: Option<EarlyDial>,
}

// === impl Driver ===

impl Driver {
    fn new(beginning: Beginning<'_>) -> Self {
        // The first attempt begins with the loop.
        let (life, Action::Attempt) = SessionStateMachine::begin(Clock::now());
        let spec = &beginning.spec;
        let known = spec.resolved.as_ref();
        if let Some(known) = known {
            beginning.environment.broker.remember(&spec.target, known);
        }
        let key = watch::Sender::new(known.map(|resolved| database_key(spec, resolved)));
        let (client_waits, waits) = mpsc::channel(1);
        let tunnels = Tunnels::new(beginning.counters.tunnels.clone());
        let gateway = gateway(&beginning, &tunnels, &key, client_waits);
        let step = watch::Sender::new(String::new());
        let environment = &beginning.environment;
        let inputs = Inputs::new(
            waits,
            environment.broker.token_changed(),
            environment.network.clone(),
            step.subscribe(),
        );
        Self {
            spec: beginning.spec,
            environment: beginning.environment,
            life,
            inputs,
            tunnels,
            gateway,
            key,
            step,
            status: beginning.status,
            concluded: 0,
            waiting_for_rotation: Vec::new(),
            waiting_for_look_up: Vec::new(),
            early_dial: beginning.early_dial,
            look_up_at: Clock::now(),
        }
    }

    async fn run(mut self, endpoint: Endpoint, mut commands: mpsc::Receiver<Command>) {
        let name = self.spec.name.clone();
        tracing::info!(session = %name, port = endpoint.address().port, "session opened");
        let gateway = Arc::clone(&self.gateway);
        let endpoint = Arc::new(endpoint);
        let listening = Arc::clone(&endpoint);
        let accepting = tokio::spawn(async move {
            tokio::join!(
                accept_tcp(&listening.tcp, &gateway),
                accept_unix(&listening.unix, &gateway)
            );
        });
        let mut request = self.work(&mut commands).await;
        let stays = request.cause == Cause::DaemonStopping && endpoint.is_stored();
        if stays {
            // Clients that come wait for the next daemon; those that came get through.
            accepting.abort();
            let arriving = self.gateway.arriving.clone();
            arriving.close();
            while let Waited::Hurried =
                wait_or_hurry(arriving.wait(), &mut request, &mut commands).await
            {}
        }
        // Else clients that come are told why they can't stay.
        let open = self.gateway.counters.active();
        let cause = self.drain(request, &mut commands).await;
        let busy = self.gateway.counters.active();
        accepting.abort();
        let _ = accepting.await;
        match Arc::into_inner(endpoint) {
            Some(endpoint) if stays => endpoint.leave(),
            // The port is free and the socket gone.
            endpoint => drop(endpoint),
        }
        notify::barrier().await;
        self.cut(cause).await;
        if open > 0 {
            let ended = open.saturating_sub(busy);
            let detail = format!("({ended} where it did no harm, {busy} at work)");
            let journal = &self.environment.journal;
            journal.of_session(&name, Kind::ConnectionsEnded, detail);
        }
        tracing::info!(session = %name, "session closed");
    }

    /// Runs until the session is to be closed; answers how.
    async fn work(&mut self, commands: &mut mpsc::Receiver<Command>) -> CloseRequest {
        self.begin_attempt(true);
        loop {
            self.publish();
            if self.inputs.look_up.is_none() {
                // Each sees what has just been published.
                self.waiting_for_look_up.clear();
            }
            let pause = self.pause();
            let event = tokio::select! {
                command = commands.recv() => match command {
                    Some(Command::Close(request)) => {
                        self.answer_rotation(&Err(Cause::SessionClosing));
                        return request;
                    }
                    Some(Command::Rotate { asked, reply }) => {
                        self.rotate(asked, reply);
                        None
                    }
                    Some(Command::Refresh(reply)) => {
                        self.refresh(reply);
                        Some(Event::Nudged(RetryTrigger::User))
                    }
                    None => {
                        return CloseRequest {
                            cause: Cause::DaemonStopping,
                            deadline: Instant::now(),
                        };
                    }
                },
                input = self.inputs.next(pause) => self.learn(input),
            };
            if let Some(event) = event {
                let jitter = rand::rng().random_range(0.0..1.0);
                let is_asked_for = event == Event::Nudged(RetryTrigger::User);
                let action = self.life.handle(event, Clock::now(), jitter);
                if action == Some(Action::Attempt) {
                    self.begin_attempt(is_asked_for);
                }
            }
            self.set_gate();
            self.check_what_is_due();
            self.look_up_what_is_due();
        }
    }

    /// Takes note of an input; answers what it is to the machine.
    fn learn(&mut self, input: Input) -> Option<Event> {
        match input {
            Input::Attempted(outcome) => Some(self.conclude(outcome)),
            Input::Rotated(outcome) => self.learn_rotation(outcome),
            Input::Level(level) => self.learn_level(level),
            Input::ClientWaits => Some(Event::Nudged(RetryTrigger::Client)),
            Input::TokenChanged => Some(Event::Nudged(RetryTrigger::Token)),
            Input::NetworkChanged(revision) => {
                if let Some(pool) = self.tunnels.pool() {
                    pool.network_changed(revision);
                }
                Some(Event::Nudged(RetryTrigger::Network))
            }
            Input::Renewed(lease) => {
                self.tell_of_rotation(lease);
                None
            }
            Input::Trouble(trouble) => self.learn_trouble(trouble),
            Input::Proved(outcome) => self.learn_proof(outcome),
            Input::Checked(outcome) => {
                self.learn_check(outcome);
                None
            }
            Input::LookedUp(outcome) => self.learn_look_up(outcome),
            Input::Nothing => Some(Event::Tick),
        }
    }

    fn begin_attempt(&mut self, is_asked_for: bool) {
        tracing::debug!(session = %self.spec.name, "attempt");
        let early_dial = self.early_dial.take();
        let attempt = self.attempt(is_asked_for);
        self.inputs.proof = None;
        let attempt = tokio::spawn(async move {
            let outcome = attempt.run().await;
            // The attempt has the tunnel by now.
            drop(early_dial);
            outcome
        });
        self.inputs.attempt = Some(AbortOnDropHandle::new(attempt));
    }

    fn attempt(&self, is_asked_for: bool) -> Attempt {
        Attempt {
            broker: Arc::clone(&self.environment.broker),
            pools: Arc::clone(&self.environment.pools),
            spec: self.spec.clone(),
            upstream_tls: self.environment.upstream_tls.borrow().clone(),
            // What went wrong beyond the bastion is right only once somebody has been let in.
            skip_verification: matches!(
                self.life.last_error(),
                None | Some(Cause::TunnelLost { .. })
            ),
            is_looked_up: self.is_just_looked_up(),
            is_asked_for,
            step: self.step.clone(),
        }
    }

    fn conclude(&mut self, outcome: Result<Found, Cause>) -> Event {
        self.concluded += 1;
        if !matches!(outcome, Err(Cause::NoNetwork)) {
            self.gateway.counters.attempted(&outcome);
        }
        match outcome {
            Ok(found) => {
                self.arrive(found);
                Event::AttemptSucceeded
            }
            Err(cause) => {
                // That there still is no network is no news.
                if cause != Cause::NoNetwork || self.life.last_error() != Some(&cause) {
                    tracing::warn!(session = %self.spec.name, %cause, "attempt failed");
                    self.tell_failure(Kind::AttemptFailed, &cause);
                }
                Event::AttemptFailed(cause)
            }
        }
    }

    /// Connections go the way that was found from now on.
    fn arrive(&mut self, found: Found) {
        let name = &self.spec.name;
        if self.life.phase() != Phase::Up {
            let bastion = found.tunnel.bastion();
            tracing::info!(session = %name, %bastion, "session up");
            let journal = &self.environment.journal;
            journal.of_session(name, Kind::SessionUp, format!("through {bastion}"));
        }
        self.go_where_it_leads(&found.resolved);
        self.spec.database = Some(found.lease.credential.database.clone());
        self.step.send_replace(String::new());
        let mut level = found.pool.level();
        // It may have lost its tunnel already.
        level.mark_changed();
        self.inputs.level = Some(level);
        self.tunnels.take_from(&found.pool);
        self.plan_look_up(found.is_looked_up);
        if found.needs_verification {
            self.begin_proof(&found);
        }
    }

    /// What a change of the pool's means. That a tunnel ended is no loss where there is another
    /// one by now.
    fn learn_level(&self, level: Level) -> Option<Event> {
        match level {
            Level::Up => Some(Event::Nudged(RetryTrigger::Tunnel)),
            Level::Down(_) if self.life.phase() != Phase::Up => None,
            Level::Down(cause) => {
                let cause = cause.unwrap_or_else(none_is_up);
                self.tell_failure(Kind::TunnelLost, &cause);
                Some(Event::WayLost(cause))
            }
        }
    }

    fn tell_of_rotation(&self, lease: Option<DatabaseLease>) {
        if let Some(lease) = lease {
            let detail = format!("(generation {})", lease.generation.0);
            let journal = &self.environment.journal;
            journal.of_session(&self.spec.name, Kind::CredentialRotated, detail);
        }
    }

    fn tell_failure(&self, kind: Kind, cause: &Cause) {
        let journal = &self.environment.journal;
        journal.failure(Some(&self.spec.name), kind, cause);
    }

    /// What connections are told, by what the machine decided.
    fn set_gate(&self) {
        if self.life.phase() == Phase::Up {
            self.gateway.outage.has_ended();
        } else {
            self.gateway.outage.goes_on();
        }
        let gate = match self.life.last_error().cloned() {
            _ if self.life.phase() == Phase::Up => Gate::Open,
            Some(cause) if waiting_is_no_use(&cause) && !self.life.is_attempting() => {
                Gate::Refuse(cause)
            }
            cause => Gate::Hold(cause),
        };
        self.tunnels.set_gate(gate);
    }

    fn publish(&self) {
        let phase = self.life.phase();
        let lease = self.current_lease();
        let is_taken_away = self.is_taken_away();
        let step = match self.life.retry_at() {
            Some(_) if self.life.last_error() == Some(&Cause::NoNetwork) => {
                "waiting for a network".to_owned()
            }
            Some(_) if !self.life.is_attempting() => "waiting for the next attempt".to_owned(),
            Some(_) | None => self.step.borrow().clone(),
        };
        let next_attempt = self.life.retry_at().filter(|_| !self.life.is_attempting());
        let next_attempt = next_attempt.map(|at| clock::timestamp() + at.since(Clock::now()));
        self.status.send_if_modified(|status| {
            let since = if status.phase == phase {
                status.since
            } else {
                clock::timestamp()
            };
            let next = Status {
                phase,
                since,
                step: if phase == Phase::Up {
                    String::new()
                } else {
                    step
                },
                last_error: self.life.last_error().cloned(),
                resolved: self.spec.resolved.clone(),
                credential: lease.as_ref().map(|lease| CredentialStatus {
                    generation: lease.generation,
                    issued_at: lease.issued_at,
                    rotates_at: lease.rotates_at.filter(|_| !is_taken_away),
                    username: lease.credential.username.clone(),
                }),
                database: lease
                    .as_ref()
                    .map(|lease| lease.credential.database.clone())
                    .or_else(|| self.spec.database.clone()),
                next_attempt_at: next_attempt.map(|at| steady(status.next_attempt_at, at)),
                concluded: self.concluded,
            };
            let changed = *status != next;
            *status = next;
            changed
        });
    }

    fn current_lease(&self) -> Option<DatabaseLease> {
        let credential = self.inputs.credential.as_ref()?;
        credential.lease.borrow().clone()
    }

    fn is_taken_away(&self) -> bool {
        let key = self.key.borrow();
        let taken_away = |key| self.environment.broker.taken_away(key);
        key.as_ref().and_then(taken_away).is_some()
    }

    /// Until the next moment at which something may be due.
    fn pause(&self) -> Duration {
        let now = Clock::now();
        let attempt = self.life.retry_at();
        let look_up = Some(self.look_up_at).filter(|_| self.life.phase() == Phase::Up);
        [attempt, look_up]
            .into_iter()
            .flatten()
            .fold(LONGEST_SLEEP, |pause, at| pause.min(at.since(now)))
    }

    /// Lets open connections end where it does no harm, until the deadline; answers why those
    /// that are left are ended.
    async fn drain(
        &mut self,
        mut request: CloseRequest,
        commands: &mut mpsc::Receiver<Command>,
    ) -> Cause {
        self.life.handle(Event::Close, Clock::now(), 0.0);
        self.publish();
        self.gateway.warm.close();
        self.tunnels.close();
        self.gateway.tasks.close();
        let tasks = self.gateway.tasks.clone();
        loop {
            self.tunnels.set_gate(Gate::Refuse(request.cause.clone()));
            // Who opened the session for a time wants it closed at the end of that; who
            // closes it wants its clients to finish.
            let which = match request.cause {
                Cause::SessionExpired => IdlePolicy::Next,
                _ => IdlePolicy::Lasting,
            };
            let cause = request.cause.clone();
            self.gateway.drain.at_idle(which, cause);
            match wait_or_hurry(tasks.wait(), &mut request, commands).await {
                Waited::Done | Waited::Over => return request.cause,
                Waited::Hurried => {}
            }
        }
    }

    /// Ends what is left: with a word to each client, and without one where the client takes
    /// none within [`CUT_LIMIT`].
    async fn cut(&mut self, cause: Cause) {
        let tasks = self.gateway.tasks.clone();
        self.gateway.drain.now(cause);
        if timeout(CUT_LIMIT, tasks.wait()).await.is_err() {
            let left = tasks.len();
            tracing::info!(session = %self.spec.name, left, "clients that don't read are cut off");
            self.gateway.drain.abandon();
            tasks.wait().await;
        }
    }
}

/// Waits for `done` until the deadline, and hears meanwhile who is in a greater hurry.
async fn wait_or_hurry(
    done: impl Future<Output = ()>,
    request: &mut CloseRequest,
    commands: &mut mpsc::Receiver<Command>,
) -> Waited {
    tokio::pin!(done);
    loop {
        tokio::select! {
            () = &mut done => return Waited::Done,
            () = sleep_until(request.deadline) => return Waited::Over,
            command = commands.recv() => match command {
                Some(Command::Close(other)) if other.deadline < request.deadline => {
                    *request = other;
                    return Waited::Hurried;
                }
                Some(Command::Rotate { reply, .. }) => {
                    let _ = reply.send(Err(Cause::SessionClosing));
                }
                Some(Command::Close(_) | Command::Refresh(_)) => {}
                None => {
                    request.cause = Cause::DaemonStopping;
                    return Waited::Over;
                }
            },
        }
    }
}

/// The data plane of a session.
fn gateway(
    beginning: &Beginning<'_>,
    tunnels: &Arc<Tunnels>,
    key: &watch::Sender<Option<DatabaseKey>>,
    client_waits: mpsc::Sender<()>,
) -> Arc<Gateway> {
    let environment = &beginning.environment;
    Arc::new(Gateway {
        name: beginning.spec.name.clone(),
        verifier: beginning.login.verifier.clone(),
        local_tls: Arc::clone(&environment.local_tls),
        mode: beginning.spec.mode,
        limits: environment.limits.clone(),
        upstream_tls: environment.upstream_tls.clone(),
        broker: Arc::clone(&environment.broker),
        journal: environment.journal.clone(),
        tunnels: Arc::clone(tunnels),
        key: key.subscribe(),
        warm: WarmPool::new(environment.limits.clone(), Arc::clone(&beginning.counters)),
        cancel_keys: CancelKeys::default(),
        leftovers: Arc::default(),
        outage: Outage::default(),
        counters: Arc::clone(&beginning.counters),
        client_waits,
        slots: Slots::new(environment.limits.clone()),
        tasks: TaskTracker::new(),
        arriving: TaskTracker::new(),
        drain: Drain::new(),
    })
}

/// The same time as before, where two readings of two clocks differ by less than anybody sees.
fn steady(before: Option<Timestamp>, now: Timestamp) -> Timestamp {
    let near = |before: &Timestamp| now.duration_since(*before).abs().as_secs() < 1;
    before.filter(near).unwrap_or(now)
}

/// Whether a client is better told at once than held.
fn waiting_is_no_use(cause: &Cause) -> bool {
    let kind = cause.kind();
    kind.class != Class::Operation
        || matches!(
            kind.retry,
            Retry::Never | Retry::WhenTokenChanges | Retry::Slowly
        )
        || matches!(cause, Cause::FreshCredentialsRefused { .. })
}
