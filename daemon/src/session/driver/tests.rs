use std::sync::Mutex;

use futures_util::{FutureExt as _, future::BoxFuture};
use secrecy::SecretString;
use tempfile::TempDir;
use tokio::{task::JoinHandle, time::timeout};

use super::*;
use crate::{
    credential::BrokerSettings,
    model::{
        Access, DatabaseCredential, Generation, HostPort, Lease, Mode, Resolved, Role, SessionName,
        Target,
    },
    platform::clock,
    postgres::UpstreamTlsMode,
    provider::testing::{limits, unreachable},
    proxy::{self, Limits, PortWish, testing::no_tls},
    ssh::Keepalive,
};

/// Longer than what the tests wait for.
const ENOUGH: Duration = Duration::from_secs(20);

/// Hands each attempt to the test, which says how it ends.
struct Told(mpsc::Sender<Asked>);

enum Asked {
    Attempt(oneshot::Sender<Result<Found, Cause>>),
    Rotation(oneshot::Sender<Result<Found, Cause>>),
}

impl Told {
    fn ask(
        &self,
        asked: fn(oneshot::Sender<Result<Found, Cause>>) -> Asked,
    ) -> BoxFuture<'static, Result<Found, Cause>> {
        let (reply, answer) = oneshot::channel();
        assert!(self.0.try_send(asked(reply)).is_ok());
        async { answer.await.unwrap() }.boxed()
    }
}

impl MakeAttempts for Told {
    fn attempt(&self, _: Attempt) -> BoxFuture<'static, Result<Found, Cause>> {
        self.ask(Asked::Attempt)
    }

    fn rotation(&self, _: Attempt, _: BootInstant) -> BoxFuture<'static, Result<Found, Cause>> {
        self.ask(Asked::Rotation)
    }
}

/// A session whose attempts end as the test says.
struct World {
    asked: mpsc::Receiver<Asked>,
    commands: mpsc::Sender<Command>,
    status: watch::Receiver<Status>,
    gate: watch::Receiver<Gate>,
    task: JoinHandle<()>,
    pools: Arc<Pools>,
    _dir: TempDir,
}

impl World {
    fn new() -> Self {
        let broker = Broker::new(unreachable(limits(ENOUGH)), BrokerSettings::default());
        let keepalive = Keepalive {
            interval: ENOUGH,
            timeout: ENOUGH,
        };
        let pools = Pools::new(Arc::clone(&broker), watch::channel(keepalive).1);
        let limits = Limits {
            connect_timeout: Duration::from_secs(30),
            max_connections: 10,
            warm_connections: 0,
        };
        let tls = UpstreamTls::new(UpstreamTlsMode::Disable).unwrap();
        let environment = Environment {
            broker,
            journal: Journal::new(),
            pools: Arc::clone(&pools),
            limits: watch::channel(limits).1,
            network: watch::channel(0).1,
            upstream_tls: watch::channel(tls).1,
            local_tls: no_tls(),
        };
        let (ask, asked) = mpsc::channel(4);
        let (commands, inbox) = mpsc::channel(4);
        let spec = spec();
        let (status, watching) = watch::channel(Status::opening(&spec));
        let dir = tempfile::tempdir().unwrap();
        let endpoint = proxy::bind(
            &Mutex::default(),
            dir.path(),
            &spec.name,
            &PortWish::Exactly(0),
        );
        let driver = Driver::new(Beginning {
            spec,
            login: &LocalLogin::new(SecretString::from("secret")).unwrap(),
            environment,
            counters: Arc::default(),
            status,
            early_dial: None,
            attempts: Box::new(Told(ask)),
        });
        let gate = driver.tunnels.gate();
        let task = tokio::spawn(driver.run(endpoint.unwrap(), inbox));
        Self {
            asked,
            commands,
            status: watching,
            gate,
            task,
            pools,
            _dir: dir,
        }
    }

    /// One that is up, and what says whether its pool has a tunnel.
    async fn up() -> (Self, watch::Sender<Level>) {
        let mut world = Self::new();
        let level = watch::Sender::new(Level::Up);
        let found = world.found(&level);
        world.attempt().await.send(Ok(found)).ok().unwrap();
        world.until(Phase::Up).await;
        (world, level)
    }

    /// A way to the database.
    fn found(&self, level: &watch::Sender<Level>) -> Found {
        let credential = DatabaseCredential {
            server: host("db", 5432),
            database: "d4f0".into(),
            username: "role".into(),
            password: SecretString::from("secret"),
        };
        Found {
            pool: self.pools.of("borealis-pg-hex-1"),
            level: level.subscribe(),
            bastion: host("bastion", 22),
            resolved: resolved(),
            lease: Arc::new(Lease {
                generation: Generation(1),
                issued_at: clock::timestamp(),
                rotates_at: None,
                credential,
            }),
            proof: None,
            is_looked_up: true,
        }
    }

    /// The next thing that the session has done.
    async fn next(&mut self) -> Asked {
        timeout(ENOUGH, self.asked.recv()).await.unwrap().unwrap()
    }

    async fn attempt(&mut self) -> oneshot::Sender<Result<Found, Cause>> {
        match self.next().await {
            Asked::Attempt(end) => end,
            Asked::Rotation(_) => panic!("a rotation"),
        }
    }

    async fn rotation(&mut self) -> oneshot::Sender<Result<Found, Cause>> {
        match self.next().await {
            Asked::Rotation(end) => end,
            Asked::Attempt(_) => panic!("an attempt"),
        }
    }

    async fn until(&mut self, phase: Phase) -> Status {
        let there = self.status.wait_for(|status| status.phase == phase);
        timeout(ENOUGH, there).await.unwrap().unwrap().clone()
    }

