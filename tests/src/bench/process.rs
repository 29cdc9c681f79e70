//! What a process costs, as the kernel counts it.

use std::{
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use borealis_proto::v1::State;
use borealis_tests::harness::{self, TestMachine};

use super::{
    line::Line,
    report::Measured,
    ways::World,
    workload::{self, Better, Figure},
};

/// Clock ticks a second, as Linux shows them to every program.
const TICKS: f64 = 100.0;

/// CPU seconds so far, user's and kernel's.
pub(crate) fn cpu(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name, in parentheses, may hold blanks.
    let (_, rest) = stat.rsplit_once(')').unwrap();
    let fields: Vec<_> = rest.split_whitespace().collect();
    let ticks = |index: usize| fields[index].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / TICKS
}

/// CPU seconds so far of all processors together.
pub(crate) fn cpu_of_all() -> f64 {
    let stat = fs::read_to_string("/proc/stat").unwrap();
    let fields: Vec<f64> = stat
        .lines()
        .next()
        .unwrap()
        .split_whitespace()
        .skip(1)
        .map(|field| field.parse().unwrap())
        .collect();
    // user, nice, system, idle, iowait, irq, softirq
    [0, 1, 2, 5, 6]
        .map(|index| fields[index])
        .iter()
        .sum::<f64>()
        / TICKS
}

/// What the daemon costs when nothing happens, and what a whole `borealisctl list` takes.
pub(crate) fn idle(world: &World) -> Vec<Measured> {
    // A machine of its own, on which nothing else has happened.
    let mut machine = TestMachine::quiet_at(Arc::clone(&world.machine.sandbox));
    machine.start_daemon();
    let figure = |name: &str, unit, value| one(Line::LOOPBACK, name, unit, vec![value]);
    let pid = machine.daemon().pid();
    let mut figures = vec![figure(
        "daemon without a session: resident memory",
        "MiB",
        resident(pid),
    )];
    for session in [
        &["sushi"][..],
        &["sushi", "-w"],
        &["ramen::BOREALIS_PG_MAROON"],
        &["ramen::BOREALIS_PG_NAVY"],
        &["borealis-pg-hex-12345", "--name", "fifth"],
    ] {
        machine.open(session);
    }
    figures.push(figure(
        "daemon, 5 idle sessions: resident memory",
        "MiB",
        resident(pid),
    ));
    let wake_ups = "daemon, 5 idle sessions: wake-ups";
    figures.push(figure(wake_ups, "1/s", wake_ups_of(pid)));
    machine.stop_daemon();
    machine.write_config("[keepalive]\ninterval = \"1h\"\n");
    machine.start_daemon();
    for session in machine.json(&["list"]).as_array().unwrap() {
        machine.wait_for(session["name"].as_str().unwrap(), |session| {
            session.state() == State::Up
        });
    }
    let without = format!("{wake_ups} but for keepalives");
    figures.push(figure(&without, "1/s", wake_ups_of(machine.daemon().pid())));
    let list = (0..50)
        .map(|_| {
            let began = Instant::now();
            machine.ctl_ok(&["list"]);
            began.elapsed().as_secs_f64() * 1000.0
        })
        .collect();
    figures.push(one(
        Line::LOOPBACK,
        "borealisctl list, whole process",
        "ms",
        list,
    ));
    for name in ["borealisd", "borealisctl"] {
        let size = fs::metadata(machine.binary(name)).unwrap().len() as f64 / 1024.0 / 1024.0;
        figures.push(figure(&format!("{name}: size of the binary"), "MiB", size));
    }
    machine.leave();
    figures
}

/// Each second of a minute of nothing, once threads that were needed before have ended.
#[allow(
    clippy::disallowed_methods,
    reason = "what is measured is nothing, which only time can show"
)]
fn wake_ups_of(pid: u32) -> f64 {
    std::thread::sleep(Duration::from_secs(15));
    let before = harness::wake_ups(pid);
    let began = Instant::now();
    std::thread::sleep(Duration::from_secs(60));
    let after = harness::wake_ups(pid);
    let of = |(thread, count): (_, u64)| count - before.get(&thread).copied().unwrap_or(0);
    after.into_iter().map(of).sum::<u64>() as f64 / began.elapsed().as_secs_f64()
}

/// Resident memory that idle connections cost, over each way that has a process.
pub(crate) fn connections(world: &World) -> Vec<Measured> {
    let mut figures = Vec::new();
    for count in [100, 1000, 5000] {
        for way in &world.ways {
            let Some(pid) = way.pid.filter(|_| !way.wants_tls()) else {
                continue;
            };
            let before = resident(pid);
            let clients = world
                .machine
                .sandbox
                .block_on(workload::connections(way, count));
            let cost = resident(pid) - before;
            let figure = Figure {
                name: format!("{count} idle connections: resident memory, more than before"),
                unit: "MiB",
                better: Better::Less,
            };
            let measured = Measured::new(Line::LOOPBACK, &figure, way.name, vec![cost]);
            eprintln!("{measured}");
            figures.push(measured);
            world
                .machine
                .sandbox
                .block_on(workload::disconnect(way, clients));
        }
    }
    figures
}

/// How long `borealisctl open` takes on a machine that knows nothing, and once more where
/// target and credentials are known.
pub(crate) fn open(world: &World, line: Line) -> Vec<Measured> {
    let mut machine = TestMachine::quiet_at(Arc::clone(&world.machine.sandbox));
    machine.start_daemon();
    let mut figures = Vec::new();
    for name in ["open on a new machine", "open again after close"] {
        let began = Instant::now();
        machine.open(&["sushi"]);
        let time = began.elapsed().as_secs_f64() * 1000.0;
        machine.ctl_ok(&["close", "sushi"]);
        if line.round_trip > 0 {
            let trips = time / f64::from(line.round_trip);
            figures.push(one(
                line,
                &format!("{name}: in round trips"),
                "",
                vec![trips],
            ));
        }
        figures.push(one(line, name, "ms", vec![time]));
    }
    machine.leave();
    figures
}

fn one(line: Line, name: &str, unit: &'static str, samples: Vec<f64>) -> Measured {
    let figure = Figure {
        name: name.into(),
        unit,
        better: Better::Less,
    };
    let measured = Measured::new(line, &figure, "", samples);
    eprintln!("{measured}");
    measured
}

/// MiB.
fn resident(pid: u32) -> f64 {
    harness::resident(pid) as f64 / 1024.0
}
