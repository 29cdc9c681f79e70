//! The daemon: how it is, and what a reload changed.

use anstyle::AnsiColor;
use borealis_proto::v1;
use serde::Serialize;

use super::{
    Format, Output, Text, csv,
    table::{self, Cell},
    text,
    time::{rfc3339, since},
    words::health,
};
use crate::failure::Failure;

#[derive(Debug, Serialize)]
struct Info<'a> {
    health: Option<&'static str>,
    reasons: Vec<Reason<'a>>,
    version: &'a str,
    api_version: &'a str,
    pid: u32,
    started_at: Option<String>,
    sessions: Sessions,
    connections: Connections,
    token_source: Option<&'a str>,
    socket: &'a str,
    config_file: &'a str,
    state_dir: &'a str,
    runtime_dir: &'a str,
    log: &'a str,
}

#[derive(Debug, Serialize)]
struct Reason<'a> {
    code: &'a str,
    message: &'a str,
    hint: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct Sessions {
    total: u32,
    up: u32,
}

#[derive(Debug, Serialize)]
struct Connections {
    active: u64,
    total: u64,
}

#[derive(Debug, Serialize)]
struct Changes<'a> {
    opened: &'a [String],
    closed: &'a [String],
    changed: &'a [String],
    later: &'a [String],
}

// === impl Output ===

impl Output {
    /// Prints how the daemon is. `who` is what Heroku says to a token that the daemon itself
    /// isn't sure of, `log` where the log is.
    ///
    /// # Errors
    /// When standard output can't be written.
    pub(crate) fn info(
        &self,
        info: &v1::GetInfoResponse,
        who: Option<&v1::WhoAmIResponse>,
        log: &str,
    ) -> Result<(), Failure> {
        match self.format {
            Format::Table => {
                let mut lines = info_lines(info);
                lines.push(("Token", Cell::new(token(info, who))));
                lines.extend(places(info, log));
                self.text(&table::labelled(&lines, self.results))
            }
            Format::Csv => self.data(&info_csv(info, log)),
            Format::Json | Format::Yaml => self.value(&record(info, log)),
        }
    }

    /// Prints what a reload changed.
    ///
    /// # Errors
    /// When standard output can't be written.
    pub(crate) fn changes(&self, changes: &v1::ReloadResponse) -> Result<(), Failure> {
        let groups = [
            ("opened", &changes.opened),
            ("closed", &changes.closed),
            ("changed", &changes.changed),
        ];
        let pairs = groups
            .iter()
            .flat_map(|(what, names)| names.iter().map(move |name| (*what, name.as_str())));
        match self.format {
            Format::Table => {
                let mut lines: String = pairs
                    .map(|(what, name)| format!("{what} {}\n", text::name(name)))
                    .collect();
                if lines.is_empty() {
                    lines.push_str("reloaded: no session changed\n");
                }
                self.text(&Text::lines(lines))
            }
            Format::Csv => self.pairs(["change", "name"], pairs),
            Format::Json | Format::Yaml => self.value(&Changes {
                opened: &changes.opened,
                closed: &changes.closed,
                changed: &changes.changed,
                later: &changes.later,
            }),
        }
    }

    /// Prints names and values as two columns of CSV.
    ///
    /// # Errors
    /// When standard output can't be written.
    pub(crate) fn pairs<'a>(
        &self,
        headings: [&str; 2],
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<(), Failure> {
        self.data(&pairs_csv(headings, pairs))
    }
}

impl<'a> Reason<'a> {
    fn of(failure: &'a v1::Failure) -> Self {
        Self {
            code: &failure.code,
            message: &failure.message,
            hint: (!failure.hint.is_empty()).then_some(&failure.hint),
        }
    }
}

fn record<'a>(info: &'a v1::GetInfoResponse, log: &'a str) -> Info<'a> {
    let connections = info.connections.unwrap_or_default();
    Info {
        health: health(info.health()),
        reasons: info.reasons.iter().map(Reason::of).collect(),
        version: &info.version,
        api_version: &info.api_version,
        pid: info.pid,
        started_at: rfc3339(info.started_at.as_ref()),
        sessions: Sessions {
            total: info.sessions,
            up: info.sessions_up,
        },
        connections: Connections {
            active: connections.active,
            total: connections.total,
        },
        token_source: (!info.token_source.is_empty()).then_some(&info.token_source),
        socket: &info.socket,
        config_file: &info.config_file,
        state_dir: &info.state_dir,
        runtime_dir: &info.runtime_dir,
        log,
    }
}

