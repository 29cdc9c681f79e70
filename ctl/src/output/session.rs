//! Sessions: the contract's object for programs, how to connect for people.

use std::path::Path;

use anstyle::AnsiColor;
use borealis_proto::v1;
use jiff::Timestamp;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;

use super::{
    Output, csv, quote,
    table::{self, Cell},
    time::{rfc3339, since, until},
};
use crate::{args::Format, client::Opened, failure::Failure};

/// The service file's name, which libpq demands where it looks by itself.
const SERVICE_FILE: &str = "pg_service.conf";

/// What is shown of a session to a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum View {
    /// How to connect, secrets included.
    Connect,
    /// Everything but the secrets.
    Full,
    /// Everything.
    Revealed,
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
    /// Prints one session.
    ///
    /// # Errors
    /// When standard output can't be written.
    pub(crate) fn session(&self, opened: &Opened, view: View) -> Result<(), Failure> {
        let secrets = (view != View::Full).then_some(&opened.secrets);
        match self.format {
            Format::Table => self.text(&self.for_people(opened, view)),
            Format::Csv => self.text(&csv_of(
                [Record::new(&opened.session, secrets)],
                secrets.is_some(),
            )),
            Format::Json | Format::Yaml => self.value(&Record::new(&opened.session, secrets)),
        }
    }

    /// Prints one session; to people in the reference tool's six lines, which scripts read.
    ///
    /// # Errors
    /// When standard output can't be written.
    pub(crate) fn tunnel(&self, opened: &Opened) -> Result<(), Failure> {
        if self.format != Format::Table {
            return self.session(opened, View::Connect);
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
        let lines = lines.map(|(label, value)| format!("{label:>14}: {value}\n"));
        self.text(&lines.concat())
    }

    /// Prints sessions: a table, or the contract's array.
    ///
    /// # Errors
    /// When standard output can't be written.
    pub(crate) fn sessions(&self, sessions: &[v1::Session]) -> Result<(), Failure> {
        match self.format {
            Format::Table if sessions.is_empty() => Ok(()),
            Format::Table => self.text(&self.session_table(sessions, None)),
            Format::Csv => self.text(&csv_of(records(sessions), false)),
            Format::Json | Format::Yaml => self.value(&records(sessions).collect::<Vec<_>>()),
        }
    }

    /// Sessions as one line of JSON, for a reader that gets many.
    ///
    /// # Errors
    /// When standard output can't be written.
    pub(crate) fn sessions_on_a_line(&self, sessions: &[v1::Session]) -> Result<(), Failure> {
        let records: Vec<_> = records(sessions).collect();
        let line = serde_json::to_string(&records)
            .map_err(|error| Failure::failed(format!("can't print the sessions: {error}")))?;
        self.text(&format!("{line}\n"))
    }

    /// The table of `list`, lines cut at `width` columns.
    pub(crate) fn session_table(&self, sessions: &[v1::Session], width: Option<usize>) -> String {
        let now = Timestamp::now();
        let rows: Vec<_> = sessions.iter().map(|session| row(session, now)).collect();
        table::columns(
            &["NAME", "STATE", "ACCESS", "ADDRESS", "CONNS", "SINCE", ""],
            &rows,
            self.results,
            width,
        )
    }

    fn for_people(&self, opened: &Opened, view: View) -> String {
        let mut text = headline(&opened.session);
        text.push_str("\n\n");
        text.push_str(&table::labelled(&connect_lines(opened, view), self.results));
        if view != View::Connect {
            text.push('\n');
            let lines = detail_lines(&opened.session, Timestamp::now());
            text.push_str(&table::labelled(&lines, self.results));
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

fn csv_of<'a>(records: impl IntoIterator<Item = Record<'a>>, with_secrets: bool) -> String {
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
    String::from_utf8_lossy(&out).into_owned()
}

// --- for people ---

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
        session.name, session.addon, session.app
    )
}

fn connect_lines(opened: &Opened, view: View) -> Vec<(&'static str, Cell)> {
    let session = &opened.session;
    let secrets = &opened.secrets;
    let pending = "(not known until it has been up)";
    let or_pending = |text: &str| Cell::new(if text.is_empty() { pending } else { text });
    let masked = view == View::Full;
    let (password, url) = if masked {
        let hidden = "******** (--reveal shows it)".to_owned();
        (hidden, masked_url(session))
    } else {
        (secrets.password.clone(), secrets.url.clone())
    };
    let mut lines = vec![
        ("Host", Cell::new(&session.host)),
        ("Port", Cell::new(session.port.to_string())),
        ("Database", or_pending(&session.database)),
        ("User", or_pending(&session.user)),
        ("Password", or_pending(&password)),
        ("URL", or_pending(&url)),
    ];
    // Passthrough clients need the password on the Unix socket too.
    if session.mode() == v1::Mode::Managed && !session.socket_dir.is_empty() {
        let psql = format!("psql -h {}", quote::sh(&session.socket_dir));
        lines.push(("psql", Cell::new(psql)));
    }
    if let Some(service) = service_line(session) {
        lines.push(("service", Cell::new(service)));
    }
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
        let rotates = until(credential.rotates_at.as_ref(), now)
            .map_or_else(String::new, |left| format!(", rotates in {left}"));
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
        lines.push(("Service", Cell::new(service)));
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
    let encoded = |text| utf8_percent_encode(text, NON_ALPHANUMERIC_BUT_UNRESERVED);
    format!(
        "postgres://{}:********@{}/{}",
        encoded(&session.user),
        address(session),
        encoded(&session.database)
    )
}

/// RFC 3986's unreserved characters need no encoding.
const NON_ALPHANUMERIC_BUT_UNRESERVED: &percent_encoding::AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

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

// --- the contract's words ---

fn role(value: v1::Role) -> Option<&'static str> {
    match value {
        v1::Role::Unspecified => None,
        v1::Role::Personal => Some("personal"),
        v1::Role::App => Some("app"),
    }
}

fn access(value: v1::Access) -> Option<&'static str> {
    match value {
        v1::Access::Unspecified => None,
        v1::Access::ReadOnly => Some("read-only"),
        v1::Access::ReadWrite => Some("read-write"),
    }
}

fn mode(value: v1::Mode) -> Option<&'static str> {
    match value {
        v1::Mode::Unspecified => None,
        v1::Mode::Managed => Some("managed"),
        v1::Mode::Passthrough => Some("passthrough"),
    }
}

/// The contract's word for a state.
pub(crate) fn state(value: v1::State) -> Option<&'static str> {
    match value {
        v1::State::Unspecified => None,
        v1::State::Opening => Some("opening"),
        v1::State::Up => Some("up"),
        v1::State::Reconnecting => Some("reconnecting"),
        v1::State::Failed => Some("failed"),
        v1::State::Closing => Some("closing"),
    }
}
