//! Figures as a table with ratios, and as a plot.

use std::{fmt, fmt::Write as _, fs, path::Path, process::Command};

use serde::{Deserialize, Serialize};

use super::{
    line::Line,
    link::CONGESTION_CONTROL,
    targets,
    ways::{REFERENCE, TLS_REFERENCE},
    workload::{Better, Figure},
};

/// The samples of one workload over one way.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) line: Line,
    pub(crate) workload: String,
    pub(crate) unit: String,
    pub(crate) better: Better,
    pub(crate) way: String,
    samples: Vec<f64>,
}

// === impl Measured ===

impl Measured {
    /// `way` is empty for a figure that has only one.
    pub(crate) fn new(line: Line, figure: &Figure, way: &str, mut samples: Vec<f64>) -> Self {
        samples.sort_by(f64::total_cmp);
        Self {
            line,
            workload: figure.name.clone(),
            unit: figure.unit.into(),
            better: figure.better,
            way: way.into(),
            samples,
        }
    }

    fn is_of(&self, other: &Self) -> bool {
        (self.line, &self.workload, &self.way) == (other.line, &other.workload, &other.way)
    }

    /// Whether TLS to the database is part of it.
    fn has_tls(&self) -> bool {
        ["managed", "passthrough, TLS"].contains(&self.way.as_str())
    }

    /// The middle one of the samples, or the greater of the two there.
    pub(crate) fn median(&self) -> Option<f64> {
        self.samples.get(self.samples.len() / 2).copied()
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let median = self.median().unwrap_or(f64::NAN);
        write!(
            f,
            "{:<34} {:<18} {median:>10.2} {}",
            self.workload, self.way, self.unit
        )
    }
}

/// Puts the samples of one more run to those of the runs before.
pub(crate) fn join(all: &mut Vec<Measured>, run: Vec<Measured>) {
    for measured in run {
        match all.iter_mut().find(|known| known.is_of(&measured)) {
            Some(known) => {
                known.samples.extend(measured.samples);
                known.samples.sort_by(f64::total_cmp);
            }
            None => all.push(measured),
        }
    }
}

/// Writes the table, and the plot beside it.
pub(crate) fn write(file: &Path, command: &str, all: &[Measured]) {
    let mut text = String::from("# Measured against `ssh -L`\n\n");
    let _ = writeln!(
        text,
        "Made by `make bench` (`{}`); medians of the runs, with the least and the most in parentheses. The first ratio is to `{REFERENCE}` at its defaults without TLS to the database, in the same runs; the second, for what has TLS within SSH, to `{TLS_REFERENCE}`, whose client does the same.\n\nLines with a delay are network namespaces with two TUN devices and a carrier between them (1 Gbit/s without a limit to its queue where nothing else is said, else room for 1,000 packets as in `netem`; socket buffers of up to 64 MiB); bastion, database and provider (HTTP without TLS) are at the far end.\n",
        command
    );
    for (what, program, args) in [
        ("Machine", "uname", &["-srm"][..]),
        ("SSH", "ssh", &["-V"]),
        ("PostgreSQL", "psql", &["--version"]),
    ] {
        let _ = writeln!(text, "- {what}: {}", said(program, args));
    }
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let _ = writeln!(text, "- Processors: {cores}, {}", processor());
    let _ = writeln!(text, "- TCP's congestion control: {CONGESTION_CONTROL}");
    let _ = write!(
        text,
        "\n## What was asked\n\nRatios to `ssh -L` (medians), and figures; what is as asked is in bold type. \"direct\" is what forwarding that costs nothing would give.\n\n{}",
        targets::table(all)
    );
    let mut lines: Vec<Line> = Vec::new();
    for measured in all {
        if !lines.contains(&measured.line) {
            lines.push(measured.line);
        }
    }
    for line in lines {
        let _ = writeln!(
            text,
            "\n## {}\n\n| workload | way | median | ratio | with TLS |\n|---|---|---|---|---|",
            line.title()
        );
        for measured in all.iter().filter(|measured| measured.line == line) {
            let Some(median) = measured.median() else {
                continue;
            };
            let ratio = |to| {
                reference(all, measured, to)
                    .filter(|other| *other > 0.0)
                    .map_or(String::new(), |other| format!("{:.2}", median / other))
            };
            let like = match measured.has_tls() {
                true => ratio(TLS_REFERENCE),
                false => String::new(),
            };
            let [least, most] = [measured.samples.first(), measured.samples.last()]
                .map(|sample| sample.copied().unwrap_or_default());
            let _ = writeln!(
                text,
                "| {} | {} | {median:.2} {} ({least:.2}–{most:.2}) | {} | {like} |",
                measured.workload,
                measured.way,
                measured.unit,
                ratio(REFERENCE)
            );
        }
    }
    if let Some(dir) = file.parent() {
        fs::create_dir_all(dir).unwrap();
    }
    fs::write(file, text).unwrap();
    fs::write(file.with_extension("svg"), plot(all)).unwrap();
    println!("{}", file.display());
}

/// What another way gave for the same.
pub(crate) fn reference(all: &[Measured], of: &Measured, way: &str) -> Option<f64> {
    all.iter()
        .find(|other| other.line == of.line && other.workload == of.workload && other.way == way)?
        .median()
}

/// A bar for each workload of the managed way: how many times better than the reference.
fn plot(all: &[Measured]) -> String {
    const ROW: usize = 18;
    let bars: Vec<_> = all
        .iter()
        .filter(|measured| measured.way == "managed")
        .filter_map(|measured| {
            let like = reference(all, measured, TLS_REFERENCE);
            let other = like.or_else(|| reference(all, measured, REFERENCE))?;
            let ratio = measured.median()? / other;
            let gain = match measured.better {
                Better::More => ratio,
                Better::Less => 1.0 / ratio,
            };
            if !gain.is_finite() {
                return None;
            }
            Some((
                format!("{}: {}", measured.line.title(), measured.workload),
                gain,
            ))
        })
        .collect();
    let height = bars.len() * ROW + 40;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"860\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n<text x=\"10\" y=\"18\">Managed session, times better than ssh -L (the line is 1); both with TLS to the database</text>\n"
    );
    for (index, (name, gain)) in bars.iter().enumerate() {
        let y = 30 + index * ROW;
        let width = gain.min(5.0) * 90.0;
        let colour = if *gain >= 1.0 { "#3a7d44" } else { "#b3541e" };
        let _ = writeln!(svg, "<text x=\"10\" y=\"{}\">{name}</text>", y + 11);
        let _ = writeln!(
            svg,
            "<rect x=\"340\" y=\"{y}\" width=\"{width:.1}\" height=\"{}\" fill=\"{colour}\"/>",
            ROW - 4
        );
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{}\">{gain:.2}</text>",
            346.0 + width,
            y + 11
        );
    }
    let _ = writeln!(
        svg,
        "<line x1=\"430\" x2=\"430\" y1=\"26\" y2=\"{height}\" stroke=\"black\" stroke-dasharray=\"3\"/>\n</svg>"
    );
    svg
}

/// The first line that a program says, wherever it says it.
fn said(program: &str, args: &[&str]) -> String {
    let Ok(output) = Command::new(program).args(args).output() else {
        return "?".into();
    };
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text)
        .lines()
        .next()
        .unwrap_or("?")
        .to_owned()
}

fn processor() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = info.lines().find(|line| line.starts_with("model name"));
    line.and_then(|line| line.split(": ").nth(1))
        .unwrap_or("?")
        .to_owned()
}
