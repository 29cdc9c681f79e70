//! What a process costs, as the kernel counts it.

use std::{fs, process::Command, time::Instant};

use super::{line::Line, report::Measured, ways::World, workload::Better};

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

/// What the daemon costs when nothing happens, and what a whole `borealisctl list` takes.
pub(crate) fn idle(world: &World) -> Vec<Measured> {
    let desk = &world.desk;
    for target in [
        "ramen::BOREALIS_PG_MAROON",
        "ramen::BOREALIS_PG_NAVY",
        "borealis-pg-hex-12345",
    ] {
        desk.open(&[target]);
    }
    let pid = desk.daemon().pid();
    let figure = |name: &str, unit, value| {
        Measured::plain(Line::LOOPBACK, name, unit, Better::Less, vec![Some(value)])
    };
    let mut figures = vec![figure(
        "daemon, 5 idle sessions: resident memory",
        "MiB",
        resident(pid),
    )];
    let before = switches(pid);
    let began = Instant::now();
    // The one thing that only time can show.
    #[allow(
        clippy::disallowed_methods,
        reason = "what is measured is a minute of nothing"
    )]
    std::thread::sleep(std::time::Duration::from_secs(30));
    let rate = (switches(pid) - before) / began.elapsed().as_secs_f64();
    figures.push(figure("daemon, 5 idle sessions: wake-ups", "1/s", rate));
    let list = (0..50)
        .map(|_| {
            let began = Instant::now();
            desk.ctl_ok(&["list"]);
            Some(began.elapsed().as_secs_f64() * 1000.0)
        })
        .collect();
    figures.push(Measured::plain(
        Line::LOOPBACK,
        "borealisctl list, whole process",
        "ms",
        Better::Less,
        list,
    ));
    for name in ["borealisd", "borealisctl"] {
        let size = fs::metadata(desk.binary(name)).unwrap().len() as f64 / 1024.0 / 1024.0;
        figures.push(figure(&format!("{name}: size of the binary"), "MiB", size));
    }
    let clients = connections(world, 200);
    figures.push(figure(
        "daemon, 200 idle connections: resident memory",
        "MiB",
        resident(pid),
    ));
    drop(clients);
    figures
}

fn resident(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<f64>()
        .unwrap()
        / 1024.0
}

/// Times that any of its threads was put to run of its own accord.
fn switches(pid: u32) -> f64 {
    let mut sum = 0.0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten() {
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let line = status
            .lines()
            .find(|line| line.starts_with("voluntary_ctxt_switches"));
        sum += line
            .and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok())
            .unwrap_or(0.0);
    }
    sum
}

/// Clients that have logged in and say nothing more.
fn connections(world: &World, count: usize) -> Vec<std::process::Child> {
    let url = &world
        .ways
        .iter()
        .find(|way| way.name == "managed")
        .unwrap()
        .url;
    let clients: Vec<_> = (0..count)
        .map(|_| {
            let mut psql = Command::new("psql");
            psql.args(["-XAtq", url])
                .stdin(std::process::Stdio::piped())
                .stdout(std::process::Stdio::null());
            psql.spawn().unwrap()
        })
        .collect();
    let wanted = count as u64;
    world.desk.wait_for("sushi-app-rw", |session| {
        session
            .connections
            .is_some_and(|counts| counts.active >= wanted)
    });
    clients
}
