//! Events: a page of them, or the last ones below something else.

use borealis_proto::v1;
use ratatui::{buffer::Buffer, layout::Rect, style::Style};

use super::{
    super::{
        super::time,
        model::{Model, Page},
    },
    parts::{Cell, Column, Theme, put, table, wrapped},
    sessions::title,
};

/// Terminals of fewer columns have only the time of day.
const NARROW: u16 = 70;

pub(super) fn page(model: &Model, theme: Theme, area: Rect, buffer: &mut Buffer) {
    let all = model.page == Page::Events { all: true };
    let heading = match model.session.on().filter(|_| !all) {
        Some(name) => format!("events of {name}"),
        None => "events of all sessions".to_owned(),
    };
    title(&heading, area, buffer);
    let area = Rect {
        y: area.y + 1,
        height: area.height.saturating_sub(1),
        ..area
    };
    let area = chosen_in_full(model, area, buffer);
    let wide = area.width >= NARROW;
    let columns: &[Column] = match (wide, all) {
        (true, true) => {
            const {
                &[
                    Column::left("TIME", 19),
                    Column::left("SESSION", 16),
                    Column::left("EVENT", 0),
                ]
            }
        }
        (true, false) => const { &[Column::left("TIME", 19), Column::left("EVENT", 0)] },
        (false, _) => const { &[Column::left("TIME", 8), Column::left("EVENT", 0)] },
    };
    let rows: Vec<_> = model
        .listed_events()
        .map(|event| {
            let style = match event.failure {
                Some(_) => theme.warning(),
                None => Style::new(),
            };
            let mut cells = vec![Cell::new(stamp(model, event, wide))];
            if wide && all {
                cells.push(Cell::new(&event.session));
            }
            cells.push(Cell::styled(sentence(event), style));
            cells
        })
        .collect();
    table(area, buffer, columns, &rows, model.event.line());
    if rows.is_empty() && area.height > 1 {
        let text = if model.filter.is_empty() {
            "nothing has happened"
        } else {
            "no event has this in it; Esc shows all"
        };
        put(
            buffer,
            (area.x + 1, area.y + 1),
            area.width - 1,
            text,
            Style::new(),
        );
    }
}

/// The chosen event with what can be done about it, in as many lines as it takes; answers what it
/// leaves of the area.
fn chosen_in_full(model: &Model, area: Rect, buffer: &mut Buffer) -> Rect {
    let chosen = model
        .event
        .line()
        .and_then(|line| model.listed_events().nth(line));
    let Some(event) = chosen else {
        return area;
    };
    let mut text = sentence(event);
    if let Some(failure) = event
        .failure
        .as_ref()
        .filter(|failure| !failure.hint.is_empty())
    {
        text = format!("{text} (hint: {})", failure.hint);
    }
    let lines = wrapped(&text, area.width.saturating_sub(2));
    let height = u16::try_from(lines.len())
        .unwrap_or(u16::MAX)
        .min(area.height / 2);
    let y = area.bottom() - height;
    for (y, line) in (y..area.bottom()).zip(lines) {
        put(
            buffer,
            (area.x + 1, y),
            area.width.saturating_sub(1),
            &line,
            Theme::bold(),
        );
    }
    Rect {
        height: area.height - height,
        ..area
    }
}

/// The last events of a session, the newest first.
pub(super) fn recent(model: &Model, session: &str, area: Rect, buffer: &mut Buffer) {
    let events = model.events.iter().filter(|event| event.session == session);
    for (index, (y, event)) in (area.y..area.bottom()).zip(events).enumerate() {
        if index == 0 {
            put(buffer, (area.x + 1, y), 8, "events", Theme::bold());
        }
        let x = area.x + 10;
        let text = format!("{} {}", stamp(model, event, false), sentence(event));
        put(
            buffer,
            (x, y),
            area.right().saturating_sub(x),
            &text,
            Style::new(),
        );
    }
}

fn sentence(event: &v1::Event) -> String {
    match &event.failure {
        Some(failure) if !event.message.contains(&failure.message) => {
            format!("{}: {}", event.message, failure.message)
        }
        _ => event.message.clone(),
    }
}

fn stamp(model: &Model, event: &v1::Event, with_date: bool) -> String {
    let stamp = time::stamp_in(event.at.as_ref(), &model.zone).unwrap_or_default();
    if with_date {
        stamp
    } else {
        stamp
            .split_once(' ')
            .map_or(String::new(), |(_, time)| time.to_owned())
    }
}
