//! A machine with fifty sessions, and what they come to.

use std::{cell::RefCell, fs, thread, time::Duration};

use borealis_proto::v1::State;
use borealis_tests::{
    harness::TestMachine,
    sandbox::{
        AddonSpec, AppSpec, BastionKind, BastionStats, Catalog, Options, SshdSettings, Stats,
    },
};

pub(crate) const ADDONS: usize = 25;
/// Each add-on read-only and read-write.
pub(crate) const SESSIONS: usize = 2 * ADDONS;
/// For all of them, in a debug build, on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(150);
/// How many commands a user's script runs at a time.
const AT_ONCE: usize = 10;
/// Over this time it is counted how often a quiet daemon wakes.
const QUIET: Duration = Duration::from_secs(20);

/// The machine, and what was counted of it when it was last looked at.
pub(crate) struct Fleet {
    pub(crate) machine: TestMachine,
    seen: Stats,
    /// The last request that was looked at.
    asked: u64,
    /// What was more than it may be: told at the end, all together.
    too_much: RefCell<Vec<String>>,
}

/// Calls of the provider.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Calls {
    pub(crate) look_ups: u64,
    pub(crate) grants: u64,
    pub(crate) keys: u64,
    pub(crate) passwords: u64,
}

/// What a daemon has that nobody asks anything of.
#[derive(Debug)]
#[allow(dead_code, reason = "what is only printed is for who reads it")]
pub(crate) struct Quiet {
    /// Resident, in KiB.
    pub(crate) memory: u64,
    /// What of it is not the binary, in KiB.
    pub(crate) allocated: u64,
    pub(crate) descriptors: usize,
    pub(crate) tunnels: u64,
    pub(crate) wake_ups_a_second: f64,
    /// Files without a name, which is where readers that stop have their bytes kept.
    pub(crate) spilled: usize,
}

// === impl Fleet ===

impl Fleet {
    pub(crate) fn start() -> Self {
        let apps = (1..=ADDONS).map(|number| {
            let addon = format!("borealis-pg-fleet-{number:05}");
            let database = format!("f{number:03}");
            AppSpec::new(&app(number)).addon(AddonSpec::borealis(&addon, "DATABASE", &database))
        });
        let mut machine = TestMachine::without_daemon(Options {
            bastion: BastionKind::Sshd,
            sshd: SshdSettings::default().and("MaxStartups", "10:30:100"),
            catalog: Catalog {
                apps: apps.collect(),
            },
            ..Options::default()
        });
        // A line for each packet would be what is measured.
        machine.set("BOREALIS_LOG", "borealisd=info");
        let clock = machine.path("clock");
        machine.set("BOREALIS_TEST_CLOCK", &clock.display().to_string());
        machine.start_daemon();
        let seen = machine.sandbox.stats();
        Self {
            machine,
            seen,
            asked: 0,
            too_much: RefCell::default(),
        }
    }

    /// Every session's name.
    pub(crate) fn names(&self) -> Vec<String> {
        let each = (1..=ADDONS).map(app);
        each.flat_map(|app| [app.clone(), format!("{app}-rw")])
            .collect()
    }

    /// Opens all, many at a time.
    pub(crate) fn open(&self) {
        let mut commands: Vec<_> = (1..=ADDONS)
            .map(app)
            .flat_map(|app| {
                [
                    vec!["open".into(), app.clone()],
                    vec!["open".into(), app, "-w".into()],
                ]
            })
            .collect();
        while !commands.is_empty() {
            let some = commands.split_off(commands.len().saturating_sub(AT_ONCE));
            self.run_together(&some);
        }
        self.all_up("open");
    }

    /// Ends the daemon and starts it again.
    pub(crate) fn restart(&mut self) {
        assert_eq!(self.machine.stop_daemon(), Some(0));
        self.machine.start_daemon();
        self.all_up("restart");
    }

    /// Has the daemon's clock find that so much time has passed.
    pub(crate) fn skip(&self, time: Duration) {
        let clock = self.machine.path("clock");
        fs::write(clock, time.as_secs().to_string()).unwrap();
    }

    /// Waits until every session is up; nobody does anything for it.
    #[track_caller]
    pub(crate) fn all_up(&self, after: &str) {
        let up = |sessions: &[borealis_tests::harness::Session]| {
            sessions.len() == SESSIONS && sessions.iter().all(|s| s.state() == State::Up)
        };
        let machine = &self.machine;
        machine
            .daemon()
            .wait_for_all(PATIENCE, up, &machine.sandbox);
        let bastion = self.bastion();
        println!("{after}: {bastion:?}");
        self.check(
            bastion.dropped == 0,
            format!("{after}: the bastion turned log-ins away: {bastion:?}"),
        );
    }

