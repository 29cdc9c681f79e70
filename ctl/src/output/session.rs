//! Sessions: the contract's object for programs, how to connect for people.

use std::path::Path;

use anstyle::AnsiColor;
use borealis_proto::v1;
use jiff::Timestamp;
use serde::Serialize;

use super::{
    Format, Output, Text, csv, quote,
    table::{self, Cell},
    text,
    time::{rfc3339, since, until},
    words::{access, mode, role, state},
};
use crate::{
    client::{Opened, Reveal},
    failure::Failure,
    libpq,
};

/// The service file's name, which libpq demands where it looks by itself.
const SERVICE_FILE: &str = "pg_service.conf";

/// How much is shown of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum View {
    /// How to connect. Programs get the secrets with it.
    Connect,
    /// Everything.
    Full,
}

/// What becomes of a line that is wider than the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overlong {
    /// The terminal wraps it: nothing is lost.
    Wrap,
    /// It is cut, so that it can be painted over.
    Cut,
}

/// A session as the contract has it. Every key is there; what isn't known is null.
#[derive(Debug, Serialize)]
struct Record<'a> {
    name: &'a str,
    app: Option<&'a str>,
    addon: Option<&'a str>,
    attachment: Option<&'a str>,
    role: Option<&'static str>,
    access: Option<&'static str>,
    mode: Option<&'static str>,
    state: Option<&'static str>,
    since: Option<String>,
    host: Option<&'a str>,
    port: Option<u32>,
    socket_dir: Option<&'a str>,
    database: Option<&'a str>,
    user: Option<&'a str>,
    connections: Connections,
    bytes: Bytes,
    credential: Option<Credential>,
    expires_at: Option<String>,
    next_attempt_at: Option<String>,
    last_error: Option<&'a str>,
    #[serde(flatten)]
    secrets: Option<Secrets<'a>>,
}

#[derive(Debug, Serialize)]
struct Connections {
    active: u64,
    total: u64,
}

#[derive(Debug, Serialize)]
struct Bytes {
    sent: u64,
    received: u64,
}

#[derive(Debug, Serialize)]
struct Credential {
    generation: u64,
    issued_at: Option<String>,
    rotates_at: Option<String>,
}

#[derive(Debug, Serialize)]
struct Secrets<'a> {
    password: Option<&'a str>,
    url: Option<&'a str>,
}

// === impl Output ===

impl Output {
    /// Prints one session. People see its password only where they ask for it: they are
    /// looked over the shoulder, and terminals keep what they showed.
    ///
    /// # Errors
    /// When standard output can't be written.
    pub(crate) fn session(
        &self,
        opened: &Opened,
        view: View,
        reveal: Reveal,
    ) -> Result<(), Failure> {
        let with_secrets = view == View::Connect || reveal == Reveal::Secrets;
        let secrets = with_secrets.then_some(&opened.secrets);
        match self.format {
            Format::Table => self.text(&self.for_people(opened, view, reveal)),
            Format::Csv => self.data(&csv_of(
                [Record::new(&opened.session, secrets)],
                secrets.is_some(),
            )),
            Format::Json | Format::Yaml => self.value(&Record::new(&opened.session, secrets)),
        }
    }

    /// Prints how to connect to each of several sessions.
    ///
    /// # Errors
    /// When standard output can't be written.
    pub(crate) fn opened(&self, all: &[Opened]) -> Result<(), Failure> {
        let records = || {
            all.iter()
                .map(|opened| Record::new(&opened.session, Some(&opened.secrets)))
        };
        match self.format {
            Format::Table => {
                let mut text = Text::new();
                for opened in all {
                    if !text.as_str().is_empty() {
                        text.push("\n");
                    }
                    text.append(&self.for_people(opened, View::Connect, Reveal::Nothing));
                }
                self.text(&text)
            }
            Format::Csv => self.data(&csv_of(records(), true)),
            Format::Json | Format::Yaml => self.value(&records().collect::<Vec<_>>()),
        }
    }

