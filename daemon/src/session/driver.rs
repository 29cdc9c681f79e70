//! Owns one session: feeds the machine what happens, does what it decides, and tells.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use rand::RngExt as _;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::{
    CredentialStatus, Spec, Status,
    connect::{Attempt, EarlyDial, Found, database_key},
    machine::{Action, Event, Phase, RenewalScope, RetryTrigger, SessionStateMachine},
    under_way::{Running, checked, finished, proved, renewed},
};
use crate::{
    credential::{Broker, DatabaseKey, DatabaseLease},
    journal::{Journal, Kind},
    model::{Cause, Class, Generation, Retry},
    platform::clock::{BootInstant, Clock},
    postgres::{LocalTls, UpstreamTls},
    proxy::{
        Address, CancelKeyMap, Counters, CurrentLimits, Drain, Endpoint, Gateway, IdlePolicy,
        LocalLogin, Slots, Verdict, WarmPool, accept_tcp, accept_unix,
    },
    service_manager::notify,
    ssh::Keepalive,
    tunnels::{Dialer, Gate, Tunnels},
};

mod proof;

/// What every session is built with.
#[derive(Clone)]
pub struct Environment {
    /// Where leases come from.
    pub broker: Arc<Broker>,
    /// Where what happens to it is told.
    pub journal: Journal,
    /// The config's limits.
    pub limits: CurrentLimits,
    /// When a silent line counts as dead, for tunnels that are made from now on.
    pub keepalive: watch::Receiver<Keepalive>,
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
    /// Ask for new personal credentials; answered when they are in use.
    Rotate(oneshot::Sender<Result<(), Cause>>),
    /// A reason to try now.
    RetryTrigger(RetryTrigger),
    /// Take no more connections, let the open ones end, and end.
    Close(CloseRequest),
}

/// How a session ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloseRequest {
    /// What clients are told.
    pub cause: Cause,
    /// What open connections get at most.
    pub grace: Duration,
}

/// The longest sleep: due times are checked against clocks that count suspend, and the
/// runtime's timers don't.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);
/// The wait before a rotation that failed is tried again.
const ROTATION_PAUSE: Duration = Duration::from_secs(300);

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
    let driver = Driver::new(
        spec,
        login,
        environment,
        Arc::clone(&counters),
        status,
        early_dial,
    );
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