    /// A client of each session gets its answer.
    #[track_caller]
    pub(crate) fn all_answer(&self) {
        for name in self.names() {
            let socket = self.machine.socket_dir(&name);
            let number = name.trim_start_matches("app-").trim_end_matches("-rw");
            let database = format!("f0{number}");
            let place = format!("host={} dbname={database}", socket.display());
            let answer = self.machine.query(&place, "select current_database()");
            assert_eq!(answer, database);
        }
    }

    /// Since the last time, each add-on has cost no more calls than these.
    #[track_caller]
    pub(crate) fn expect(&mut self, what: &str, most: Calls) {
        // Grants are removed behind everybody's back.
        let sandbox = &self.machine.sandbox;
        let removed = sandbox.wait_for(PATIENCE, |stats| stats.grants.outstanding == 0);
        let now = sandbox.block_on(removed).unwrap();
        let calls = |ends: &[&str]| -> u64 {
            let since = |end: &&str| now.requests_for(end) - self.seen.requests_for(end);
            ends.iter().map(since).sum()
        };
        let made = Calls {
            look_ups: calls(&["/addons", "/addon-attachments"]),
            grants: calls(&["POST /oauth/authorizations"]),
            keys: calls(&["/personal-ssh-users"]),
            passwords: calls(&["/personal-db-users"]),
        };
        let refused: Vec<_> = sandbox
            .requests()
            .into_iter()
            .filter(|request| request.number > self.asked)
            .filter(|request| request.status.is_none_or(|status| status >= 400))
            .map(|request| (request.path, request.status))
            .collect();
        self.asked = sandbox.requests().last().map_or(0, |last| last.number);
        println!("{what}: {made:?}; not answered well: {refused:?}");
        let addons = ADDONS as u64;
        for (which, made, most) in [
            ("look-ups", made.look_ups, most.look_ups),
            ("grants", made.grants, most.grants),
            ("keys", made.keys, most.keys),
            ("passwords", made.passwords, most.passwords),
        ] {
            self.check(
                made <= most * addons,
                format!("{what}: {made} calls for {which} instead of {addons} × {most}"),
            );
        }
        self.seen = now;
    }

    pub(crate) fn bastion(&self) -> BastionStats {
        self.machine.sandbox.stats().bastion
    }

    /// Looks at the daemon while nobody asks anything of it.
    pub(crate) fn await_quiet(&self) -> Quiet {
        let daemon = self.machine.daemon();
        let sandbox = &self.machine.sandbox;
        let few = sandbox.wait_for(PATIENCE, |stats| {
            stats.bastion.open_connections == Some(ADDONS as u64)
        });
        if let Err(seen) = sandbox.block_on(few) {
            self.check(
                false,
                format!("more than a tunnel for each add-on: {seen:?}"),
            );
        }
        let before = daemon.wake_ups();
        last(QUIET);
        // Threads that ended meanwhile had nothing to do.
        let since = |(thread, woken)| woken - before.get(&thread).unwrap_or(&0);
        let woken: u64 = daemon.wake_ups().into_iter().map(since).sum();
        let files = fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap();
        let targets = files
            .flatten()
            .filter_map(|fd| fs::read_link(fd.path()).ok());
        let unlinked =
            |target: &std::path::PathBuf| target.display().to_string().ends_with("(deleted)");
        Quiet {
            memory: daemon.resident(),
            allocated: daemon.allocated(),
            descriptors: daemon.descriptors(),
            tunnels: self.bastion().open_connections.unwrap(),
            wake_ups_a_second: f64::from(u32::try_from(woken).unwrap()) / QUIET.as_secs_f64(),
            spilled: targets.filter(unlinked).count(),
        }
    }

    /// Notes what must hold where it does not.
    pub(crate) fn check(&self, holds: bool, otherwise: impl Into<String>) {
        if !holds {
            self.too_much.borrow_mut().push(otherwise.into());
        }
    }

    /// Leaves the machine, and tells what was too much.
    #[track_caller]
    pub(crate) fn leave(self) {
        self.machine.leave();
        let too_much = self.too_much.into_inner();
        assert!(too_much.is_empty(), "{too_much:#?}");
    }

    fn run_together(&self, commands: &[Vec<String>]) {
        let machine = &self.machine;
        thread::scope(|scope| {
            for command in commands {
                scope.spawn(|| {
                    let words: Vec<_> = command.iter().map(String::as_str).collect();
                    machine.ctl_ok(&words);
                });
            }
        });
    }
}

fn app(number: usize) -> String {
    format!("app-{number:02}")
}

/// Lets time pass that a fault or a measurement is to last.
pub(crate) fn last(time: Duration) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async { tokio::time::sleep(time).await });
}