    /// Prints one session; to people in the reference tool's six lines, which scripts read.
    ///
    /// # Errors
    /// When standard output can't be written.
    pub(crate) fn tunnel(&self, opened: &Opened) -> Result<(), Failure> {
        if self.format != Format::Table {
            return self.session(opened, View::Connect, Reveal::Secrets);
        }
        let session = &opened.session;
        let lines = [
            ("Username", session.user.clone()),
            ("Password", opened.secrets.password.clone()),
            ("Host", session.host.clone()),
            ("Port", session.port.to_string()),
            ("Database name", session.database.clone()),
            ("URL", opened.secrets.url.clone()),
        ];
        let lines = lines.map(|(label, value)| format!("{label:>14}: {}\n", text::line(&value)));
        self.text(&Text::lines(lines.concat()))
    }

    /// Prints sessions: a table, or the contract's array.
    ///
    /// # Errors
    /// When standard output can't be written.
    pub(crate) fn sessions(&self, sessions: &[v1::Session]) -> Result<(), Failure> {
        match self.format {
            Format::Table if sessions.is_empty() => Ok(()),
            Format::Table => {
                let width = super::terminal_width();
                self.text(&self.session_table(sessions, width, Overlong::Wrap))
            }
            Format::Csv => self.data(&csv_of(records(sessions), false)),
            Format::Json | Format::Yaml => self.value(&records(sessions).collect::<Vec<_>>()),
        }
    }

    /// Sessions as one line of JSON, for a reader that gets many.
    ///
    /// # Errors
    /// When standard output can't be written.
    pub(crate) fn sessions_on_a_line(&self, sessions: &[v1::Session]) -> Result<(), Failure> {
        self.json_line(&records(sessions).collect::<Vec<_>>())
    }

    /// The table of `list` for a terminal of `width` columns. A narrow one gets what is
    /// needed to connect, the port before all.
    pub(crate) fn session_table(
        &self,
        sessions: &[v1::Session],
        width: Option<usize>,
        overlong: Overlong,
    ) -> Text {
        let now = super::time::now();
        let limit = width.filter(|_| overlong == Overlong::Cut);
        if width.is_some_and(|width| width < NARROW) {
            let rows: Vec<_> = sessions.iter().map(|s| narrow_row(s, now)).collect();
            return table::columns(&["PORT", "STATE", "NAME", ""], &rows, self.results, limit);
        }
        let rows: Vec<_> = sessions.iter().map(|session| row(session, now)).collect();
        table::columns(
            &["NAME", "STATE", "ACCESS", "ADDRESS", "CONNS", "SINCE", ""],
            &rows,
            self.results,
            limit,
        )
    }

    fn for_people(&self, opened: &Opened, view: View, reveal: Reveal) -> Text {
        let mut text = Text::lines(headline(&opened.session)).then("\n\n");
        text.append(&table::labelled(
            &connect_lines(opened, reveal),
            self.results,
        ));
        if view != View::Connect {
            text.push("\n");
            let lines = detail_lines(&opened.session, super::time::now());
            text.append(&table::labelled(&lines, self.results));
        }
        text
    }
}

// === impl Record ===

impl<'a> Record<'a> {
    fn new(session: &'a v1::Session, secrets: Option<&'a v1::Secrets>) -> Self {
        let connections = session.connections.unwrap_or_default();
        let bytes = session.bytes.unwrap_or_default();
        Self {
            name: &session.name,
            app: known(&session.app),
            addon: known(&session.addon),
            attachment: known(&session.attachment),
            role: role(session.role()),
            access: access(session.access()),
            mode: mode(session.mode()),
            state: state(session.state()),
            since: rfc3339(session.since.as_ref()),
            host: known(&session.host),
            port: (session.port != 0).then_some(session.port),
            socket_dir: known(&session.socket_dir),
            database: known(&session.database),
            user: known(&session.user),
            connections: Connections {
                active: connections.active,
                total: connections.total,
            },
            bytes: Bytes {
                sent: bytes.sent,
                received: bytes.received,
            },
            credential: session.credential.as_ref().map(|credential| Credential {
                generation: credential.generation,
                issued_at: rfc3339(credential.issued_at.as_ref()),
                rotates_at: rfc3339(credential.rotates_at.as_ref()),
            }),
            expires_at: rfc3339(session.expires_at.as_ref()),
            next_attempt_at: rfc3339(session.next_attempt_at.as_ref()),
            last_error: session
                .last_error
                .as_ref()
                .map(|failure| failure.message.as_str()),
            secrets: secrets.map(|secrets| Secrets {
                password: known(&secrets.password),
                url: known(&secrets.url),
            }),
        }
    }

