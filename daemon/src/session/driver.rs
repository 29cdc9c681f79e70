//! Owns one session: feeds the machine what happens, does what it decides, and tells.

use std::{sync::Arc, time::Duration};

use rand::RngExt as _;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    CloseRequest, Command, Session, Spec, Status,
    connect::{Attempt, Attempts, EarlyDial, Found, MakeAttempts, database_key},
    machine::{Action, Event, Phase, RetryTrigger, SessionStateMachine},
};
use crate::{
    credential::{Broker, DatabaseKey, DatabaseLease},
    journal::{Journal, Kind},
    model::{Cause, Class, Retry},
    platform::clock::{BootInstant, Clock},
    postgres::{LocalTls, UpstreamTls},
    proxy::{Counters, CurrentLimits, Endpoint, Gateway, LocalLogin, Parts},
    service_manager::notify,
    tunnels::{Gate, Level, Pools, Tunnels, none_is_up},
};

mod credential;
mod ending;
mod inputs;
mod report;
mod target;

pub use self::ending::END_LIMIT;
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

/// The longest sleep: due times are checked against clocks that count suspend, and the
/// runtime's timers don't.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

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
        attempts: Box::new(Attempts),
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

struct Driver {
    spec: Spec,
    environment: Environment,
    life: SessionStateMachine,
    inputs: Inputs,
    tunnels: Arc<Tunnels>,
    gateway: Gateway,
    counters: Arc<Counters>,
    key: watch::Sender<Option<DatabaseKey>>,
    step: watch::Sender<String>,
    status: watch::Sender<Status>,
    /// Attempts that have ended.
    concluded: u64,
    waiting_for_rotation: Vec<oneshot::Sender<Result<(), Cause>>>,
    waiting_for_look_up: Vec<oneshot::Sender<()>>,
    attempts: Box<dyn MakeAttempts>,
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
    attempts: Box<dyn MakeAttempts>,
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
        let step = watch::Sender::new(String::new());
        let environment = &beginning.environment;
        let parts = Parts {
            name: &spec.name,
            mode: spec.mode,
            login: beginning.login,
            limits: &environment.limits,
            local_tls: &environment.local_tls,
            journal: &environment.journal,
            counters: &beginning.counters,
            tunnels: &tunnels,
            client_waits,
        };
        let (broker, tls) = (&environment.broker, &environment.upstream_tls);
        let gateway = Gateway::new(parts, broker, key.subscribe(), tls);
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
            counters: beginning.counters,
            key,
            step,
            status: beginning.status,
            concluded: 0,
            waiting_for_rotation: Vec::new(),
            waiting_for_look_up: Vec::new(),
            attempts: beginning.attempts,
            early_dial: beginning.early_dial,
            look_up_at: Clock::now(),
        }
    }

    async fn run(mut self, endpoint: Endpoint, mut commands: mpsc::Receiver<Command>) {
        let name = self.spec.name.clone();
        tracing::info!(session = %name, port = endpoint.address().port, "session opened");
        let endpoint = Arc::new(endpoint);
        let accepting = self.gateway.listen(Arc::clone(&endpoint));
        let mut request = self.work(&mut commands).await;
        let stays = request.cause == Cause::DaemonStopping && endpoint.is_stored();
        if stays {
            // Clients that come wait for the next daemon; those that came get through.
            accepting.abort();
            ending::let_arrive(&self.gateway, &mut request, &mut commands).await;
        }
        // Else clients that come are told why they can't stay.
        let open = self.counters.active();
        self.life.handle(Event::Close, Clock::now(), 0.0);
        self.publish();
        let cause = ending::drain(&self.gateway, request, &mut commands).await;
        let busy = self.counters.active();
        accepting.abort();
        let _ = accepting.await;
        match Arc::into_inner(endpoint) {
            Some(endpoint) if stays => endpoint.leave(),
            // The port is free and the socket gone.
            endpoint => drop(endpoint),
        }
        notify::barrier().await;
        ending::cut(&self.gateway, cause).await;
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
        let attempt = self.attempts.attempt(self.attempt(is_asked_for));
        self.inputs.proof = None;
        let attempt = tokio::spawn(async move {
            let outcome = attempt.await;
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
            self.counters.attempted(&outcome);
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
    fn arrive(&mut self, mut found: Found) {
        let name = &self.spec.name;
        if self.life.phase() != Phase::Up {
            let bastion = &found.bastion;
            tracing::info!(session = %name, %bastion, "session up");
            let journal = &self.environment.journal;
            journal.of_session(name, Kind::SessionUp, format!("through {bastion}"));
        }
        self.go_where_it_leads(&found.resolved);
        self.spec.database = Some(found.lease.credential.database.clone());
        self.step.send_replace(String::new());
        // It may have lost its tunnel already.
        found.level.mark_changed();
        self.inputs.level = Some(found.level);
        self.tunnels.take_from(&found.pool);
        self.plan_look_up(found.is_looked_up);
        let proof = found.proof.map(tokio::spawn);
        self.inputs.proof = proof.map(AbortOnDropHandle::new);
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
        let gate = match self.life.last_error().cloned() {
            _ if self.life.phase() == Phase::Up => Gate::Open,
            Some(cause) if waiting_is_no_use(&cause) && !self.life.is_attempting() => {
                Gate::Refuse(cause)
            }
            cause => Gate::Hold(cause),
        };
        self.gateway.set_gate(gate);
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

#[cfg(test)]
mod tests;