impl Status {
    /// Of a session that has done nothing yet.
    pub(crate) fn opening(spec: &Spec) -> Self {
        Self {
            phase: Phase::Opening,
            since: Timestamp::now(),
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
    first: Option<Action>,
    /// For the first attempt.
    early_dial: Option<EarlyDial>,
    tunnels: Arc<Tunnels>,
    gateway: Arc<Gateway>,
    key: watch::Sender<Option<DatabaseKey>>,
    addon: watch::Sender<Option<String>>,
    step: watch::Sender<String>,
    client_waits: mpsc::Receiver<()>,
    status: watch::Sender<Status>,
    /// The lease that new connections log in with.
    lease: Option<watch::Receiver<Option<DatabaseLease>>>,
    /// Attempts that have ended.
    concluded: u64,
    waiting_for_rotation: Vec<oneshot::Sender<Result<(), Cause>>>,
    rotate_not_before: Option<BootInstant>,
    /// Asks the database about the credential that is due.
    check: Option<AbortOnDropHandle<Verdict>>,
    /// A log-in that was left for after the session was up.
    proof: Option<AbortOnDropHandle<Result<(), Cause>>>,
    /// A credential that was taken away, which the timer leaves alone.
    taken_away: Option<Generation>,
}

// === impl Driver ===

impl Driver {
    fn new(
        spec: Spec,
        login: &LocalLogin,
        environment: Environment,
        counters: Arc<Counters>,
        status: watch::Sender<Status>,
        early_dial: Option<EarlyDial>,
    ) -> Self {
        let (life, first) = SessionStateMachine::begin(Clock::now());
        let known = spec.resolved.as_ref();
        let key = watch::Sender::new(known.map(|resolved| database_key(&spec, resolved)));
        let addon = watch::Sender::new(known.map(|resolved| resolved.addon.clone()));
        let (client_waits, waits) = mpsc::channel(1);
        let dialer = Dialer {
            broker: Arc::clone(&environment.broker),
            keepalive: environment.keepalive.clone(),
            addon: addon.subscribe(),
        };
        let tunnels = Tunnels::new(dialer, counters.tunnels.clone());
        let gateway = Arc::new(Gateway {
            name: spec.name.clone(),
            verifier: login.verifier.clone(),
            local_tls: Arc::clone(&environment.local_tls),
            mode: spec.mode,
            limits: environment.limits.clone(),
            upstream_tls: environment.upstream_tls.clone(),
            broker: Arc::clone(&environment.broker),
            journal: environment.journal.clone(),
            tunnels: Arc::clone(&tunnels),
            key: key.subscribe(),
            warm: WarmPool::new(environment.limits.clone(), Arc::clone(&counters)),
            cancel_keys: CancelKeyMap::default(),
            counters,
            client_waits,
            slots: Slots::new(environment.limits.clone()),
            tasks: TaskTracker::new(),
            arriving: TaskTracker::new(),
            drain: Drain::new(),
        });
        Self {
            spec,
            environment,
            life,
            first: Some(first),
            early_dial,
            tunnels,
            gateway,
            key,
            addon,
            step: watch::Sender::new(String::new()),
            client_waits: waits,
            status,
            lease: None,
            concluded: 0,
            waiting_for_rotation: Vec::new(),
            rotate_not_before: None,
            check: None,
            proof: None,
            taken_away: None,
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
        let request = self.work(&mut commands).await;
        let stays = request.cause == Cause::DaemonStopping && endpoint.is_stored();
        if stays {
            // Clients that come wait for the next daemon; those that came get through.
            accepting.abort();
            self.gateway.arriving.close();
            let _ = timeout(request.grace, self.gateway.arriving.wait()).await;
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
        let mut attempt = self.first.take().map(|action| self.begin(action));
        let mut lost = self.tunnels.lost();
        let mut steps = self.step.subscribe();
        let mut token = self.environment.broker.token_changed();
        let mut network = self.environment.network.clone();
        network.mark_unchanged();
        loop {
            self.publish();
            let pause = self.pause();
            let event = tokio::select! {
                command = commands.recv() => match command {
                    Some(Command::Rotate(reply)) => {
                        self.waiting_for_rotation.push(reply);
                        Event::RotationDue
                    }
                    Some(Command::RetryTrigger(nudge)) => Event::Nudged(nudge),
                    Some(Command::Close(request)) => return request,
                    None => return CloseRequest { cause: Cause::DaemonStopping, grace: Duration::ZERO },
                },
                outcome = finished(&mut attempt) => {
                    attempt = None;
                    self.conclude(outcome)
                }
                Ok(()) = lost.changed() => {
                    let cause = lost.borrow_and_update().clone();
                    let cause = cause.unwrap_or(Cause::TunnelLost { detail: String::new() });
                    self.environment.journal.failure(Some(&self.spec.name), Kind::TunnelLost, &cause);
                    Event::WayLost(cause)
                }
                Some(()) = self.client_waits.recv() => Event::Nudged(RetryTrigger::Client),
                Ok(()) = token.changed() => Event::Nudged(RetryTrigger::Token),
                Ok(()) = network.changed() => {
                    self.tunnels.probe();
                    Event::Nudged(RetryTrigger::Network)
                }
                () = renewed(&mut self.lease) => {
                    self.tell_of_rotation();
                    continue;
                }
                Ok(()) = steps.changed() => continue,
                () = sleep(pause) => {
                    self.tunnels.prune();
                    if self.rotation_is_due() {
                        self.begin_check();
                    }
                    Event::Tick
                }
                outcome = proved(&mut self.proof) => match self.learn_proof(outcome) {
                    Some(event) => event,
                    None => continue,
                },
                verdict = checked(&mut self.check) => match self.learn_verdict(verdict) {
                    Some(event) => event,
                    None => continue,
                },
            };
            let jitter = rand::rng().random_range(0.0..1.0);
            if let Some(action) = self.life.handle(event, Clock::now(), jitter) {
                attempt = Some(self.begin(action));
            }
            self.set_gate();
        }
    }

    fn begin(&mut self, Action::Attempt(renew): Action) -> Running {
        tracing::debug!(session = %self.spec.name, ?renew, "attempt");
        let attempt = Attempt {
            broker: Arc::clone(&self.environment.broker),
            spec: self.spec.clone(),
            keepalive: *self.environment.keepalive.borrow(),
            upstream_tls: self.environment.upstream_tls.borrow().clone(),
            // What went wrong beyond the bastion is right only once somebody has been let in.
            skip_verification: renew == RenewalScope::Nothing
                && matches!(
                    self.life.last_error(),
                    None | Some(Cause::TunnelLost { .. })
                ),
            early_dial: self.early_dial.take(),
            step: self.step.clone(),
        };
        self.proof = None;
        Running {
            renew,
            task: AbortOnDropHandle::new(tokio::spawn(attempt.run(renew))),
        }
    }

    fn conclude(&mut self, (renew, outcome): (RenewalScope, Result<Found, Cause>)) -> Event {
        self.concluded += 1;
        if !matches!(outcome, Err(Cause::NoNetwork)) {
            self.gateway.counters.attempted(&outcome);
        }
        let name = &self.spec.name;
        let journal = &self.environment.journal;
        let (event, answer) = match outcome {
            Ok(found) => {
                if self.life.phase() != Phase::Up {
                    let bastion = found.tunnel.bastion();
                    tracing::info!(session = %name, %bastion, "session up");
                    journal.of_session(name, Kind::SessionUp, format!("through {bastion}"));
                }
                self.learn(&found);
                if found.needs_verification {
                    self.begin_proof(&found);
                }
                self.tunnels.install(found.tunnel);
                (Event::AttemptSucceeded, Ok(()))
            }
            Err(cause) => {
                // That there still is no network is no news.
                if cause != Cause::NoNetwork || self.life.last_error() != Some(&cause) {
                    tracing::warn!(session = %name, %cause, "attempt failed");
                    journal.failure(Some(name), Kind::AttemptFailed, &cause);
                }
                if renew == RenewalScope::Everything {
                    self.rotate_not_before = Some(Clock::now() + ROTATION_PAUSE);
                }
                (Event::AttemptFailed(cause.clone()), Err(cause))
            }
        };
        if renew == RenewalScope::Everything {
            for reply in self.waiting_for_rotation.drain(..) {
                // Who asked may have gone.
                let _ = reply.send(answer.clone());
            }
        }
        event
    }

    fn learn(&mut self, found: &Found) {
        self.spec.resolved = Some(found.resolved.clone());
        self.spec.database = Some(found.lease.credential.database.clone());
        let key = database_key(&self.spec, &found.resolved);
        if self.lease.is_none() {
            self.lease = Some(self.environment.broker.watch_database(&key));
        }
        self.key.send_replace(Some(key));
        self.addon.send_replace(Some(found.resolved.addon.clone()));
        self.step.send_replace(String::new());
    }

    fn tell_of_rotation(&self) {
        let lease = self.lease.as_ref().and_then(|lease| lease.borrow().clone());
        if let Some(lease) = lease {
            let detail = format!("(generation {})", lease.generation.0);
            let journal = &self.environment.journal;
            journal.of_session(&self.spec.name, Kind::CredentialRotated, detail);
        }
    }

    /// What connections are told, by what the machine decided.
    fn set_gate(&self) {
        if self.life.phase() == Phase::Up {
            return;
        }
        let cause = self.life.last_error().cloned();
        let gate = match cause {
            Some(cause) if waiting_is_no_use(&cause) && !self.life.is_attempting() => {
                Gate::Refuse(cause)
            }
            cause => Gate::Hold(cause),
        };
        self.tunnels.shut(gate);
    }

    fn publish(&self) {
        let phase = self.life.phase();
        let lease = self.lease.as_ref().and_then(|lease| lease.borrow().clone());
        let step = match self.life.retry_at() {
            Some(_) if self.life.last_error() == Some(&Cause::NoNetwork) => {
                "waiting for a network".to_owned()
            }
            Some(_) if !self.life.is_attempting() => "waiting for the next attempt".to_owned(),
            Some(_) | None => self.step.borrow().clone(),
        };
        let next_attempt = self.life.retry_at().filter(|_| !self.life.is_attempting());
        let next_attempt = next_attempt.map(|at| Timestamp::now() + at.since(Clock::now()));
        self.status.send_if_modified(|status| {
            let since = if status.phase == phase {
                status.since
            } else {
                Timestamp::now()
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
                    rotates_at: lease
                        .rotates_at
                        .filter(|_| self.taken_away != Some(lease.generation)),
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

    /// Until the next moment at which something may be due.
    fn pause(&self) -> Duration {
        let now = Clock::now();
        let attempt = self.life.retry_at().map(|at| at.since(now));
        let rotation = self.rotates_at().map(|due| {
            let left = Duration::try_from(due.duration_since(Timestamp::now())).unwrap_or_default();
            let rest = self
                .rotate_not_before
                .map_or(Duration::ZERO, |at| at.since(now));
            left.max(rest)
        });
        [attempt, rotation]
            .into_iter()
            .flatten()
            .fold(LONGEST_SLEEP, Duration::min)
    }

    fn rotation_is_due(&self) -> bool {
        self.rotates_at().is_some_and(|due| due <= Timestamp::now())
            && self.rotate_not_before.is_none_or(|at| at <= Clock::now())
    }

    /// When the timer renews the credential, while there is a tunnel to prove the next with.
    fn rotates_at(&self) -> Option<Timestamp> {
        if self.life.phase() != Phase::Up || self.life.is_attempting() || self.check.is_some() {
            return None;
        }
        self.status.borrow().credential.as_ref()?.rotates_at
    }

    /// Lets open connections end where it does no harm, as long as their grace lasts; answers
    /// why those that are left are ended.
    async fn drain(
        &mut self,
        request: CloseRequest,
        commands: &mut mpsc::Receiver<Command>,
    ) -> Cause {
        self.life.handle(Event::Close, Clock::now(), 0.0);
        self.publish();
        self.gateway.warm.close();
        self.tunnels.close();
        self.gateway.tasks.close();
        let tasks = self.gateway.tasks.clone();
        let CloseRequest { mut cause, grace } = request;
        let mut end = Instant::now() + grace;
        loop {
            self.tunnels.shut(Gate::Refuse(cause.clone()));
            // Who opened the session for a time wants it closed at the end of that; who
            // closes it wants its clients to finish.
            let which = match cause {
                Cause::SessionExpired => IdlePolicy::Next,
                _ => IdlePolicy::Lasting,
            };
            self.gateway.drain.at_idle(which, cause.clone());
            tokio::select! {
                () = tasks.wait() => return cause,
                () = sleep_until(end) => return cause,
                command = commands.recv() => match command {
                    // Whoever is in a greater hurry decides.
                    Some(Command::Close(other)) if Instant::now() + other.grace < end => {
                        cause = other.cause;
                        end = Instant::now() + other.grace;
                    }
                    Some(Command::Rotate(reply)) => {
                        let _ = reply.send(Err(Cause::SessionClosing));
                    }
                    Some(Command::Close(_) | Command::RetryTrigger(_)) => {}
                    None => return Cause::DaemonStopping,
                },
            }
        }
    }

    /// Ends what is left.
    async fn cut(&mut self, cause: Cause) {
        self.gateway.drain.now(cause);
        self.gateway.tasks.wait().await;
        for reply in self.waiting_for_rotation.drain(..) {
            let _ = reply.send(Err(Cause::SessionClosing));
        }
    }
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
}