    /// The same, flat: nested keys joined by an underscore.
    fn fields(&self) -> Vec<(&'static str, Option<String>)> {
        let text = |value: Option<&str>| value.map(str::to_owned);
        let credential = self.credential.as_ref();
        let mut fields = vec![
            ("name", text(Some(self.name))),
            ("app", text(self.app)),
            ("addon", text(self.addon)),
            ("attachment", text(self.attachment)),
            ("role", text(self.role)),
            ("access", text(self.access)),
            ("mode", text(self.mode)),
            ("state", text(self.state)),
            ("since", self.since.clone()),
            ("host", text(self.host)),
            ("port", self.port.map(|port| port.to_string())),
            ("socket_dir", text(self.socket_dir)),
            ("database", text(self.database)),
            ("user", text(self.user)),
            (
                "connections_active",
                Some(self.connections.active.to_string()),
            ),
            (
                "connections_total",
                Some(self.connections.total.to_string()),
            ),
            ("bytes_sent", Some(self.bytes.sent.to_string())),
            ("bytes_received", Some(self.bytes.received.to_string())),
            (
                "credential_generation",
                credential.map(|c| c.generation.to_string()),
            ),
            (
                "credential_issued_at",
                credential.and_then(|c| c.issued_at.clone()),
            ),
            (
                "credential_rotates_at",
                credential.and_then(|c| c.rotates_at.clone()),
            ),
            ("expires_at", self.expires_at.clone()),
            ("next_attempt_at", self.next_attempt_at.clone()),
            ("last_error", text(self.last_error)),
        ];
        if let Some(secrets) = &self.secrets {
            fields.push(("password", text(secrets.password)));
            fields.push(("url", text(secrets.url)));
        }
        fields
    }
}

fn records(sessions: &[v1::Session]) -> impl Iterator<Item = Record<'_>> {
    sessions.iter().map(|session| Record::new(session, None))
}

fn csv_of<'a>(records: impl IntoIterator<Item = Record<'a>>, with_secrets: bool) -> Vec<u8> {
    let nothing = (v1::Session::default(), v1::Secrets::default());
    let heading = Record::new(&nothing.0, with_secrets.then_some(&nothing.1)).fields();
    let mut out = Vec::new();
    // Writing to memory can't fail.
    let _ = csv::line(
        &mut out,
        heading.iter().map(|(key, _)| Some(key.as_bytes())),
    );
    for record in records {
        let fields = record.fields();
        let values = fields
            .iter()
            .map(|(_, value)| value.as_deref().map(str::as_bytes));
        let _ = csv::line(&mut out, values);
    }
    out
}

// --- for people ---

/// Terminals with fewer columns get fewer columns.
pub(super) const NARROW: usize = 72;

/// The port and the state fit in any terminal that is used at all.
pub(super) fn narrow_row(session: &v1::Session, now: Timestamp) -> Vec<Cell> {
    vec![
        Cell::new(session.port.to_string()),
        state_cell(session.state()),
        Cell::new(&session.name),
        Cell::new(note(session, now)),
    ]
}

fn row(session: &v1::Session, now: Timestamp) -> Vec<Cell> {
    let counts = session.connections.unwrap_or_default();
    let note = note(session, now);
    vec![
        Cell::new(&session.name),
        state_cell(session.state()),
        Cell::new(access(session.access()).unwrap_or("?")),
        Cell::new(address(session)),
        Cell::new(counts.active.to_string()),
        Cell::new(since(session.since.as_ref(), now).unwrap_or_default()),
        Cell::new(note),
    ]
}

/// What there is to say beside its state.
pub(super) fn note(session: &v1::Session, now: Timestamp) -> String {
    let trouble = match &session.last_error {
        Some(error) if session.state() != v1::State::Up => Some(error.message.clone()),
        _ if !session.step.is_empty() => Some(session.step.clone()),
        _ => None,
    };
    // The time left comes first: it matters most where nothing can be done in it.
    let left = until(session.expires_at.as_ref(), now).map(|left| format!("closes in {left}"));
    left.into_iter()
        .chain(trouble)
        .collect::<Vec<_>>()
        .join("; ")
}

