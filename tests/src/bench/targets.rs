//! What was asked of the tunnel, beside what was measured.

use std::fmt::Write as _;

use super::{
    line::Line,
    report::{Measured, reference},
    ways::{REFERENCE, TLS_REFERENCE},
    workload::Better,
};

/// A figure that was asked for: its line, its workload and what.
type Target = (Line, &'static str, Asked);

enum Asked {
    /// Of the reference's: at least so much where more is better, else at most.
    Ratio(f64),
    /// At most so much, in the figure's own unit.
    Most(f64),
}

/// Round trips are left out: those are counted (`tests/tests/credentials/round_trips.rs`), and
/// time holds more than them.
const TARGETS: &[Target] = &[
    near("copy out, 1 at once", 1.0),
    near("copy out, 4 at once", 1.0),
    near("copy out, 16 at once", 1.0),
    near("copy in, 1 at once", 1.2),
    near("copy in, 4 at once", 1.2),
    near("copy in, 16 at once", 1.2),
    near("copy out, 1 at once: CPU", 0.85),
    near("copy in, 1 at once: CPU", 0.85),
    near("pgbench -S -c 1", 1.3),
    near("pgbench -S -c 8", 1.3),
    near("pgbench -S -C -c 8", 3.0),
    near("select 1, p50", 0.95),
    far("copy out, 1 at once", 3.0),
    far("copy out, 4 at once", 1.1),
    far("16 connections at once, first row", 0.6),
    far("16 connections at once again, first row", 0.6),
    far("16 connections at once again, first byte", 0.6),
    far("select 1 beside copy out, p50", 0.3),
    far("select 1 beside copy out, p99", 0.5),
    on(Line::FAR_AND_NARROW, "select 1 beside copy out, p50", 0.3),
    on(Line::FAR_AND_NARROW, "select 1 beside copy out, p99", 0.5),
    on(Line::FAR_AND_LOSSY, "select 1 beside copy out, p50", 0.3),
    on(Line::FAR_AND_LOSSY, "select 1 beside copy out, p99", 0.5),
    most("daemon, 5 idle sessions: resident memory", 15.0),
    most("daemon, 5 idle sessions: wake-ups but for keepalives", 1.0),
    most(
        "1000 idle connections: resident memory, more than before",
        40.0,
    ),
    most("borealisctl list, whole process", 5.0),
    most("borealisd: size of the binary", 12.0),
    most("borealisctl: size of the binary", 12.0),
];

const fn near(workload: &'static str, ratio: f64) -> Target {
    on(Line::LOOPBACK, workload, ratio)
}

const fn far(workload: &'static str, ratio: f64) -> Target {
    on(Line::FAR, workload, ratio)
}

const fn on(line: Line, workload: &'static str, ratio: f64) -> Target {
    (line, workload, Asked::Ratio(ratio))
}

const fn most(workload: &'static str, number: f64) -> Target {
    (Line::LOOPBACK, workload, Asked::Most(number))
}

/// A table of those that were measured; what meets its target is in bold type.
pub(crate) fn table(all: &[Measured]) -> String {
    let mut text = String::from(
        "| figure | asked | managed | the same, both with TLS | passthrough | direct |\n|---|---|---|---|---|---|\n",
    );
    for (line, workload, asked) in TARGETS {
        let of = |way: &str| {
            all.iter()
                .find(|one| one.line == *line && one.workload == *workload && one.way == way)
        };
        // A figure that has only one way has the empty one.
        let Some(managed) = of("managed")
            .or_else(|| of(""))
            .or_else(|| of("passthrough"))
        else {
            continue;
        };
        let name = format!("{}: {workload}", line.title());
        let _ = match *asked {
            Asked::Ratio(asked) => {
                let sign = match managed.better {
                    Better::More => "≥",
                    Better::Less => "≤",
                };
                let ratio = |way: &str, to: &str| {
                    let ratio = of(way)?.median()? / reference(all, managed, to)?;
                    let is_met = match managed.better {
                        Better::More => ratio >= asked,
                        Better::Less => ratio <= asked,
                    };
                    Some(bold(format!("{ratio:.2}"), is_met && way != "direct"))
                };
                let ratio = |way, to| ratio(way, to).unwrap_or_default();
                writeln!(
                    text,
                    "| {name} | {sign} {asked} | {} | {} | {} | {} |",
                    ratio("managed", REFERENCE),
                    ratio("managed", TLS_REFERENCE),
                    ratio("passthrough", REFERENCE),
                    ratio("direct", REFERENCE)
                )
            }
            Asked::Most(asked) => {
                let median = managed.median().unwrap_or(f64::NAN);
                let shown = bold(format!("{median:.2} {}", managed.unit), median <= asked);
                writeln!(text, "| {name} | ≤ {asked} | {shown} | | | |")
            }
        };
    }
    text
}

fn bold(text: String, is_met: bool) -> String {
    if is_met { format!("**{text}**") } else { text }
}
