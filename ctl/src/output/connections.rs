//! Connections of local clients, with the programs behind them; and what became of those that
//! were to be ended.

use anstyle::AnsiColor;
use borealis_proto::v1;
use jiff::Timestamp;
use serde::Serialize;

use super::{
    Format, Output, Text,
    record::{Record as Flat, Value},
    screen::Listing,
    session::Overlong,
    size::size,
    table::{self, Cell},
    text,
    time::{rfc3339, since},
    words::connection_state,
};
use crate::{
    failure::Failure,
    programs::{Program, Programs},
};

/// Connections and their programs.
pub(crate) struct Connections<'a> {
    connections: &'a [v1::Connection],
    programs: &'a Programs,
}

/// What was asked for connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Done {
    /// That they end.
    Ended,
    /// That what they are running ends.
    Cancelled,
}

/// A connection as the contract has it. Every key is there; what isn't known is null.
#[derive(Debug, Serialize)]
struct Record<'a> {
    id: u64,
    session: &'a str,
    via: Option<&'static str>,
    program: Option<&'a str>,
    pid: Option<u32>,
    command: Option<&'a str>,
    cwd: Option<&'a str>,
    unit: Option<&'a str>,
    container: Option<&'a str>,
    application_name: Option<&'a str>,
    database: Option<&'a str>,
    tls: bool,
    state: Option<&'static str>,
    state_since: Option<String>,
    since: Option<String>,
    backend_pid: Option<u32>,
    bytes: Bytes,
}

#[derive(Debug, Serialize)]
struct Bytes {
    sent: u64,
    received: u64,
}

const KEYS: [&str; 18] = [
    "id",
    "session",
    "via",
    "program",
    "pid",
    "command",
    "cwd",
    "unit",
    "container",
    "application_name",
    "database",
    "tls",
    "state",
    "state_since",
    "since",
    "backend_pid",
    "bytes_sent",
    "bytes_received",
];

const HEADINGS: [&str; 8] = [
    "ID", "SESSION", "PROGRAM", "STATE", "FOR", "SENT", "RECEIVED", "",
];

// === impl Output ===

impl Output {
    /// Prints connections: a table, or the contract's array.
    ///
    /// # Errors
    /// When standard output can't be written.
    pub(crate) fn connections(&self, connections: &Connections<'_>) -> Result<(), Failure> {
        match self.format {
            Format::Table if connections.connections.is_empty() => Ok(()),
            Format::Table => {
                self.text(&connections.table(self, super::terminal_width(), Overlong::Wrap))
            }
            _ => connections.print(self),
        }
    }

    /// Prints what became of connections that were to be ended. Failures are told beside it.
    ///
    /// # Errors
    /// When standard output can't be written.
    pub(crate) fn outcomes(
        &self,
        done: Done,
        outcomes: &[v1::ConnectionOutcome],
    ) -> Result<(), Failure> {
        let record = |outcome: &v1::ConnectionOutcome| {
            let error = outcome.failure.as_ref().map(|failure| &failure.message);
            Flat::new([
                ("id", Value::Number(outcome.id)),
                ("session", (&outcome.session).into()),
                ("done", Value::Bool(outcome.failure.is_none())),
                ("error", error.into()),
            ])
        };
        let records: Vec<_> = outcomes.iter().map(record).collect();
        self.records(&["id", "session", "done", "error"], &records, || {
            let line = |outcome: &v1::ConnectionOutcome| {
                let (id, session) = (outcome.id, text::name(&outcome.session));
                Text::lines(match done {
                    Done::Ended => format!("ended {id} of {session}\n"),
                    Done::Cancelled => format!("cancelled what {id} of {session} was running\n"),
                })
            };
            let done = outcomes.iter().filter(|outcome| outcome.failure.is_none());
            done.map(line).collect()
        })
    }
}

// === impl Connections ===

impl<'a> Connections<'a> {
    pub(crate) fn new(connections: &'a [v1::Connection], programs: &'a Programs) -> Self {
        Self {
            connections,
            programs,
        }
    }

    fn records(&self) -> Vec<Record<'a>> {
        self.connections
            .iter()
            .map(|connection| Record::new(connection, self.programs.of(connection.id)))
            .collect()
    }
}

impl Listing for Connections<'_> {
    fn table(&self, output: &Output, width: Option<usize>, overlong: Overlong) -> Text {
        let now = super::time::now();
        let limit = width.filter(|_| overlong == Overlong::Cut);
        let row = |connection: &v1::Connection| row(connection, self.programs, now);
        let rows: Vec<_> = self.connections.iter().map(row).collect();
        table::columns(&HEADINGS, &rows, output.results, limit)
    }

    fn print(&self, output: &Output) -> Result<(), Failure> {
        let records = self.records();
        if output.format == Format::Csv {
            let flat: Vec<_> = records.iter().map(Record::flat).collect();
            return output.records(&KEYS, &flat, Text::new);
        }
        output.value(&records)
    }

    fn print_line(&self, output: &Output) -> Result<(), Failure> {
        output.json_line(&self.records())
    }
}

