//! Clients that mean no good: they cost bounded memory and time, disturb nobody, and leave
//! nothing behind.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that meets the unexpected has failed"
)]

mod attack;
mod bastion;

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use borealis_tests::{
    harness::{PATIENCE, TestMachine, raise_descriptors},
    sandbox::Options,
};
use tokio::{net::TcpStream, runtime::Runtime, task::JoinSet, time::timeout};
use tokio_postgres::NoTls;

/// What an attack may make the daemon grow by, in KiB. A debug build's log-in takes far
/// more than a release build's.
const GROWTH: u64 = 64 * 1024;

/// What the kernel says of a process.
struct Footprint {
    resident_kib: u64,
    descriptors: usize,
}

impl Footprint {
    fn of(machine: &TestMachine) -> Self {
        let pid = machine.daemon().pid();
        Self {
            resident_kib: machine.daemon().resident(),
            descriptors: fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count(),
        }
    }
}

/// Somebody who goes on working: over a connection that is there, and with new ones.
struct Bystander {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    slowest: Arc<AtomicU64>,
    working: JoinSet<()>,
}

impl Bystander {
    fn begin(runtime: &Runtime, url: &str) -> Self {
        let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let slowest = Arc::default();
        let mut working = JoinSet::new();
        for again in [true, false] {
            let (url, stop) = (url.to_owned(), Arc::clone(&stop));
            let (asked, slowest) = (Arc::clone(&asked), Arc::clone(&slowest));
            let work = work(url, again, stop, asked, slowest);
            working.spawn_on(work, runtime.handle());
        }
        Self {
            stop,
            asked,
            slowest,
            working,
        }
    }

    /// Nothing of what it asked may have failed. How often it asked, and the slowest answer.
    fn end(mut self, runtime: &Runtime) -> (u64, Duration) {
        self.stop.store(true, Ordering::Relaxed);
        runtime.block_on(async {
            while let Some(ended) = self.working.join_next().await {
                ended.expect("no query failed");
            }
        });
        let slowest = Duration::from_millis(self.slowest.load(Ordering::Relaxed));
        (self.asked.load(Ordering::Relaxed), slowest)
    }
}

/// Asks, each time over a new connection where that is wanted.
async fn work(
    url: String,
    again: bool,
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    slowest: Arc<AtomicU64>,
) {
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        let (client, connection) = tokio_postgres::connect(&url, NoTls)
            .await
            .unwrap_or_else(|error| panic!("after {:?}: {error:?}", began.elapsed()));
        tokio::spawn(connection);
        loop {
            client.simple_query("select 1").await.unwrap();
            asked.fetch_add(1, Ordering::Relaxed);
            if again || stop.load(Ordering::Relaxed) {
                break;
            }
        }
        if again {
            let took = u64::try_from(began.elapsed().as_millis()).unwrap();
            slowest.fetch_max(took, Ordering::Relaxed);
        }
    }
}

/// A port to attack.
#[derive(Clone)]
struct Target {
    address: std::net::SocketAddr,
    user: String,
}

impl Target {
    async fn connect(&self) -> TcpStream {
        loop {
            match TcpStream::connect(self.address).await {
                Ok(stream) => return stream,
                // The queue of connections that wait is short, and the kernel may say so.
                Err(_) => tokio::task::yield_now().await,
            }
        }
    }
}

#[test]
fn hostile_clients_cost_little_and_disturb_nobody() {
    let descriptors = raise_descriptors();
    let machine = TestMachine::quiet(Options::default());
    let url = machine.open(&["sushi"]);
    let opened = machine.json(&["show", "sushi"]);
    let target = Target {
        address: format!("127.0.0.1:{}", opened["port"]).parse().unwrap(),
        user: "sushi".into(),
    };
    let runtime = Runtime::new().unwrap();
    // What serving clients takes anyway.
    for _ in 0..20 {
        assert_eq!(machine.query(&url, "select 1"), "1");
    }
    let before = Footprint::of(&machine);

    let bystander = Bystander::begin(&runtime, &url);
    let mut most = before.resident_kib;
    for (name, attack) in attack::all(descriptors) {
        let began = Instant::now();
        let asked = bystander.asked.load(Ordering::Relaxed);
        // What is held is dropped after the measurement.
        let held = runtime
            .block_on(async { timeout(3 * PATIENCE, attack(target.clone())).await })
            .unwrap_or_else(|_| panic!("{name} takes too long"));
        let during = Footprint::of(&machine);
        most = most.max(during.resident_kib);
        let asked = bystander.asked.load(Ordering::Relaxed) - asked;
        #[allow(
            clippy::print_stdout,
            reason = "numbers, for who asks with --nocapture"
        )]
        {
            println!(
                "{name}: {} KiB more, {} descriptors, {:?}, {asked} queries beside it",
                during.resident_kib.saturating_sub(before.resident_kib),
                during.descriptors,
                began.elapsed()
            );
        }
        // Those that say nothing, those that are logging in, and those that are served.
        assert!(during.descriptors < 1000, "{name}: {}", during.descriptors);
        drop(held);
    }
    let (asked, slowest) = bystander.end(&runtime);
    #[allow(
        clippy::print_stdout,
        reason = "numbers, for who asks with --nocapture"
    )]
    {
        println!("bystander: {asked} queries, the slowest with its log-in {slowest:?}");
    }
    assert!(asked > 0);
    let grown = most - before.resident_kib;
    assert!(grown < GROWTH, "{grown} KiB more than before");

    // Nothing is left: descriptors go back to where they were, and no connection is counted.
    let began = Instant::now();
    loop {
        let now = Footprint::of(&machine).descriptors;
        // A tunnel and its timer more or less.
        let active = machine.json(&["show", "sushi"])["connections"]["active"].clone();
        if now <= before.descriptors + 8 && active == 0 {
            break;
        }
        let was = before.descriptors;
        assert!(
            began.elapsed() < PATIENCE,
            "{was} descriptors, now {now}; {active} connections"
        );
        assert_eq!(machine.query(&url, "select 1"), "1");
    }
    machine.leave();
}
