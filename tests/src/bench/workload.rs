//! What is done over each way.

use std::{
    io::Write as _,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_postgres::config::Host;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{
    line::Line,
    process::{cpu, cpu_of_all},
    ways::{Way, World},
};

/// One workload: the figures that a run of it gives, and how it is run.
pub(crate) struct Workload {
    pub(crate) figures: Vec<Figure>,
    kind: Kind,
}

/// What a number means.
#[derive(Debug, Clone)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
}

/// Which way a figure is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) enum Better {
    More,
    Less,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    /// With the CPU seconds of the forwarding process and of the whole machine: what there
    /// would be to gain if forwarding cost nothing.
    Pgbench {
        clients: u32,
        connect: bool,
        seconds: u32,
        threads: u32,
    },
    /// Bulk transfers, with the CPU seconds of the forwarding process.
    Copy {
        direction: Direction,
        connections: u32,
        mib: u32,
    },
    /// A query of few bytes, again and again.
    PingPong { rounds: usize },
    /// The same beside a bulk transfer.
    Beside { mib: u32, rounds: usize },
    /// Connections at once, each until its first row; then as many again, with what is kept ready.
    Together { connections: usize },
    /// One connection after another, each until its first row: what is kept ready serves the
    /// first, and not the one that comes at once behind it.
    FirstRow,
}

#[derive(Debug, Clone, Copy)]
enum Direction {
    Out,
    In,
}

/// PostgreSQL's protocol, "SSLRequest": the length, and the code 80877103.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// Connections that are made side by side.
const AT_ONCE: usize = 16;

pub(crate) fn all(line: Line, seconds: u32, bulk: u32) -> Vec<Workload> {
    // What is slow is measured with less: sshd's window is the limit of an upload over a long
    // line, and TCP itself where packets are lost.
    let mib = |direction| {
        let part = match (line.round_trip, line.loss, direction) {
            (0, _, _) | (_, 0, Direction::Out) => 1,
            (_, 0, Direction::In) => 4,
            _ => 256,
        };
        (bulk / part).max(1)
    };
    let rounds = if line.round_trip == 0 { 3000 } else { 100 };
    let beside = if line.round_trip == 0 { 400 } else { 100 };
    // Over 80 ms a connection with its log-in and query takes most of a second.
    let seconds = if line.round_trip == 0 {
        seconds
    } else {
        seconds.max(3)
    };
    let figure = |name: String, unit, better| Figure { name, unit, better };
    let mut all = Vec::new();
    for (connect, word) in [(false, ""), (true, " -C")] {
        for clients in [1, 8, 32] {
            // A thread connects its clients one after the other.
            let threads = if line.round_trip == 0 { 2 } else { clients };
            let name = format!("pgbench -S{word} -c {clients}");
            let mut figures = vec![figure(name.clone(), "tps", Better::More)];
            // Elsewhere the line's own carriers would count, and time is no matter of processors.
            if line == Line::LOOPBACK {
                for whose in ["CPU", "CPU of everything"] {
                    figures.push(figure(format!("{name}: {whose}"), "µs each", Better::Less));
                }
            }
            all.push(Workload {
                figures,
                kind: Kind::Pgbench {
                    clients,
                    connect,
                    seconds,
                    threads,
                },
            });
        }
    }
    for (direction, word) in [(Direction::Out, "out"), (Direction::In, "in")] {
        for connections in [1, 4, 16] {
            let name = format!("copy {word}, {connections} at once");
            let mut figures = vec![figure(name.clone(), "MiB/s", Better::More)];
            // So little is less than the kernel counts.
            if line.loss == 0 {
                figures.push(figure(format!("{name}: CPU"), "s/GiB", Better::Less));
            }
            all.push(Workload {
                figures,
                kind: Kind::Copy {
                    direction,
                    connections,
                    mib: mib(direction),
                },
            });
        }
    }
    let percentiles = |name: &str| {
        ["p50", "p99"].map(|word| figure(format!("{name}, {word}"), "ms", Better::Less))
    };
    all.push(Workload {
        figures: percentiles("select 1").into(),
        kind: Kind::PingPong { rounds },
    });
    all.push(Workload {
        figures: percentiles("select 1 beside copy out").into(),
        kind: Kind::Beside {
            // Lasts longer than the queries, whichever way is the fastest.
            mib: (bulk * 4).max(2048),
            rounds: beside,
        },
    });
    all.push(Workload {
        figures: [
            ", first row",
            ", last row",
            " again, first row",
            " again, last row",
            " again, first byte",
            " again, last one's first byte",
        ]
        .map(|word| {
            let name = format!("16 connections at once{word}");
            figure(name, "ms", Better::Less)
        })
        .into(),
        kind: Kind::Together { connections: 16 },
    });
    all.push(Workload {
        figures: ["one was kept ready", "at once behind it"]
            .map(|word| figure(format!("connect to first row, {word}"), "ms", Better::Less))
            .into(),
        kind: Kind::FirstRow,
    });
    if line.is_narrow() {
        all.retain(|workload| matches!(workload.kind, Kind::PingPong { .. } | Kind::Beside { .. }));
    }
    all
}

