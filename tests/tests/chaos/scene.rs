//! A machine with one session under load, before and after a fault: what must be as it was.

use std::{
    fs,
    sync::{PoisonError, RwLock},
    time::{Duration, Instant},
};

use borealis_proto::v1::State;
use borealis_tests::{
    harness::{PATIENCE, TestMachine},
    sandbox::{BastionAction, BastionKind, Options},
};

use super::{line::last, load::Load};

/// Held by who starts a scene, which keeps both cores busy, and by who measures.
static CALM: RwLock<()> = RwLock::new(());

/// The machine, the session `sushi` and its load.
pub(super) struct Scene {
    pub(super) machine: TestMachine,
    pub(super) url: String,
    pub(super) load: Load,
    before: Used,
    saved: serde_json::Value,
}

/// What the daemon holds while nobody asks anything of it.
#[derive(Debug, Clone, Copy)]
struct Used {
    /// Descriptors but those of tunnels and of the connection that asks.
    descriptors: u64,
    tasks: u64,
    /// Resident memory in KiB.
    memory: u64,
    tunnels: u64,
}

/// The provider's connections are kept for a while after they were used, and so may be a
/// few tasks that clean up.
const SLACK: u64 = 6;
/// What an allocator may keep of what was used in the meantime, in KiB.
const MEMORY_SLACK: u64 = 48 * 1024;
/// Tasks that one tunnel has: russh's, the one that sees its end, keepalive.
const TASKS_OF_A_TUNNEL: u64 = 4;

/// A sandbox with this bastion; with a strict sshd where the suite is about that one.
pub(super) fn before(bastion: BastionKind) -> Options {
    if super::STRICT {
        return Options::strict_sshd();
    }
    Options {
        bastion,
        ..Options::default()
    }
}

// === impl Scene ===

impl Scene {
    pub(super) fn new(options: Options) -> Self {
        Self::prepared(options, |_| {})
    }

    /// After something is done to the machine, before its daemon starts.
    pub(super) fn prepared(options: Options, prepare: impl FnOnce(&mut TestMachine)) -> Self {
        let _busy = CALM.read().unwrap_or_else(PoisonError::into_inner);
        let mut machine = TestMachine::without_daemon(options);
        // A line for each packet would be what takes the time.
        machine.set("BOREALIS_LOG", "borealisd=debug");
        prepare(&mut machine);
        machine.start_daemon();
        Self::at(machine)
    }

    /// With a machine whose daemon runs.
    pub(super) fn at(machine: TestMachine) -> Self {
        let url = machine.open(&["sushi"]);
        // What is made once, for the first client, is no leak.
        let warm_up = Load::start(&url, 2, 2);
        warm_up.await_answers(20);
        warm_up.stop();
        let before = used(&machine);
        let saved = saved(&machine);
        let load = Load::start(&url, 2, 2);
        load.await_answers(20);
        Self {
            machine,
            url,
            load,
            before,
            saved,
        }
    }

    pub(super) fn bastion(&self, action: BastionAction) {
        let faults = self.machine.sandbox.faults();
        self.machine
            .sandbox
            .block_on(faults.bastion(action))
            .unwrap();
    }

    /// Waits until the session is something else than up.
    #[track_caller]
    pub(super) fn await_down(&self) {
        self.machine
            .wait_for("sushi", |session| session.state() != State::Up);
    }

    /// A new client's first answer, and that the session says it is up, come so soon.
    #[track_caller]
    pub(super) fn answers_within(&self, bound: Duration, since: Instant) {
        let client = super::client::Client::connect(&self.url);
        client.ask(PATIENCE).expect("an answer");
        let took = since.elapsed();
        println!("an answer after {took:?}");
        assert!(took <= bound, "{took:?}, not {bound:?}");
        self.machine
            .wait_for("sushi", |session| session.state() == State::Up);
        self.load.await_answers(10);
    }

    /// The same over a line so bad that the daemon may take it for dead once more: a connection
    /// that ends with it is made again.
    #[track_caller]
    pub(super) fn answers_in_the_end(&self, bound: Duration, since: Instant) {
        while let Err(problem) = super::client::Client::connect(&self.url).ask(PATIENCE) {
            println!("asked again: {problem}");
            assert!(since.elapsed() <= bound, "{problem}");
        }
        println!("an answer after {:?}", since.elapsed());
        self.load.await_answers(10);
    }

    /// The same for a fault that is measured: no load, nor another scene that starts, takes
    /// the processors away meanwhile.
    #[track_caller]
    pub(super) fn measure(&mut self, bound: Duration, fault: impl FnOnce(&mut Self) -> Instant) {
        let calm = CALM.write().unwrap_or_else(PoisonError::into_inner);
        let nobody = Load::start(&self.url, 0, 0);
        std::mem::replace(&mut self.load, nobody).stop();
        let began = fault(self);
        super::client::Client::connect(&self.url)
            .ask(PATIENCE)
            .expect("an answer");
        let took = began.elapsed();
        println!("an answer after {took:?}");
        drop(calm);
        self.load = Load::start(&self.url, 2, 2);
        self.load.await_answers(10);
        assert!(took <= bound, "{took:?}, not {bound:?}");
    }

    /// Ends the load and the daemon: nothing went wrong, nothing is left, and what was
    /// saved is what it was.
    #[track_caller]
    pub(super) fn leave(self) {
        let Self {
            machine,
            load,
            before,
            saved: expected,
            ..
        } = self;
        load.stop();
        let began = Instant::now();
        let mut after = used(&machine);
        while !after.fits(&before) {
            assert!(
                began.elapsed() < PATIENCE,
                "before {before:?}, after {after:?}"
            );
            last(Duration::from_millis(20));
            after = used(&machine);
        }
        assert_eq!(saved(&machine), expected);
        machine.leave();
    }
}

// === impl Used ===

impl Used {
    fn fits(&self, before: &Self) -> bool {
        let tasks = |used: &Self| used.tasks.saturating_sub(used.tunnels * TASKS_OF_A_TUNNEL);
        self.descriptors <= before.descriptors + SLACK
            && tasks(self) <= tasks(before) + SLACK
            && self.memory <= before.memory + MEMORY_SLACK
    }
}

/// What the daemon counts under names that begin so, of all its sessions together.
pub(super) fn metric(machine: &TestMachine, name: &str) -> u64 {
    let text = machine.ctl_ok(&["metrics"]);
    let of_name = |line: &&str| line.starts_with(name) && !line.starts_with('#');
    let values = text.lines().filter(of_name);
    let value = |line: &str| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap();
    values.map(value).sum()
}

fn used(machine: &TestMachine) -> Used {
    let metric = |name| metric(machine, name);
    let tunnels = metric("borealis_session_tunnels{");
    Used {
        descriptors: metric("process_open_fds ").saturating_sub(tunnels),
        tasks: metric("borealis_tasks "),
        memory: machine.daemon().resident(),
        tunnels,
    }
}

/// What the daemon would open after a restart.
fn saved(machine: &TestMachine) -> serde_json::Value {
    let text = fs::read_to_string(machine.path("state/borealis/state.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}