fn info_lines(info: &v1::GetInfoResponse) -> Vec<(&'static str, Cell)> {
    let colour = match info.health() {
        v1::Health::Ok => AnsiColor::Green,
        v1::Health::Failing => AnsiColor::Red,
        _ => AnsiColor::Yellow,
    };
    let mut lines = vec![(
        "Health",
        Cell::coloured(health(info.health()).unwrap_or("unknown"), colour),
    )];
    for reason in &info.reasons {
        lines.push(("", Cell::new(&reason.message)));
        if !reason.hint.is_empty() {
            lines.push(("", Cell::new(format!("hint: {}", reason.hint))));
        }
    }
    let connections = info.connections.unwrap_or_default();
    let age = since(info.started_at.as_ref(), super::time::now())
        .map_or_else(String::new, |age| format!(", running for {age}"));
    lines.extend([
        (
            "Daemon",
            Cell::new(format!(
                "borealisd {} (pid {}{age})",
                info.version, info.pid
            )),
        ),
        ("API", Cell::new(&info.api_version)),
        (
            "Sessions",
            Cell::new(format!("{} of {} up", info.sessions_up, info.sessions)),
        ),
        (
            "Connections",
            Cell::new(format!(
                "{} now, {} in all",
                connections.active, connections.total
            )),
        ),
    ]);
    lines
}

/// What is true of the token at this moment.
fn token(info: &v1::GetInfoResponse, who: Option<&v1::WhoAmIResponse>) -> String {
    if !info.token_source.is_empty() {
        return format!("from {}", info.token_source);
    }
    let Some(who) = who else {
        return "not known: Heroku does not answer; see `borealisctl whoami`".to_owned();
    };
    let used = |place: &&v1::TokenPlace| place.state() == v1::TokenPlaceState::Used;
    match (who.places.iter().find(used), &who.failure) {
        (Some(place), Some(_)) => format!("from {}, which does not work", place.place),
        (Some(place), None) => format!("from {}", place.place),
        (None, _) => "none; `borealisctl login` asks for one".to_owned(),
    }
}

fn places(info: &v1::GetInfoResponse, log: &str) -> [(&'static str, Cell); 5] {
    [
        ("Socket", Cell::new(&info.socket)),
        ("Config", Cell::new(&info.config_file)),
        ("State", Cell::new(&info.state_dir)),
        ("Runtime", Cell::new(&info.runtime_dir)),
        ("Log", Cell::new(log)),
    ]
}

fn info_csv(info: &v1::GetInfoResponse, log: &str) -> Vec<u8> {
    let record = record(info, log);
    let reasons: Vec<_> = record.reasons.iter().map(|reason| reason.message).collect();
    let (pid, reasons) = (record.pid.to_string(), reasons.join("; "));
    let (total, up) = (
        record.sessions.total.to_string(),
        record.sessions.up.to_string(),
    );
    let active = record.connections.active.to_string();
    let all = record.connections.total.to_string();
    pairs_csv(
        ["key", "value"],
        [
            ("health", record.health.unwrap_or_default()),
            ("reasons", reasons.as_str()),
            ("version", record.version),
            ("api_version", record.api_version),
            ("pid", &pid),
            (
                "started_at",
                record.started_at.as_deref().unwrap_or_default(),
            ),
            ("sessions_total", &total),
            ("sessions_up", &up),
            ("connections_active", &active),
            ("connections_total", &all),
            ("token_source", record.token_source.unwrap_or_default()),
            ("socket", record.socket),
            ("config_file", record.config_file),
            ("state_dir", record.state_dir),
            ("runtime_dir", record.runtime_dir),
            ("log", record.log),
        ],
    )
}

fn pairs_csv<'a>(
    headings: [&str; 2],
    pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Vec<u8> {
    let mut out = Vec::new();
    // Writing to memory can't fail.
    let _ = csv::line(&mut out, headings.iter().map(|text| Some(text.as_bytes())));
    for (key, value) in pairs {
        let _ = csv::line(&mut out, [Some(key.as_bytes()), Some(value.as_bytes())]);
    }
    out
}