// === impl Workload ===

impl Workload {
    /// What one run gives, a number for each figure; `None` where the way has none: no process
    /// whose processor time would count.
    pub(crate) fn run(&self, way: &Way, world: &World) -> Vec<Option<f64>> {
        let sandbox = &world.machine.sandbox;
        match self.kind {
            Kind::Pgbench {
                clients,
                connect,
                seconds,
                threads,
            } => {
                let mut arguments = vec![
                    format!("-c{clients}"),
                    format!("-j{threads}"),
                    format!("-T{seconds}"),
                ];
                arguments.extend(connect.then(|| "-C".to_owned()));
                let spent = || (way.pid.map(cpu), cpu_of_all());
                let (before, before_all) = spent();
                let rate = pgbench(way, &arguments);
                let (after, after_all) = spent();
                let each = 1e6 / (rate * f64::from(seconds));
                let own = after.zip(before).map(|(now, then)| (now - then) * each);
                vec![Some(rate), own, Some((after_all - before_all) * each)]
            }
            Kind::Copy {
                direction,
                connections,
                mib,
            } => {
                let spent = || way.pid.map(cpu);
                let before = spent();
                let each = (mib / connections).max(1);
                let mib = f64::from(each * connections);
                let rate = mib / copy(way, direction, connections, each).as_secs_f64();
                let each_gib = 1024.0 / mib;
                let cpu = spent()
                    .zip(before)
                    .map(|(now, then)| (now - then) * each_gib);
                vec![Some(rate), cpu]
            }
            Kind::PingPong { rounds } => sandbox.block_on(ping_pong(way, rounds)),
            Kind::Beside { mib, rounds } => {
                let mut bulk = copy_out(way, mib).spawn().unwrap();
                let figures = sandbox.block_on(ping_pong(way, rounds));
                let in_time = bulk.try_wait().unwrap().is_none();
                let _ = bulk.kill();
                let _ = bulk.wait();
                assert!(in_time, "the bulk transfer ended before what is beside it");
                figures
            }
            Kind::Together { connections } => {
                let rows = || sandbox.block_on(together(connections, |at| first_row(way, at)));
                let mut figures = rows();
                world.await_ready(way);
                figures.extend(rows());
                figures.extend(match way.session {
                    // Its first byte is the daemon's own answer.
                    Some(_) => vec![None; 2],
                    None => sandbox.block_on(together(connections, |at| first_byte(way, at))),
                });
                figures
            }
            Kind::FirstRow => {
                // What is kept ready is for whoever came before.
                sandbox.block_on(first_row(way, Instant::now()));
                world.await_ready(way);
                sandbox.block_on(first_rows(way))
            }
        }
    }
}