    async fn until_gate(&mut self, gate: Gate) {
        let there = self.gate.wait_for(|now| *now == gate);
        timeout(ENOUGH, there).await.unwrap().unwrap();
    }

    async fn ask_to_rotate(&self) -> oneshot::Receiver<Result<(), Cause>> {
        let (reply, answer) = oneshot::channel();
        let asked = Clock::now();
        let command = Command::Rotate { asked, reply };
        self.commands.send(command).await.unwrap();
        answer
    }

    async fn close(&self, grace: Duration) {
        let request = CloseRequest::within(grace, Cause::SessionClosing);
        self.commands.send(Command::Close(request)).await.unwrap();
    }
}

fn host(host: &str, port: u16) -> HostPort {
    HostPort {
        host: host.into(),
        port,
    }
}

fn resolved() -> Resolved {
    Resolved {
        addon_id: "1".into(),
        addon: "borealis-pg-hex-1".into(),
        app: "sushi".into(),
        attachment: "DATABASE".into(),
        ambiguous_in_app: false,
    }
}

fn spec() -> Spec {
    Spec {
        name: SessionName::parse("sushi").unwrap(),
        target: Target::App("sushi".into()),
        resolved: Some(resolved()),
        role: Role::Personal,
        access: Access::ReadOnly,
        mode: Mode::Managed,
        expiry: None,
        database: None,
    }
}

fn lost() -> Cause {
    Cause::TunnelLost {
        detail: "it was cut".into(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_is_up_once_an_attempt_has_come_through() {
    let mut world = World::new();
    let end = world.attempt().await;
    assert_eq!(world.status.borrow().phase, Phase::Opening);
    assert_ne!(*world.gate.borrow(), Gate::Open);
    let level = watch::Sender::new(Level::Up);
    end.send(Ok(world.found(&level))).ok().unwrap();
    let status = world.until(Phase::Up).await;
    assert_eq!(status.concluded, 1);
    assert_eq!(status.database.as_deref(), Some("d4f0"));
    world.until_gate(Gate::Open).await;
}

/// Backoff goes by the clock that counts suspend, which doesn't stand still.
#[tokio::test]
async fn a_way_that_is_lost_is_tried_for_again() {
    let (mut world, level) = World::up().await;
    level.send_replace(Level::Down(Some(lost())));
    let end = world.attempt().await;
    world.until_gate(Gate::Hold(Some(lost()))).await;
    assert_eq!(
        world.until(Phase::Reconnecting).await.last_error,
        Some(lost())
    );
    let level = watch::Sender::new(Level::Up);
    end.send(Ok(world.found(&level))).ok().unwrap();
    assert_eq!(world.until(Phase::Up).await.concluded, 2);
    world.until_gate(Gate::Open).await;
    // The pool that it has now is the one that counts.
    level.send_replace(Level::Down(Some(lost())));
    drop(world.attempt().await);
}

/// Backoff goes by the clock that counts suspend, which doesn't stand still.
#[tokio::test]
async fn an_attempt_that_fails_is_followed_by_another() {
    let mut world = World::new();
    world.attempt().await.send(Err(lost())).ok().unwrap();
    let end = world.attempt().await;
    assert_eq!(world.status.borrow().concluded, 1);
    let level = watch::Sender::new(Level::Up);
    end.send(Ok(world.found(&level))).ok().unwrap();
    assert_eq!(world.until(Phase::Up).await.concluded, 2);
}

#[tokio::test(start_paused = true)]
async fn all_who_ask_for_a_rotation_share_the_one_under_way() {
    let (mut world, level) = World::up().await;
    let first = world.ask_to_rotate().await;
    let end = world.rotation().await;
    let mut second = world.ask_to_rotate().await;
    // It has been heard once the session has answered what came after it.
    let (reply, answer) = oneshot::channel();
    world.commands.send(Command::Refresh(reply)).await.unwrap();
    drop(timeout(ENOUGH, answer).await);
    assert!(second.try_recv().is_err());
    end.send(Ok(world.found(&level))).ok().unwrap();
    assert_eq!(timeout(ENOUGH, first).await, Ok(Ok(Ok(()))));
    assert_eq!(timeout(ENOUGH, second).await, Ok(Ok(Ok(()))));
    assert!(world.asked.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_rotation_that_fails_is_told_and_the_session_stays_up() {
    let (mut world, _level) = World::up().await;
    let answer = world.ask_to_rotate().await;
    let late = Cause::RotationTimedOut {
        waited: ENOUGH,
        step: String::new(),
    };
    world.rotation().await.send(Err(late.clone())).ok().unwrap();
    assert_eq!(timeout(ENOUGH, answer).await, Ok(Ok(Err(late))));
    assert_eq!(world.status.borrow().phase, Phase::Up);
    assert_eq!(*world.gate.borrow(), Gate::Open);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_closes_ends_what_is_under_way() {
    let (mut world, _level) = World::up().await;
    let answer = world.ask_to_rotate().await;
    let mut end = world.rotation().await;
    world.close(ENOUGH).await;
    let closing = Cause::SessionClosing;
    assert_eq!(timeout(ENOUGH, answer).await, Ok(Ok(Err(closing.clone()))));
    world.until(Phase::Closing).await;
    world.until_gate(Gate::Refuse(closing)).await;
    // Nobody is connected: no grace is waited for.
    let began = Instant::now();
    timeout(ENOUGH, &mut world.task).await.unwrap().unwrap();
    assert_eq!(began.elapsed(), Duration::ZERO);
    timeout(ENOUGH, end.closed()).await.unwrap();
}
