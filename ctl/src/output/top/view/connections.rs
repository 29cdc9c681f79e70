//! The page of a session's connections.

use borealis_proto::v1;
use jiff::Timestamp;
use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::{Modifier, Style},
};

use super::{
    super::{
        super::{text, time::since, words},
        model::{Client, Clients, Model},
        traffic::size,
    },
    parts::{Cell, Column, Theme, put, table, wrapped},
    sessions::title,
};

/// Terminals of so many columns have all in the table.
const WIDE: u16 = 110;
/// Terminals of fewer columns have only the most important in the table.
const NARROW: u16 = 70;
/// A transaction that is idle for so many seconds stands out.
const LONG_IDLE: i64 = 300;

/// Who is behind a connection, as well as it is known.
pub(in super::super) fn who(client: &Client) -> String {
    let connection = &client.connection;
    if !client.program.is_empty() {
        return text::name(&client.program);
    }
    if !connection.application_name.is_empty() {
        return text::name(&connection.application_name);
    }
    match (connection.peer_pid, connection.peer_port) {
        (0, 0) => "?".to_owned(),
        (0, port) => format!("port {port}"),
        (pid, _) => format!("pid {pid}"),
    }
}

pub(super) fn draw(model: &Model, theme: Theme, area: Rect, buffer: &mut Buffer) {
    let name = model.session.on().map_or("", String::as_str);
    let heading = match model.chosen_session().map(v1::Session::access) {
        Some(v1::Access::ReadWrite) => format!("connections of {name} · READ-WRITE"),
        _ => format!("connections of {name}"),
    };
    title(&heading, area, buffer);
    let area = Rect {
        y: area.y + 1,
        height: area.height.saturating_sub(1),
        ..area
    };
    let now = model.now;
    let listed: Vec<_> = model.listed_clients().collect();
    let rows: Vec<_> = listed
        .iter()
        .map(|client| row(theme, client, area.width, now))
        .collect();
    if !rows.is_empty() {
        table(
            area,
            buffer,
            columns(area.width),
            &rows,
            model.client.line(),
        );
        return;
    }
    let text = match &model.clients {
        Clients::Awaited => "asking borealisd …",
        Clients::Untold => {
            "this borealisd can't tell its connections: it is older than this borealisctl. Restart it after the upgrade"
        }
        Clients::Known(_) if !model.filter.is_empty() => {
            "no connection has this in it; Esc shows all"
        }
        Clients::Known(_) => "nobody is connected",
    };
    let lines = wrapped(text, area.width.saturating_sub(1));
    for (y, line) in (area.y..area.bottom()).zip(lines) {
        put(buffer, (area.x + 1, y), area.width - 1, &line, Style::new());
    }
}

fn columns(width: u16) -> &'static [Column] {
    const WHO: Column = Column::left("PROGRAM", 0);
    match width {
        WIDE.. => {
            const {
                &[
                    Column::right("ID", 5),
                    WHO,
                    Column::right("PID", 7),
                    Column::left("STATE", 29),
                    Column::right("FOR", 6),
                    Column::left("DATABASE", 12),
                    Column::left("VIA", 7),
                    Column::right("BACKEND", 7),
                    Column::right("SENT", 5),
                    Column::right("RECVD", 5),
                ]
            }
        }
        NARROW.. => {
            const {
                &[
                    Column::right("ID", 5),
                    WHO,
                    Column::right("PID", 7),
                    Column::left("STATE", 19),
                    Column::right("FOR", 6),
                    Column::right("SENT", 5),
                    Column::right("RECVD", 5),
                ]
            }
        }
        _ => const { &[WHO, Column::left("STATE", 19), Column::right("FOR", 5)] },
    }
}

fn row(theme: Theme, client: &Client, width: u16, now: Timestamp) -> Vec<Cell> {
    let connection = &client.connection;
    let state = connection.state();
    let idle = matches!(
        state,
        v1::ConnectionState::IdleInTransaction | v1::ConnectionState::IdleInTransactionAborted
    );
    let style = match state {
        v1::ConnectionState::Active => theme.good(),
        v1::ConnectionState::Held => theme.warning(),
        _ if idle && is_long(connection.state_since.as_ref(), now) => {
            theme.bad().add_modifier(Modifier::BOLD)
        }
        _ if idle => theme.warning(),
        _ => Style::new(),
    };
    let mut word = words::connection_state(state).unwrap_or("?").to_owned();
    if state == v1::ConnectionState::Held && !connection.held_for.is_empty() && width >= WIDE {
        word = format!("held: {}", connection.held_for);
    }
    let mut age = since(connection.state_since.as_ref(), now).unwrap_or_default();
    if idle && is_long(connection.state_since.as_ref(), now) {
        age.push('!');
    }
    let pid = match (client.pid, connection.peer_pid) {
        (0, 0) => String::new(),
        (0, pid) | (pid, _) => pid.to_string(),
    };
    let (who, state, age) = (
        Cell::new(who(client)),
        Cell::styled(word, style),
        Cell::styled(age, style),
    );
    if width < NARROW {
        return vec![who, state, age];
    }
    let bytes = connection.bytes.unwrap_or_default();
    let mut cells = vec![
        Cell::new(connection.id.to_string()),
        who,
        Cell::new(pid),
        state,
        age,
    ];
    if width >= WIDE {
        let via = match (connection.via(), connection.tls) {
            (v1::Via::UnixSocket, _) => "socket",
            (v1::Via::Tcp, true) => "tcp tls",
            (v1::Via::Tcp, false) => "tcp",
            (v1::Via::Unspecified, _) => "?",
        };
        let backend = match connection.backend_pid {
            0 => String::new(),
            pid => pid.to_string(),
        };
        cells.extend([
            Cell::new(&connection.database),
            Cell::new(via),
            Cell::new(backend),
        ]);
    }
    cells.extend([Cell::new(size(bytes.sent)), Cell::new(size(bytes.received))]);
    cells
}

/// Whether a transaction has been idle for longer than anybody thinks.
pub(super) fn is_long(time: Option<&prost_types::Timestamp>, now: Timestamp) -> bool {
    time.is_some_and(|time| now.as_second().saturating_sub(time.seconds) >= LONG_IDLE)
}