fn pgbench(way: &Way, arguments: &[String]) -> f64 {
    let script = tempfile::NamedTempFile::new().unwrap();
    script.as_file().write_all(b"select 1;\n").unwrap();
    let mut command = Command::new("pgbench");
    command.args(arguments).arg("-nf").arg(script.path());
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
    let number = line["tps = ".len()..].split(' ').next();
    number.unwrap().parse().unwrap()
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
        "yes $(head -c 1023 /dev/zero | tr '\\0' x) | head -n {} | psql -XAtq -c 'create temp table t (a text)' -c 'copy t from stdin' \"$URL\"",
        u64::from(mib) * 1024
    );
    let mut shell = Command::new("sh");
    shell
        .args(["-c", &rows])
        .env("URL", &way.url)
        .stdout(Stdio::null());
    shell
}

fn copy(way: &Way, direction: Direction, connections: u32, each: u32) -> Duration {
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

/// A client in this process, for figures below a millisecond.
async fn connect(way: &Way) -> tokio_postgres::Client {
    let tls = MakeRustlsConnect::new((*way.tls).clone());
    let (client, connection) = tokio_postgres::connect(&way.url, tls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Clients that have logged in and say nothing more.
pub(crate) async fn connections(way: &Way, count: usize) -> Vec<tokio_postgres::Client> {
    let mut clients = Vec::with_capacity(count);
    for _ in 0..count.div_ceil(AT_ONCE) {
        let some = AT_ONCE.min(count - clients.len());
        clients.extend(join_all((0..some).map(|_| connect(way))).await);
    }
    clients
}

/// Ends them, and waits until the database has forgotten them.
pub(crate) async fn disconnect(way: &Way, clients: Vec<tokio_postgres::Client>) {
    drop(clients);
    let watcher = connect(way).await;
    let others = "select count(*) from pg_stat_activity where pid <> pg_backend_pid() and usename = current_user and application_name = ''";
    while watcher
        .query_one(others, &[])
        .await
        .unwrap()
        .get::<_, i64>(0)
        > 8
    {}
}

fn milliseconds(time: Duration) -> Option<f64> {
    Some(time.as_secs_f64() * 1000.0)
}

async fn ping_pong(way: &Way, rounds: usize) -> Vec<Option<f64>> {
    let client = connect(way).await;
    // The first on a connection that was kept ready proves it, which is the first row's matter.
    client.simple_query("select 1").await.unwrap();
    let mut times = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let began = Instant::now();
        client.simple_query("select 1").await.unwrap();
        times.push(began.elapsed());
    }
    times.sort();
    [50, 99]
        .map(|percentile| milliseconds(times[(rounds * percentile).div_ceil(100) - 1]))
        .into()
}

async fn first_row(way: &Way, began: Instant) -> Duration {
    connect(way).await.simple_query("select 1").await.unwrap();
    began.elapsed()
}

/// Asks the database whether it does TLS, which is what it answers first, in a byte.
async fn first_byte(way: &Way, began: Instant) -> Duration {
    let config: tokio_postgres::Config = way.url.parse().unwrap();
    let (Host::Tcp(host), port) = (&config.get_hosts()[0], config.get_ports()[0]) else {
        panic!("{} is no address", way.name);
    };
    let mut stream = TcpStream::connect((host.as_str(), port)).await.unwrap();
    stream.write_all(&SSL_REQUEST).await.unwrap();
    stream.read_u8().await.unwrap();
    began.elapsed()
}

/// The first's time and the last's, of `one` made so often at once.
async fn together<F: Future<Output = Duration>>(
    connections: usize,
    one: impl Fn(Instant) -> F,
) -> Vec<Option<f64>> {
    let began = Instant::now();
    let times = join_all((0..connections).map(|_| one(began))).await;
    vec![
        times.iter().min().copied().and_then(milliseconds),
        times.iter().max().copied().and_then(milliseconds),
    ]
}

async fn first_rows(way: &Way) -> Vec<Option<f64>> {
    let mut times = Vec::new();
    for _ in 0..2 {
        times.push(milliseconds(first_row(way, Instant::now()).await));
    }
    times
}
