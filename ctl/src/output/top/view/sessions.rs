//! The page of the sessions, and below it what else is known of the chosen one.

use borealis_proto::v1;
use jiff::Timestamp;
use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::{Modifier, Style},
};

use super::{
    super::{
        super::{
            session::{address, note},
            time::{since, until},
            words,
        },
        model::Model,
        traffic::{Way, size},
    },
    connections::is_long,
    events,
    parts::{Cell, Column, Theme, put, table},
};

/// Terminals of so many columns have all in the table.
const WIDE: u16 = 110;
/// Terminals of fewer columns have only the most important in the table.
const NARROW: u16 = 70;
/// Terminals of fewer lines have only the table.
const LOW: u16 = 16;
/// Lines of what is known of the chosen session.
const DETAILS: u16 = 10;
/// Bars of what passed of late, there.
const BARS: usize = 60;

pub(super) fn draw(model: &Model, theme: Theme, area: Rect, buffer: &mut Buffer) {
    let mut area = area;
    if let Some(reason) = model.info.as_ref().and_then(|info| info.reasons.first())
        && area.height >= LOW
        && area.width >= NARROW
    {
        let style = theme.warning();
        let text = format!(" ! {}", reason.message);
        put(buffer, (area.x, area.y), area.width, &text, style);
        area = Rect {
            y: area.y + 1,
            height: area.height - 1,
            ..area
        };
    }
    let listed: Vec<_> = model.listed_sessions().collect();
    let chosen = model.chosen_session().filter(|_| area.height >= LOW);
    let lines = u16::try_from(listed.len())
        .unwrap_or(u16::MAX)
        .saturating_add(1);
    let top = match chosen {
        Some(_) => lines.min(area.height - DETAILS),
        None => area.height,
    };
    let above = Rect {
        height: top,
        ..area
    };
    let columns = columns(area.width);
    let rows: Vec<_> = listed
        .iter()
        .map(|session| row(model, theme, session, area.width))
        .collect();
    table(above, buffer, columns, &rows, model.session.line());
    if listed.is_empty() && area.height > 1 {
        let text = match &model.sessions {
            None => "asking borealisd …",
            Some(sessions) if sessions.is_empty() => "no sessions are open; o opens one",
            Some(_) => "no session has this in it; Esc shows all",
        };
        put(
            buffer,
            (area.x + 1, area.y + 1),
            area.width - 1,
            text,
            Style::new(),
        );
    }
    if let Some(session) = chosen {
        let below = Rect {
            y: area.y + top,
            height: area.height - top,
            ..area
        };
        details(model, theme, session, below, buffer);
    }
}

fn columns(width: u16) -> &'static [Column] {
    const NAMES: Column = Column::left("NAME", 0);
    const STATES: Column = Column::left("STATE", 12);
    match width {
        WIDE.. => {
            const {
                &[
                    Column::left("NAME", 16),
                    STATES,
                    Column::left("ACCESS", 15),
                    Column::right("CONNS", 5),
                    Column::right("SENT/S", 6),
                    Column::left("", 9),
                    Column::right("RECVD/S", 7),
                    Column::left("", 9),
                    Column::right("TRIP", 6),
                    Column::left("CREDENTIAL", 11),
                    Column::left("LAST EVENT", 0),
                ]
            }
        }
        NARROW.. => {
            const {
                &[
                    NAMES,
                    STATES,
                    Column::left("ACCESS", 15),
                    Column::right("CONNS", 5),
                    Column::right("SENT/S", 6),
                    Column::left("", 6),
                    Column::right("RECVD/S", 7),
                    Column::left("", 6),
                ]
            }
        }
        _ => {
            const {
                &[
                    NAMES,
                    STATES,
                    Column::left("ACCESS", 6),
                    Column::right("CONN", 4),
                ]
            }
        }
    }
}

fn row(model: &Model, theme: Theme, session: &v1::Session, width: u16) -> Vec<Cell> {
    let now = model.now;
    let access = if width >= NARROW {
        access(session, now)
    } else {
        short_access(session).to_owned()
    };
    let mut cells = vec![
        Cell::new(&session.name),
        Cell::styled(
            words::state(session.state()).unwrap_or("?"),
            state_style(theme, session.state()),
        ),
        match session.access() {
            v1::Access::ReadWrite => Cell::styled(access, theme.bad().add_modifier(Modifier::BOLD)),
            _ => Cell::new(access),
        },
        clients(theme, session, now),
    ];
    if width < NARROW {
        return cells;
    }
    let bars = if width >= WIDE { 9 } else { 6 };
    for way in [Way::Sent, Way::Received] {
        let traffic = model.traffic.get(&session.name);
        let rate = traffic.map_or(0, |traffic| traffic.rate(way, now));
        let bars = traffic.map(|traffic| traffic.bars(way, bars, now));
        cells.push(Cell::new(size(rate)));
        cells.push(Cell::styled(bars.unwrap_or_default(), theme.bar()));
    }
    if width >= WIDE {
        let event = model.last_event(&session.name);
        cells.extend([
            Cell::new(round_trip(session).unwrap_or_default()),
            Cell::new(credential(session, now).unwrap_or_default()),
            Cell::new(event.map_or("", |event| event.message.as_str())),
        ]);
    }
    cells
}

/// How many; marked where a transaction has been idle for long.
fn clients(theme: Theme, session: &v1::Session, now: Timestamp) -> Cell {
    let active = session.connections.unwrap_or_default().active;
    if is_long(session.idle_in_transaction_since.as_ref(), now) {
        let style = theme.bad().add_modifier(Modifier::BOLD);
        return Cell::styled(format!("{active}!"), style);
    }
    Cell::new(active.to_string())
}

