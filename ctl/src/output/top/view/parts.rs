//! What the pages are made of: a table, a line with a title, wrapped text.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::{Color, Modifier, Style},
};
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::super::super::{Paint, text};

/// Looks. Only the terminal's own sixteen colours, which fit its background; and nothing is
/// told by colour alone.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Theme {
    colour: bool,
}

/// A column of a table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    pub(super) heading: &'static str,
    /// Zero: what the others leave.
    pub(super) width: u16,
    /// Numbers stand at its right side.
    pub(super) to_right: bool,
}

/// What stands in a cell.
#[derive(Debug, Clone)]
pub(super) struct Cell {
    text: String,
    style: Style,
}

// === impl Theme ===

impl Theme {
    pub(in super::super) fn new(paint: Paint) -> Self {
        let colour = paint == Paint::Coloured;
        Self { colour }
    }

    pub(super) fn good(self) -> Style {
        self.fg(Color::Green)
    }

    pub(super) fn warning(self) -> Style {
        self.fg(Color::Yellow)
    }

    pub(super) fn bad(self) -> Style {
        self.fg(Color::Red)
    }

    pub(super) fn bar(self) -> Style {
        self.fg(Color::Cyan)
    }

    /// Stands out on any terminal.
    pub(super) fn loud(self) -> Style {
        self.bad().add_modifier(Modifier::BOLD | Modifier::REVERSED)
    }

    pub(super) fn bold() -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    pub(super) fn chosen() -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    fn fg(self, colour: Color) -> Style {
        if self.colour {
            Style::new().fg(colour)
        } else {
            Style::new()
        }
    }
}

// === impl Column ===

impl Column {
    pub(super) const fn left(heading: &'static str, width: u16) -> Self {
        let to_right = false;
        Self {
            heading,
            width,
            to_right,
        }
    }

    pub(super) const fn right(heading: &'static str, width: u16) -> Self {
        let to_right = true;
        Self {
            heading,
            width,
            to_right,
        }
    }
}

// === impl Cell ===

impl Cell {
    pub(super) fn new(text: impl AsRef<str>) -> Self {
        Self::styled(text, Style::new())
    }

    pub(super) fn styled(text: impl AsRef<str>, style: Style) -> Self {
        Self {
            text: text::line(text.as_ref()).into_owned(),
            style,
        }
    }
}

/// Draws a line from `x` on, cut where the area ends; answers where it ended.
pub(super) fn put(
    buffer: &mut Buffer,
    (x, y): (u16, u16),
    width: u16,
    text: &str,
    style: Style,
) -> u16 {
    if width == 0 || !buffer.area.contains((x, y).into()) {
        return x;
    }
    let text = text::line(text);
    let text = text::cut(&text, usize::from(width));
    buffer.set_stringn(x, y, &text, usize::from(width), style).0
}

/// Draws a table of as many rows as there is room for, the chosen one among them.
pub(super) fn table(
    area: Rect,
    buffer: &mut Buffer,
    columns: &[Column],
    rows: &[Vec<Cell>],
    chosen: Option<usize>,
) {
    if area.height == 0 || area.width < 3 {
        return;
    }
    let widths = widths(columns, area.width - 1);
    let line = |buffer: &mut Buffer, y: u16, cells: &mut dyn Iterator<Item = (&str, Style)>| {
        let mut x = area.x + 1;
        for ((column, &width), (text, style)) in columns.iter().zip(&widths).zip(cells) {
            let text = text::cut(text, usize::from(width));
            let shown = u16::try_from(text.width()).unwrap_or(width).min(width);
            let start = if column.to_right {
                x + width - shown
            } else {
                x
            };
            buffer.set_stringn(start, y, &text, usize::from(width), style);
            x += width + 1;
        }
    };
    let mut headings = columns.iter().map(|column| (column.heading, Theme::bold()));
    line(buffer, area.y, &mut headings);
    let room = usize::from(area.height - 1);
    let first = first_shown(rows.len(), room, chosen.unwrap_or(0));
    for (y, (index, row)) in (area.y + 1..area.bottom()).zip(rows.iter().enumerate().skip(first)) {
        line(
            buffer,
            y,
            &mut row.iter().map(|cell| (cell.text.as_str(), cell.style)),
        );
        if chosen == Some(index) {
            buffer.set_string(area.x, y, ">", Theme::bold());
            choose(buffer, Rect::new(area.x, y, area.width, 1));
        }
    }
}

/// Shows a row as the chosen one. What stands out in it keeps its colour; any other colour would
/// become a background, where a bar's blank would look full.
fn choose(buffer: &mut Buffer, row: Rect) {
    for place in row.positions() {
        if let Some(cell) = buffer.cell_mut(place)
            && !cell.modifier.contains(Modifier::REVERSED)
        {
            cell.set_fg(Color::Reset);
        }
    }
    buffer.set_style(row, Theme::chosen());
}

/// The first row that is shown so that the chosen one is in the middle, as far as there are
/// rows around it.
fn first_shown(rows: usize, room: usize, chosen: usize) -> usize {
    chosen
        .saturating_sub(room / 2)
        .min(rows.saturating_sub(room))
}

/// The columns' widths; what is left goes to the one that has none.
fn widths(columns: &[Column], width: u16) -> Vec<u16> {
    let between = u16::try_from(columns.len().saturating_sub(1)).unwrap_or(0);
    let taken: u16 = columns.iter().map(|column| column.width).sum();
    let mut left = width.saturating_sub(between);
    let rest = left.saturating_sub(taken);
    columns
        .iter()
        .map(|column| {
            let wanted = if column.width == 0 {
                rest
            } else {
                column.width
            };
            let width = wanted.min(left);
            left -= width;
            width
        })
        .collect()
}

/// Text in lines of at most `width` columns, broken between words where that is possible.
pub(super) fn wrapped(text: &str, width: u16) -> Vec<String> {
    let width = usize::from(width.max(1));
    let mut lines = vec![String::new()];
    for word in text::line(text).split(' ') {
        let mut line = lines.pop().unwrap_or_default();
        if !line.is_empty() && line.width() + 1 + word.width() > width {
            lines.push(std::mem::take(&mut line));
        } else if !line.is_empty() {
            line.push(' ');
        }
        for c in word.chars() {
            if line.width() + c.width().unwrap_or(0) > width {
                lines.push(std::mem::take(&mut line));
            }
            line.push(c);
        }
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chosen_row_is_in_sight() {
        assert_eq!(first_shown(3, 10, 2), 0);
        assert_eq!(first_shown(100, 10, 0), 0);
        assert_eq!(first_shown(100, 10, 50), 45);
        assert_eq!(first_shown(100, 10, 99), 90);
        assert_eq!(first_shown(3, 0, 2), 2);
    }

    #[test]
    fn lines_are_broken_between_words() {
        assert_eq!(wrapped("a bc def", 4), ["a bc", "def"]);
        assert_eq!(wrapped("abcdef", 4), ["abcd", "ef"]);
        assert_eq!(wrapped("寿司 x\u{1b}", 4), ["寿司", "x\\x1", "B"]);
        assert_eq!(wrapped("", 4), [""]);
    }
}