pub(super) fn state_cell(value: v1::State) -> Cell {
    let colour = match value {
        v1::State::Up => AnsiColor::Green,
        v1::State::Failed => AnsiColor::Red,
        _ => AnsiColor::Yellow,
    };
    Cell::coloured(state(value).unwrap_or("?"), colour)
}

/// `sushi is up: read-only, as your database user, on borealis-pg-hex-12345 of app sushi`
fn headline(session: &v1::Session) -> String {
    let state = state(session.state()).unwrap_or("in a state that this borealisctl doesn't know");
    let access = access(session.access()).unwrap_or("unknown access");
    let whose = match session.role() {
        v1::Role::App => "the app's",
        _ => "your",
    };
    format!(
        "{} is {state}: {access}, as {whose} database user, on\n{} of app {}",
        text::name(&session.name),
        text::name(&session.addon),
        text::name(&session.app)
    )
}

fn connect_lines(opened: &Opened, reveal: Reveal) -> Vec<(&'static str, Cell)> {
    let session = &opened.session;
    let secrets = &opened.secrets;
    let pending = "(not known until it has been up)";
    let or_pending = |text: &str| Cell::new(if text.is_empty() { pending } else { text });
    let (password, url) = match reveal {
        Reveal::Secrets => (secrets.password.clone(), secrets.url.clone()),
        Reveal::Nothing => (
            "******** (--reveal shows it)".to_owned(),
            masked_url(session),
        ),
    };
    let mut lines = Vec::new();
    // Nobody else can listen there, and there is no password to steal: so it comes first.
    // Clients of a passthrough session need the database's password on the socket too.
    if session.mode() == v1::Mode::Managed && !session.socket_dir.is_empty() {
        let psql = format!("borealisctl psql {}", session.name);
        lines.push(("psql", Cell::new(psql)));
        lines.push(("Socket", or_pending(&libpq::socket_url(session))));
    }
    if let Some(service) = service_line(session) {
        lines.push(("Service", Cell::new(service)));
    }
    lines.extend([
        ("Host", Cell::new(&session.host)),
        ("Port", Cell::new(session.port.to_string())),
        ("Database", or_pending(&session.database)),
        ("User", or_pending(&session.user)),
        ("Password", or_pending(&password)),
        ("URL", or_pending(&url)),
    ]);
    lines
}

/// The directory of the service file, which the daemon keeps beside the sessions' sockets.
fn service_dir(session: &v1::Session) -> Option<&Path> {
    let dir = Path::new(&session.socket_dir).parent()?.parent()?;
    dir.join(SERVICE_FILE).exists().then_some(dir)
}

/// The use of the service file.
fn service_line(session: &v1::Session) -> Option<String> {
    service_dir(session).map(|dir| {
        let file = dir.join(SERVICE_FILE);
        format!(
            "PGSERVICEFILE={} psql service={}",
            quote::sh(&file.to_string_lossy()),
            session.name
        )
    })
}

/// How every libpq program knows the sessions by their names from then on. A service file
/// can't include another one, and PGSERVICEFILE would hide the user's own; the directory of
/// the system-wide file, which libpq looks into where the user's own has no such service, is
/// free on most machines (libpq's manual, "The Connection Service File").
fn service_for_good(session: &v1::Session) -> Option<String> {
    service_dir(session).map(|dir| {
        format!(
            "with `export PGSYSCONFDIR={}` in ~/.profile, `psql service={}` will do everywhere",
            quote::sh(&dir.to_string_lossy()),
            session.name
        )
    })
}