// === impl Record ===

impl<'a> Record<'a> {
    fn new(connection: &'a v1::Connection, program: Option<&'a Program>) -> Self {
        fn known(text: &str) -> Option<&str> {
            (!text.is_empty()).then_some(text)
        }
        let of_program = |of: fn(&Program) -> &Option<String>| of(program?).as_deref();
        // The kernel's word stands also where the process has ended since.
        let pid = program.map_or(connection.peer_pid, |program| program.pid);
        let bytes = connection.bytes.unwrap_or_default();
        Self {
            id: connection.id,
            session: &connection.session,
            via: match connection.via() {
                v1::Via::Unspecified => None,
                v1::Via::Tcp => Some("tcp"),
                v1::Via::UnixSocket => Some("unix"),
            },
            program: of_program(|program| &program.name),
            pid: program.is_some().then_some(pid),
            command: of_program(|program| &program.command),
            cwd: of_program(|program| &program.cwd),
            unit: of_program(|program| &program.unit),
            container: of_program(|program| &program.container),
            application_name: known(&connection.application_name),
            database: known(&connection.database),
            tls: connection.tls,
            state: connection_state(connection.state()),
            state_since: rfc3339(connection.state_since.as_ref()),
            since: rfc3339(connection.since.as_ref()),
            backend_pid: (connection.backend_pid != 0).then_some(connection.backend_pid),
            bytes: Bytes {
                sent: bytes.sent,
                received: bytes.received,
            },
        }
    }

    /// The same, flat: nested keys joined by an underscore.
    fn flat(&self) -> Flat {
        let text = |text: Option<&str>| text.map_or(Value::Null, |text| Value::Text(text.into()));
        let number = |number: Option<u64>| number.map_or(Value::Null, Value::Number);
        let values = [
            Value::Number(self.id),
            text(Some(self.session)),
            text(self.via),
            text(self.program),
            number(self.pid.map(u64::from)),
            text(self.command),
            text(self.cwd),
            text(self.unit),
            text(self.container),
            text(self.application_name),
            text(self.database),
            Value::Bool(self.tls),
            text(self.state),
            text(self.state_since.as_deref()),
            text(self.since.as_deref()),
            number(self.backend_pid.map(u64::from)),
            Value::Number(self.bytes.sent),
            Value::Number(self.bytes.received),
        ];
        Flat::new(KEYS.into_iter().zip(values))
    }
}

fn row(connection: &v1::Connection, programs: &Programs, now: Timestamp) -> Vec<Cell> {
    let bytes = connection.bytes.unwrap_or_default();
    let program = programs.of(connection.id);
    vec![
        Cell::new(connection.id.to_string()),
        Cell::new(&connection.session),
        Cell::new(called(connection, program)),
        state_cell(connection.state()),
        Cell::new(since(connection.state_since.as_ref(), now).unwrap_or_default()),
        Cell::new(size(bytes.sent)),
        Cell::new(size(bytes.received)),
        Cell::new(note(connection, program)),
    ]
}

/// `psql (4211)`; what the client calls itself, where its program can't be known.
pub(crate) fn called(connection: &v1::Connection, program: Option<&Program>) -> String {
    match program {
        Some(Program { name, pid, .. }) => {
            format!("{} ({pid})", name.as_deref().unwrap_or("?"))
        }
        None if connection.application_name.is_empty() => "?".to_owned(),
        None => format!("? {}", connection.application_name),
    }
}

/// For what it waits, else where its program is.
fn note(connection: &v1::Connection, program: Option<&Program>) -> String {
    if !connection.held_for.is_empty() {
        return connection.held_for.clone();
    }
    let Some(program) = program else {
        return String::new();
    };
    let container = program
        .container
        .as_ref()
        .map(|id| format!("container {id}"));
    let place = container.or(program.unit.clone());
    place
        .into_iter()
        .chain(program.cwd.clone())
        .collect::<Vec<_>>()
        .join(", ")
}

/// A transaction that is open while nothing is done stands out: it holds locks.
pub(crate) fn state_colour(state: v1::ConnectionState) -> Option<AnsiColor> {
    use v1::ConnectionState as S;
    match state {
        S::Active => Some(AnsiColor::Green),
        S::IdleInTransaction | S::Held => Some(AnsiColor::Yellow),
        S::IdleInTransactionAborted => Some(AnsiColor::Red),
        S::Unspecified | S::LoggingIn | S::Idle | S::Passthrough => None,
    }
}

fn state_cell(state: v1::ConnectionState) -> Cell {
    let word = connection_state(state).unwrap_or("?");
    match state_colour(state) {
        Some(colour) => Cell::coloured(word, colour),
        None => Cell::new(word),
    }
}
