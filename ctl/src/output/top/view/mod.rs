//! Draws what a [`Model`] knows into a buffer. Reads no clock, no environment, no terminal.

mod connections;
mod events;
mod parts;
mod sessions;

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::{Modifier, Style},
    widgets::{Clear, Widget as _},
};

use borealis_proto::v1;

pub(super) use connections::who;
use parts::{put, wrapped};

pub(super) use parts::Theme;

use super::{
    super::{
        time::since,
        words::{counted, health},
    },
    keys::KEYS,
    model::{Mode, Model, Notice, Page},
};

/// Draws everything.
pub(super) fn draw(model: &Model, theme: Theme, area: Rect, buffer: &mut Buffer) {
    if area.height < 3 || area.width < 10 {
        put(
            buffer,
            (area.x, area.y),
            area.width,
            "too small",
            Style::new(),
        );
        return;
    }
    let head = Rect { height: 1, ..area };
    headline(model, theme, head, buffer);
    let foot = footer(model, theme, area);
    let height = u16::try_from(foot.len()).unwrap_or(1).min(area.height / 2);
    let body = Rect {
        y: area.y + 1,
        height: area.height - 1 - height,
        ..area
    };
    match model.page {
        Page::Sessions => sessions::draw(model, theme, body, buffer),
        Page::Connections => connections::draw(model, theme, body, buffer),
        Page::Events { .. } => events::page(model, theme, body, buffer),
    }
    for (y, (line, style)) in (body.bottom()..area.bottom()).zip(foot) {
        put(buffer, (area.x, y), area.width, &line, style);
    }
    if let Mode::Help(first) = model.mode {
        help(first, body, buffer);
    }
}

/// Where one is, and how it stands.
fn headline(model: &Model, theme: Theme, area: Rect, buffer: &mut Buffer) {
    if let Some((at, why)) = &model.away {
        let at = prost_types::Timestamp {
            seconds: at.as_second(),
            nanos: 0,
        };
        let age = since(Some(&at), model.now).unwrap_or_default();
        let line = format!(" borealisd is away ({age}), waiting for it: {why}");
        buffer.set_style(area, theme.loud());
        put(buffer, (area.x, area.y), area.width, &line, theme.loud());
        return;
    }
    let style = Theme::bold();
    let mut x = put(buffer, (area.x, area.y), area.width, " borealis", style);
    let mut parts: Vec<(String, Style)> = Vec::new();
    if let Some(sessions) = &model.sessions {
        let up = sessions
            .iter()
            .filter(|session| session.state() == v1::State::Up)
            .count();
        parts.push((format!("{up} of {} up", sessions.len()), Style::new()));
        let active = sessions
            .iter()
            .map(|session| session.connections.unwrap_or_default().active)
            .sum();
        parts.push((counted(active, "connection", "connections"), Style::new()));
    }
    if let Some(info) = &model.info {
        let style = match info.health() {
            v1::Health::Ok => theme.good(),
            v1::Health::Failing => theme.bad().add_modifier(Modifier::BOLD),
            _ => theme.warning().add_modifier(Modifier::BOLD),
        };
        let word = health(info.health()).unwrap_or("unknown");
        // The place for health is the second on small screens.
        let at = usize::from(!parts.is_empty());
        parts.insert(at, (format!("health {word}"), style));
        parts.push((format!("borealisd {}", info.version), Style::new()));
    }
    for (text, style) in parts {
        let part = format!(" · {text}");
        let left = area.right().saturating_sub(x);
        if unicode_width::UnicodeWidthStr::width(part.as_str()) > usize::from(left) {
            break;
        }
        x = put(buffer, (x, area.y), left, " · ", Style::new());
        let left = area.right().saturating_sub(x);
        x = put(buffer, (x, area.y), left, &text, style);
    }
}

/// What is said or asked, else the keys of this page; in as many lines as it takes.
fn footer(model: &Model, theme: Theme, area: Rect) -> Vec<(String, Style)> {
    let bold = Theme::bold();
    let lines = |text: &str, style: Style| -> Vec<_> {
        let lines = wrapped(text, area.width.saturating_sub(1)).into_iter();
        lines.map(|line| (format!(" {line}"), style)).collect()
    };
    match &model.mode {
        Mode::Ask(question) => {
            let mut asked = lines(&question.text, theme.warning().add_modifier(Modifier::BOLD));
            asked.push((" y: yes   any other key: no".to_owned(), bold));
            return asked;
        }
        Mode::Filter => return lines(&format!("filter: {}_", model.filter), bold),
        Mode::Target(typed) => {
            return lines(&format!("open (-w: with write access): {typed}_"), bold);
        }
        Mode::Help(_) => {
            return vec![(" ↓ ↑ more   any other key: back".to_owned(), bold)];
        }
        Mode::Browse => {}
    }
    match &model.notice {
        Some(Notice::Said(text)) => return lines(text, bold),
        Some(Notice::Failed(text)) => {
            let style = theme.bad().add_modifier(Modifier::BOLD);
            return lines(&format!("error: {text}"), style);
        }
        None => {}
    }
    let mut keys = match model.page {
        Page::Sessions => {
            "Enter connections  / filter  o open  x close  r rotate  y copy URL  v events"
        }
        Page::Connections => "e end  c cancel query  Enter events  / filter  Esc back",
        Page::Events { .. } => "/ filter  Esc back",
    };
    // Help and the way out are always in sight.
    let tail = "  ? help  q quit";
    let room = usize::from(area.width).saturating_sub(1 + tail.len());
    while keys.len() > room {
        keys = keys.rfind("  ").map_or("", |at| &keys[..at]);
    }
    vec![(format!(" {keys}{tail}"), Style::new())]
}

fn help(first: usize, area: Rect, buffer: &mut Buffer) {
    Clear.render(area, buffer);
    let keys = if area.width < 60 { 7 } else { 16 };
    for (y, (key, what)) in (area.y..area.bottom()).zip(KEYS.iter().skip(first)) {
        put(buffer, (area.x + 1, y), keys, key, Theme::bold());
        let x = area.x + keys + 2;
        put(
            buffer,
            (x, y),
            area.right().saturating_sub(x),
            what,
            Style::new(),
        );
    }
}