fn detail_lines(session: &v1::Session, now: Timestamp) -> Vec<(&'static str, Cell)> {
    let counts = session.connections.unwrap_or_default();
    let bytes = session.bytes.unwrap_or_default();
    let stamp = |time: Option<&prost_types::Timestamp>| rfc3339(time).unwrap_or_default();
    let mut lines = vec![("State", state_cell(session.state()))];
    if let Some(age) = since(session.since.as_ref(), now) {
        lines.push((
            "Since",
            Cell::new(format!("{} ({age} ago)", stamp(session.since.as_ref()))),
        ));
    }
    if !session.step.is_empty() {
        lines.push(("Step", Cell::new(&session.step)));
    }
    if let Some(error) = &session.last_error {
        lines.push(("Last error", Cell::coloured(&error.message, AnsiColor::Red)));
        if !error.hint.is_empty() {
            lines.push(("Hint", Cell::new(&error.hint)));
        }
    }
    if !session.attachment.is_empty() {
        lines.push(("Attachment", Cell::new(&session.attachment)));
    }
    lines.push(("Mode", Cell::new(mode(session.mode()).unwrap_or("?"))));
    let ready = match session.warm_connections {
        0 => String::new(),
        ready => format!(", {ready} kept ready"),
    };
    lines.push((
        "Connections",
        Cell::new(format!(
            "{} now, {} in all{ready}",
            counts.active, counts.total
        )),
    ));
    lines.push((
        "Bytes",
        Cell::new(format!("{} sent, {} received", bytes.sent, bytes.received)),
    ));
    if let Some(credential) = &session.credential {
        let issued = since(credential.issued_at.as_ref(), now)
            .map_or_else(String::new, |age| format!(", issued {age} ago"));
        // Renewals are spread, so that those of many machines don't come at once.
        let rotates = until(credential.rotates_at.as_ref(), now)
            .map_or_else(String::new, |left| format!(", rotates in {left} (spread)"));
        let text = format!("generation {}{issued}{rotates}", credential.generation);
        lines.push(("Credential", Cell::new(text)));
    }
    let ends = match (until(session.expires_at.as_ref(), now), session.transient) {
        (Some(left), _) => format!("in {left} ({})", stamp(session.expires_at.as_ref())),
        (None, true) => "with the command that uses it".to_owned(),
        (None, false) if session.declared => "never: it is in config.toml".to_owned(),
        (None, false) => "when you close it".to_owned(),
    };
    lines.push(("Closes", Cell::new(ends)));
    if let Some(service) = service_for_good(session) {
        lines.push(("For good", Cell::new(service)));
    }
    if !session.ca_file.is_empty() {
        let file = quote::sh(&session.ca_file);
        let text = format!("{file}, for sslmode=verify-full with sslrootcert={file}");
        lines.push(("CA file", Cell::new(text)));
    }
    lines
}

fn masked_url(session: &v1::Session) -> String {
    if session.database.is_empty() {
        return String::new();
    }
    format!(
        "postgresql://{}:********@{}/{}",
        libpq::encoded(&session.user),
        address(session),
        libpq::encoded(&session.database)
    )
}

pub(super) fn address(session: &v1::Session) -> String {
    if session.host.contains(':') {
        format!("[{}]:{}", session.host, session.port)
    } else {
        format!("{}:{}", session.host, session.port)
    }
}

fn known(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Global;

    #[test]
    fn a_narrow_terminal_shows_the_port_whatever_the_name() {
        let output = Output::new(&Global {
            socket: None,
            format: Format::Table,
            no_color: true,
            quiet: false,
        });
        let session = v1::Session {
            name: "a-long-name-of-an-app.borealis_pg_maroon-rw".into(),
            state: v1::State::Reconnecting.into(),
            host: "127.0.0.1".into(),
            port: 15432,
            ..v1::Session::default()
        };
        let shown = |width, overlong| {
            let table = output.session_table(std::slice::from_ref(&session), width, overlong);
            table.as_str().to_owned()
        };
        let cut = shown(Some(40), Overlong::Cut);
        assert!(cut.lines().all(|line| line.chars().count() <= 40), "{cut}");
        assert!(
            cut.lines()
                .nth(1)
                .unwrap()
                .starts_with("15432  reconnecting  a-long"),
            "{cut}"
        );
        // What the terminal wraps is whole.
        assert!(shown(Some(40), Overlong::Wrap).contains(&session.name));
        assert!(shown(None, Overlong::Wrap).contains("127.0.0.1:15432"));
    }
}
