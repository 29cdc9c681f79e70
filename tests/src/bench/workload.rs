//! What is done over each way.

use std::{
    io::Write as _,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use super::{
    line::Line,
    process::cpu,
    ways::{Way, World},
};

/// One workload: its name, what its figure means, and how it is run.
pub(crate) struct Workload {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
    kind: Kind,
}

/// Which way a figure is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) enum Better {
    More,
    Less,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Pgbench {
        clients: u32,
        connect: bool,
        seconds: u32,
    },
    Copy {
        direction: Direction,
        connections: u32,
        mib: u32,
    },
    /// CPU seconds of the forwarding process for each GiB.
    Cpu {
        mib: u32,
    },
    PingPong {
        percentile: usize,
        rounds: usize,
    },
    /// A small query beside a bulk transfer.
    Beside {
        percentile: usize,
        mib: u32,
    },
    /// Connections at once, until the last has its first row.
    Together {
        connections: usize,
    },
}

#[derive(Debug, Clone, Copy)]
enum Direction {
    Out,
    In,
}

pub(crate) fn all(line: Line, seconds: u32, bulk: u32) -> Vec<Workload> {
    // What loses packets is measured with less: TCP itself is the limit there.
    let mib = match (line.round_trip, line.loss) {
        (0, _) => bulk,
        (_, 0) => bulk / 2,
        _ => bulk / 16,
    }
    .max(4);
    let rounds = if line.round_trip == 0 { 3000 } else { 60 };
    let workload = |name: String, unit, better, kind| Workload {
        name,
        unit,
        better,
        kind,
    };
    let mut all = Vec::new();
    for clients in [1, 8, 32] {
        let kind = Kind::Pgbench {
            clients,
            connect: false,
            seconds,
        };
        all.push(workload(
            format!("pgbench -S -c {clients}"),
            "tps",
            Better::More,
            kind,
        ));
    }
    for clients in [1, 8] {
        let kind = Kind::Pgbench {
            clients,
            connect: true,
            seconds,
        };
        all.push(workload(
            format!("pgbench -S -C -c {clients}"),
            "tps",
            Better::More,
            kind,
        ));
    }
    for (direction, word) in [(Direction::Out, "out"), (Direction::In, "in")] {
        for connections in [1, 4, 16] {
            let kind = Kind::Copy {
                direction,
                connections,
                mib,
            };
            all.push(workload(
                format!("copy {word}, {connections} at once"),
                "MiB/s",
                Better::More,
                kind,
            ));
        }
    }
    for (percentile, word) in [(50, "p50"), (99, "p99")] {
        let kind = Kind::PingPong { percentile, rounds };
        all.push(workload(
            format!("select 1, {word}"),
            "ms",
            Better::Less,
            kind,
        ));
        let kind = Kind::Beside { percentile, mib };
        all.push(workload(
            format!("select 1 beside copy out, {word}"),
            "ms",
            Better::Less,
            kind,
        ));
    }
    all.push(workload(
        "16 connections at once, last row".into(),
        "ms",
        Better::Less,
        Kind::Together { connections: 16 },
    ));
    if line.round_trip == 0 {
        all.push(workload(
            "CPU of the client side".into(),
            "s/GiB",
            Better::Less,
            Kind::Cpu { mib },
        ));
    }
    all
}

// === impl Workload ===

impl Workload {
    /// The figure of one run; `None` where the way has none.
    pub(crate) fn run(&self, way: &Way, world: &World) -> Option<f64> {
        match self.kind {
            Kind::Pgbench {
                clients,
                connect,
                seconds,
            } => Some(pgbench(way, clients, connect, seconds)),
            Kind::Copy {
                direction,
                connections,
                mib,
            } => Some(f64::from(mib) / copy(way, direction, connections, mib).as_secs_f64()),
            Kind::Cpu { mib } => {
                let pid = way.pid?;
                let before = cpu(pid);
                copy(way, Direction::Out, 1, mib);
                Some((cpu(pid) - before) * 1024.0 / f64::from(mib))
            }
            Kind::PingPong { percentile, rounds } => Some(
                world
                    .desk
                    .sandbox
                    .block_on(ping_pong(way, rounds, percentile)),
            ),
            Kind::Beside { percentile, mib } => {
                let mut bulk = copy_out(way, mib * 4).spawn().unwrap();
                let figure = world.desk.sandbox.block_on(ping_pong(way, 40, percentile));
                let _ = bulk.kill();
                let _ = bulk.wait();
                Some(figure)
            }
            Kind::Together { connections } => {
                Some(world.desk.sandbox.block_on(together(way, connections)))
            }
        }
    }
}

fn pgbench(way: &Way, clients: u32, connect: bool, seconds: u32) -> f64 {
    let script = tempfile::NamedTempFile::new().unwrap();
    script.as_file().write_all(b"select 1;\n").unwrap();
    let mut command = Command::new("pgbench");
    command.args([
        "-n",
        "-c",
        &clients.to_string(),
        "-j",
        "2",
        "-T",
        &seconds.to_string(),
        "-f",
    ]);
    command.arg(script.path());
    if connect {
        command.arg("-C");
    }
    let output = command.arg(&way.url).output().expect("pgbench");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let line = text
        .lines()
        .find(|line| line.starts_with("tps = "))
        .unwrap_or_else(|| panic!("{text}"));
    line["tps = ".len()..]
        .split(' ')
        .next()
        .unwrap()
        .parse()
        .unwrap()
}

/// Rows of 1 KiB each.
fn copy_out(way: &Way, mib: u32) -> Command {
    let sql = format!(
        "copy (select repeat('x', 1023) from generate_series(1, {})) to stdout",
        mib * 1024
    );
    let mut psql = Command::new("psql");
    psql.args(["-XAtqc", &sql, &way.url]).stdout(Stdio::null());
    psql
}

fn copy_in(way: &Way, mib: u32) -> Command {
    let rows = format!(
        "head -c {} /dev/zero | tr '\\0' x | fold -w 1023 | psql -XAtq -c 'create temp table t (a text)' -c 'copy t from stdin' \"$URL\"",
        u64::from(mib) * 1024 * 1024
    );
    let mut shell = Command::new("sh");
    shell
        .args(["-c", &rows])
        .env("URL", &way.url)
        .stdout(Stdio::null());
    shell
}

fn copy(way: &Way, direction: Direction, connections: u32, mib: u32) -> Duration {
    let each = (mib / connections).max(1);
    let began = Instant::now();
    let children: Vec<_> = (0..connections)
        .map(|_| {
            let mut command = match direction {
                Direction::Out => copy_out(way, each),
                Direction::In => copy_in(way, each),
            };
            command.spawn().unwrap()
        })
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    began.elapsed()
}

/// A client of its own for figures below a millisecond.
async fn connect(way: &Way) -> tokio_postgres::Client {
    let url = way.url.replace("sslmode=require", "sslmode=disable");
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    client
}

async fn ping_pong(way: &Way, rounds: usize, percentile: usize) -> f64 {
    let client = connect(way).await;
    let mut times = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let began = Instant::now();
        client.simple_query("select 1").await.unwrap();
        times.push(began.elapsed());
    }
    times.sort();
    times[(rounds * percentile / 100).min(rounds - 1)].as_secs_f64() * 1000.0
}

async fn together(way: &Way, connections: usize) -> f64 {
    let began = Instant::now();
    let all = (0..connections).map(|_| async {
        connect(way).await.simple_query("select 1").await.unwrap();
    });
    futures_util::future::join_all(all).await;
    began.elapsed().as_secs_f64() * 1000.0
}
