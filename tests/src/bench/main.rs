//! `make bench`: our release binaries, `ssh -N -L` and a direct connection against the same
//! `sshd` and PostgreSQL, interleaved in one run.
//!
//! Each line is measured by a child process of its own, in a network namespace of its own; at
//! the far end of a line with a delay are the bastion, the database and the provider.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark that meets the unexpected has nothing to report; printing is its work"
)]

mod line;
mod link;
mod process;
mod report;
mod targets;
mod ways;
mod workload;

use std::{
    fs,
    path::PathBuf,
    process::{Command, ExitCode, ExitStatus},
};

use clap::Parser;
use line::Line;
use report::Measured;

/// What is measured, and how long.
#[derive(Debug, Clone, Parser)]
#[command(about = "Compares borealisd with ssh -L and a direct connection")]
struct Args {
    /// Only this line, or these: round trip in milliseconds, loss in percent and rate in Mbit/s,
    /// as in 80/1 or 80/0/100. On one that is narrower than usual only queries are measured,
    /// alone and beside a bulk transfer.
    #[arg(long)]
    line: Vec<Line>,
    /// Whole runs, each with servers, tunnels and daemons of its own; the median counts. Unless
    /// lines are named, those of 20 ms and with loss are measured in the first run only.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Seconds of each pgbench run.
    #[arg(long, default_value_t = 2)]
    seconds: u32,
    /// MiB of each bulk transfer, in all its connections together; a quarter for uploads over a
    /// line with a delay, and a little where packets are lost.
    #[arg(long, default_value_t = 1024)]
    bulk: u32,
    /// Where the table goes.
    #[arg(long, default_value = "tests/benches/RESULTS.md")]
    results: PathBuf,
    /// Only workloads whose name contains this, or these; `open`, `idle` and `connections` are
    /// some.
    #[arg(long)]
    only: Vec<String>,
    /// Measures one line in this very network, and writes what it found there.
    #[arg(long, hide = true)]
    inside: Option<PathBuf>,
    /// A further run, which leaves out what was the same each time: memory and wake-ups.
    #[arg(long, hide = true)]
    again: bool,
}

fn main() -> ExitCode {
    // An error means that one is installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    borealis_tests::harness::raise_descriptors();
    let args = Args::parse();
    if let Some(out) = &args.inside {
        measure(args.line[0], &args, |so_far| {
            fs::write(out, serde_json::to_vec(so_far).unwrap()).unwrap();
        });
        return ExitCode::SUCCESS;
    }
    if let Err(error) = link::check_congestion_control() {
        eprintln!("borealis-bench: {error}");
        return ExitCode::FAILURE;
    }
    let lines = |run| match args.line.as_slice() {
        [] if run == 1 => Line::ALL.to_vec(),
        [] => Line::MAIN.to_vec(),
        lines => lines.to_vec(),
    };
    let command = std::env::args()
        .skip(1)
        .fold("borealis-bench".to_owned(), |all, one| all + " " + &one);
    let mut all = Vec::new();
    let mut outcome = ExitCode::SUCCESS;
    for run in 1..=args.runs {
        for line in lines(run) {
            eprintln!("== {line}, run {run}");
            let (measured, status) = measure_apart(line, run > 1, &args);
            if !status.success() {
                eprintln!("{line} was not measured to its end");
                outcome = ExitCode::FAILURE;
            }
            report::join(&mut all, measured);
            // After each: it takes long, and who ends it early has what there is.
            report::write(&args.results, &command, &all);
        }
    }
    outcome
}

/// Measures a line in a namespace of its own, as far as it comes.
fn measure_apart(line: Line, again: bool, args: &Args) -> (Vec<Measured>, ExitStatus) {
    let out = tempfile::NamedTempFile::new().unwrap();
    let this = std::env::current_exe().unwrap();
    let mut command = Command::new("unshare");
    command.args(["--net", "--"]).arg(this);
    command.args(["--inside".as_ref(), out.path().as_os_str()]);
    command.args(["--line", &line.to_string()]);
    command.args(["--seconds", &args.seconds.to_string()]);
    command.args(["--bulk", &args.bulk.to_string()]);
    if again {
        command.arg("--again");
    }
    for only in &args.only {
        command.args(["--only", only]);
    }
    let status = command.status().expect("unshare, of util-linux, as root");
    let measured = serde_json::from_slice(&fs::read(out.path()).unwrap());
    (measured.unwrap_or_default(), status)
}

/// Says after each workload what it has measured so far.
fn measure(line: Line, args: &Args, mut keep: impl FnMut(&[Measured])) {
    link::bring_up();
    let world = ways::World::start(line);
    let mut measured = Vec::new();
    let wants =
        |name: &str| args.only.is_empty() || args.only.iter().any(|only| name.contains(only));
    for workload in workload::all(line, args.seconds, args.bulk) {
        if !wants(&workload.figures[0].name) {
            continue;
        }
        // A B A B: what drifts, drifts for all.
        let samples: Vec<_> = world
            .ways
            .iter()
            .map(|way| workload.run(way, &world))
            .collect();
        for (index, figure) in workload.figures.iter().enumerate() {
            for (way, samples) in world.ways.iter().zip(&samples) {
                let Some(sample) = samples[index] else {
                    continue;
                };
                let one = Measured::new(line, figure, way.name, vec![sample]);
                eprintln!("{one}");
                measured.push(one);
            }
        }
        keep(&measured);
    }
    if line.loss == 0 && wants("open") {
        measured.extend(process::open(&world, line));
    }
    let is_first = line == Line::LOOPBACK && !args.again;
    if is_first && wants("idle") {
        measured.extend(process::idle(&world));
    }
    if is_first && wants("connections") {
        measured.extend(process::connections(&world));
    }
    keep(&measured);
    world.leave();
}