/// Write access stands in capitals, and with the time that is left.
fn access(session: &v1::Session, now: Timestamp) -> String {
    let word = match session.access() {
        v1::Access::ReadWrite => "READ-WRITE",
        other => words::access(other).unwrap_or("?"),
    };
    match until(session.expires_at.as_ref(), now) {
        Some(left) => format!("{word} {left}"),
        None => word.to_owned(),
    }
}

fn short_access(session: &v1::Session) -> &'static str {
    match session.access() {
        v1::Access::ReadWrite => "WRITE",
        v1::Access::ReadOnly => "read",
        v1::Access::Unspecified => "?",
    }
}

pub(super) fn state_style(theme: Theme, state: v1::State) -> Style {
    match state {
        v1::State::Up => theme.good(),
        v1::State::Failed => theme.bad().add_modifier(Modifier::BOLD),
        _ => theme.warning(),
    }
}

fn round_trip(session: &v1::Session) -> Option<String> {
    let trip = session.round_trip?;
    let micros = trip
        .seconds
        .saturating_mul(1_000_000)
        .saturating_add(i64::from(trip.nanos) / 1000);
    Some(match micros {
        ..1000 => "<1 ms".to_owned(),
        1000..10_000_000 => format!("{} ms", micros / 1000),
        _ => format!("{} s", micros / 1_000_000),
    })
}

/// `#3, 7h`: its generation, and when it is renewed.
fn credential(session: &v1::Session, now: Timestamp) -> Option<String> {
    let credential = session.credential.as_ref()?;
    let generation = credential.generation;
    Some(match until(credential.rotates_at.as_ref(), now) {
        Some(next) => format!("#{generation}, {next}"),
        None => format!("#{generation}"),
    })
}

/// What else is known of a session, and as much as there is room for of what happened to it.
fn details(model: &Model, theme: Theme, session: &v1::Session, area: Rect, buffer: &mut Buffer) {
    let now = model.now;
    title(&session.name, area, buffer);
    let age = since(session.since.as_ref(), now).unwrap_or_default();
    let state = words::state(session.state()).unwrap_or("?");
    let whose = match session.role() {
        v1::Role::App => "as the app's database user",
        _ => "as your database user",
    };
    let mut lines = vec![
        (
            "state",
            format!(
                "{state} for {age} · {} · {whose} · {}",
                access(session, now),
                words::mode(session.mode()).unwrap_or("?")
            ),
            state_style(theme, session.state()),
        ),
        (
            "address",
            format!(
                "{} · {} of app {}",
                address(session),
                session.addon,
                session.app
            ),
            Style::new(),
        ),
    ];
    let trip = round_trip(session).map_or_else(
        || "no tunnel".to_owned(),
        |trip| format!("{trip} to the bastion and back"),
    );
    let credential = session.credential.as_ref();
    let renewed = credential.map_or_else(
        || "no credential yet".to_owned(),
        |credential| {
            let generation = credential.generation;
            match until(credential.rotates_at.as_ref(), now) {
                Some(next) => format!("credential {generation}, renewed in {next}"),
                None => format!("credential {generation}, not renewed by a timer"),
            }
        },
    );
    lines.push(("tunnel", format!("{trip} · {renewed}"), Style::new()));
    let bytes = session.bytes.unwrap_or_default();
    let counts = session.connections.unwrap_or_default();
    lines.push((
        "clients",
        format!("{} of {} so far", counts.active, counts.total),
        Style::new(),
    ));
    let traffic = model.traffic.get(&session.name);
    let bars = usize::from(area.width.saturating_sub(36)).min(BARS);
    for (label, way, total) in [
        ("sent", Way::Sent, bytes.sent),
        ("received", Way::Received, bytes.received),
    ] {
        let rate = traffic.map_or(0, |traffic| traffic.rate(way, now));
        let shown = traffic.map_or_else(String::new, |traffic| traffic.bars(way, bars, now));
        let text = format!("{:>4} in all {:>6}/s {shown}", size(total), size(rate));
        lines.push((label, text, theme.bar()));
    }
    if let Some(idle) = since(session.idle_in_transaction_since.as_ref(), now) {
        let text = format!("a transaction has been idle for {idle}: Enter shows whose");
        lines.push(("look", text, theme.warning().add_modifier(Modifier::BOLD)));
    }
    let note = note(session, now);
    if !note.is_empty() {
        let style = match &session.last_error {
            Some(_) => theme.bad(),
            None => theme.warning(),
        };
        lines.push(("note", note, style));
    }
    let mut y = area.y + 1;
    for (label, value, style) in lines {
        if y >= area.bottom() {
            return;
        }
        put(buffer, (area.x + 1, y), 8, label, Theme::bold());
        let x = area.x + 10;
        put(
            buffer,
            (x, y),
            area.right().saturating_sub(x),
            &value,
            style,
        );
        y += 1;
    }
    let below = Rect {
        y,
        height: area.bottom().saturating_sub(y),
        ..area
    };
    events::recent(model, &session.name, below, buffer);
}

/// A line with a name in it.
pub(super) fn title(name: &str, area: Rect, buffer: &mut Buffer) {
    let line = "─".repeat(usize::from(area.width));
    buffer.set_stringn(area.x, area.y, line, usize::from(area.width), Style::new());
    let room = area.width.saturating_sub(6);
    let x = put(
        buffer,
        (area.x + 2, area.y),
        room,
        &format!(" {name} "),
        Theme::bold(),
    );
    debug_assert!(x <= area.right(), "a title is cut");
}
