//! `top`'s screen: what `list` shows, with rates, over the whole terminal.

use std::{
    collections::HashMap,
    io::{self, IsTerminal as _, Write as _},
    time::Instant,
};

use anstyle::AnsiColor;
use borealis_proto::v1;
use jiff::Timestamp;
use unicode_width::UnicodeWidthStr as _;

use super::{
    Output, Text,
    session::{NARROW, address, narrow_row, note, state_cell},
    table::{self, Cell},
    text,
    time::since,
    words::{counted, health},
};
use crate::failure::Failure;

/// The terminal's other screen, until it is dropped.
pub(crate) struct Top<'a> {
    output: &'a Output,
    before: Option<Sample>,
}

/// Everything at one time.
pub(crate) struct Sample {
    /// When, for rates.
    pub(crate) at: Instant,
    /// The daemon.
    pub(crate) info: v1::GetInfoResponse,
    /// The sessions, ordered by name.
    pub(crate) sessions: Vec<v1::Session>,
}

/// Bytes a second.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Rates {
    sent: f64,
    received: f64,
}

const HEADINGS: [&str; 9] = [
    "NAME",
    "STATE",
    "ADDRESS",
    "CONNS",
    "SENT/S",
    "RECEIVED/S",
    "SENT",
    "RECEIVED",
    "",
];

/// The other screen, without a cursor; and back.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

// === impl Top ===

impl<'a> Top<'a> {
    /// Begins, where standard output is a terminal.
    pub(crate) fn begin(output: &'a Output) -> Option<Self> {
        if !io::stdout().is_terminal() {
            return None;
        }
        output.text(&control(ENTER)).ok()?;
        Some(Self {
            output,
            before: None,
        })
    }

    /// Shows a sample in place of the one before.
    ///
    /// # Errors
    /// When standard output can't be written.
    pub(crate) fn show(&mut self, sample: Sample) -> Result<(), Failure> {
        let size = rustix::termios::tcgetwinsize(io::stdout()).ok();
        let columns = size.map_or(80, |size| usize::from(size.ws_col).max(20));
        let rows = size.map_or(24, |size| usize::from(size.ws_row).max(3));
        let text = self.text(&sample, columns).first_lines(rows - 1);
        // Each line is cleared to its end, so that nothing flickers.
        let mut frame = control("\x1b[H");
        for line in text.lines_apart() {
            frame.append(&line);
            frame.push_control("\x1b[K");
            frame.push("\n");
        }
        frame.push_control("\x1b[J");
        self.before = Some(sample);
        self.output.text(&frame)
    }

    fn text(&self, sample: &Sample, columns: usize) -> Text {
        let now = super::time::now();
        let before = self.before.as_ref();
        let head = headline(&sample.info, now, columns);
        let mut text = Text::lines(text::line(&head)).then("\n\n");
        text.append(&if columns < NARROW {
            let rows: Vec<_> = sample.sessions.iter().map(|s| narrow_row(s, now)).collect();
            let headings = ["PORT", "STATE", "NAME", ""];
            table::columns(&headings, &rows, self.output.results, Some(columns))
        } else {
            let row = |session| row(session, rates(before, sample, session), now);
            let rows: Vec<_> = sample.sessions.iter().map(row).collect();
            table::columns(&HEADINGS, &rows, self.output.results, Some(columns))
        });
        if sample.sessions.is_empty() {
            text.push("no sessions are open\n");
        }
        text
    }
}

impl Drop for Top<'_> {
    fn drop(&mut self) {
        // A terminal that has gone needs no way back.
        let _ = io::stdout().lock().write_all(LEAVE.as_bytes());
        let _ = io::stdout().lock().flush();
    }
}

fn control(sequence: &str) -> Text {
    let mut text = Text::new();
    text.push_control(sequence);
    text
}

