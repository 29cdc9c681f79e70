//! Aligned columns for people: a heading and rows, or labels and values.

use anstyle::{AnsiColor, Style};
use unicode_width::UnicodeWidthStr as _;

use super::{
    Paint,
    text::{self, LONGEST, LONGEST_NAME, Text},
};

/// One cell and how it looks: one line of safe text.
#[derive(Debug, Clone)]
pub(super) struct Cell {
    text: String,
    style: Style,
}

// === impl Cell ===

impl Cell {
    pub(super) fn new(text: impl AsRef<str>) -> Self {
        Self::styled(text, Style::new())
    }

    pub(super) fn coloured(text: impl AsRef<str>, colour: AnsiColor) -> Self {
        Self::styled(text, colour.on_default())
    }

    fn styled(text: impl AsRef<str>, style: Style) -> Self {
        let line = text::line(text.as_ref());
        Self {
            text: text::cut(&line, LONGEST).into_owned(),
            style,
        }
    }

    fn cut(&mut self, width: usize) {
        self.text = text::cut(&self.text, width).into_owned();
    }
}

/// Rows below their headings, two spaces apart; lines are cut at `width` columns.
pub(super) fn columns(
    headings: &[&str],
    rows: &[Vec<Cell>],
    paint: Paint,
    width: Option<usize>,
) -> Text {
    let mut rows = rows.to_vec();
    for row in &mut rows {
        // The last column has the rest of the line.
        for cell in row.iter_mut().take(headings.len().saturating_sub(1)) {
            cell.cut(LONGEST_NAME);
        }
    }
    let mut widths: Vec<usize> = headings.iter().map(|heading| heading.width()).collect();
    for row in &rows {
        for (cell, width) in row.iter().zip(&mut widths) {
            *width = cell.text.width().max(*width);
        }
    }
    let bold = |heading: &&str| Cell::styled(heading, Style::new().bold());
    let heading: Vec<Cell> = headings.iter().map(bold).collect();
    std::iter::once(&heading)
        .chain(&rows)
        .map(|row| line(row, &widths, paint, width.unwrap_or(usize::MAX)))
        .collect()
}

/// Values beside their labels; a value without a label goes on from the line above.
pub(super) fn labelled(pairs: &[(&str, Cell)], paint: Paint) -> Text {
    let width = pairs.iter().map(|(label, _)| label.width()).max();
    let width = width.unwrap_or_default();
    let dimmed = Style::new().dimmed();
    pairs
        .iter()
        .map(|(label, cell)| {
            Text::lines("  ")
                .styled(paint, dimmed, &format!("{label:width$}"))
                .then("  ")
                .styled(paint, cell.style, &cell.text)
                .then("\n")
        })
        .collect()
}

fn line(row: &[Cell], widths: &[usize], paint: Paint, limit: usize) -> Text {
    let mut text = Text::new();
    let mut used = 0;
    let last = row.iter().rposition(|cell| !cell.text.is_empty());
    for (index, (cell, width)) in row.iter().zip(widths).enumerate() {
        let gap = if index == 0 { 0 } else { 2 };
        // A column that has no room for a letter and an ellipsis is left out.
        if Some(index) > last || (index > 0 && used + gap + 2 > limit) {
            break;
        }
        let shown = text::cut(&cell.text, limit.saturating_sub(used + gap));
        let fill = if Some(index) == last {
            0
        } else {
            width
                .saturating_sub(shown.width())
                .min(limit.saturating_sub(used + gap + shown.width()))
        };
        text = text
            .then(" ".repeat(gap))
            .styled(paint, cell.style, &shown)
            .then(" ".repeat(fill));
        used += gap + width;
    }
    text.then("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(rows: &[Vec<Cell>], width: Option<usize>) -> String {
        let text = columns(&["NAME", "STATE", "NOTE"], rows, Paint::Plain, width);
        text.as_str().to_owned()
    }

    #[test]
    fn columns_line_up_and_lines_end_without_blanks() {
        let rows = [
            vec![Cell::new("sushi"), Cell::new("up"), Cell::new("")],
            vec![Cell::new("寿司"), Cell::new("failed"), Cell::new("why")],
        ];
        assert_eq!(
            shown(&rows, None),
            "NAME   STATE   NOTE\nsushi  up\n寿司   failed  why\n"
        );
        assert_eq!(
            shown(&rows, Some(17)),
            "NAME   STATE   N…\nsushi  up\n寿司   failed  w…\n"
        );
    }

    #[test]
    fn a_long_value_leaves_the_others_in_sight() {
        let long = "x".repeat(10_000);
        let rows = [
            vec![Cell::new(&long), Cell::new("up\u{1b}\n"), Cell::new(&long)],
            vec![Cell::new("sushi"), Cell::new("up"), Cell::new("")],
        ];
        let shown = shown(&rows, None);
        let first = format!("{}…  up\\x1B   {}…", "x".repeat(79), "x".repeat(999));
        assert_eq!(shown.lines().nth(1).unwrap(), first);
        assert_eq!(
            shown.lines().nth(2).unwrap(),
            format!("sushi{}  up", " ".repeat(75))
        );
    }
}