/// As many of its parts as fit on one line, the most important first.
fn headline(info: &v1::GetInfoResponse, now: Timestamp, columns: usize) -> String {
    let connections = info.connections.unwrap_or_default();
    let age = since(info.started_at.as_ref(), now).unwrap_or_default();
    let parts = [
        format!("health {}", health(info.health()).unwrap_or("unknown")),
        format!("{} of {} sessions up", info.sessions_up, info.sessions),
        counted(connections.active, "connection", "connections"),
        "q quits".to_owned(),
        format!("borealisd {}, running for {age}", info.version),
    ];
    let mut line = String::new();
    for part in parts {
        let next = match line.as_str() {
            "" => part,
            before => format!("{before} · {part}"),
        };
        if next.width() > columns {
            break;
        }
        line = next;
    }
    line
}

fn row(session: &v1::Session, rates: Option<Rates>, now: Timestamp) -> Vec<Cell> {
    let counts = session.connections.unwrap_or_default();
    let bytes = session.bytes.unwrap_or_default();
    let rate = |value: fn(Rates) -> f64| rates.map_or_else(String::new, |rates| size(value(rates)));
    let note = note(session, now);
    vec![
        Cell::new(&session.name),
        state_cell(session.state()),
        Cell::new(address(session)),
        Cell::new(counts.active.to_string()),
        Cell::new(rate(|rates| rates.sent)),
        Cell::new(rate(|rates| rates.received)),
        Cell::new(size(bytes.sent as f64)),
        Cell::new(size(bytes.received as f64)),
        match session.last_error {
            Some(_) => Cell::coloured(note, AnsiColor::Red),
            None => Cell::new(note),
        },
    ]
}

/// Since the sample before. A session that was opened anew counts from nothing.
fn rates(before: Option<&Sample>, now: &Sample, session: &v1::Session) -> Option<Rates> {
    let before = before?;
    let passed = now.at.duration_since(before.at).as_secs_f64();
    let by_name: HashMap<_, _> = before
        .sessions
        .iter()
        .map(|session| (session.name.as_str(), session.bytes.unwrap_or_default()))
        .collect();
    let then = by_name.get(session.name.as_str())?;
    let bytes = session.bytes.unwrap_or_default();
    let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / passed.max(0.001);
    Some(Rates {
        sent: rate(bytes.sent, then.sent),
        received: rate(bytes.received, then.received),
    })
}

/// `0`, `512`, `1.5k`, `20M`: three digits at most.
fn size(bytes: f64) -> String {
    let mut value = bytes;
    for unit in ["", "k", "M", "G"] {
        if value < 999.5 {
            let digits = usize::from(!unit.is_empty() && value < 9.95);
            return format!("{value:.digits$}{unit}");
        }
        value /= 1024.0;
    }
    format!("{value:.0}T")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn sizes_are_short() {
        for (bytes, text) in [
            (0.0, "0"),
            (999.0, "999"),
            (1000.0, "1.0k"),
            (1536.0, "1.5k"),
            (20.0 * 1024.0 * 1024.0, "20M"),
            (5e15, "4547T"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn the_headline_fits_on_one_line() {
        let info = v1::GetInfoResponse {
            version: "1.2.3".into(),
            sessions: 3,
            sessions_up: 1,
            connections: Some(v1::ConnectionCounts {
                active: 1,
                total: 9,
            }),
            ..v1::GetInfoResponse::default()
        };
        let of = |columns| headline(&info, super::super::time::now(), columns);
        assert_eq!(
            of(100),
            "health unknown · 1 of 3 sessions up · 1 connection · q quits · borealisd 1.2.3, running for "
        );
        assert_eq!(of(40), "health unknown · 1 of 3 sessions up");
    }

    #[test]
    fn rates_are_by_the_second() {
        let session = |sent| v1::Session {
            name: "sushi".into(),
            bytes: Some(v1::ByteCounts { sent, received: 0 }),
            ..v1::Session::default()
        };
        let at = Instant::now();
        let sample = |seconds, sent| Sample {
            at: at + Duration::from_secs(seconds),
            info: v1::GetInfoResponse::default(),
            sessions: vec![session(sent)],
        };
        let (first, second) = (sample(0, 1000), sample(2, 3000));
        let rates = |before, now: &Sample| rates(before, now, &now.sessions[0]);
        assert_eq!(rates(None, &first), None);
        assert_eq!(rates(Some(&first), &second).unwrap().sent, 1000.0);
        assert_eq!(rates(Some(&second), &first).unwrap().sent, 0.0);
    }
}
