//! Aligned columns for people: a heading and rows, or labels and values.

use anstyle::{AnsiColor, Style};
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::Paint;

/// One cell and how it looks.
#[derive(Debug, Clone)]
pub(super) struct Cell {
    pub(super) text: String,
    pub(super) style: Style,
}

// === impl Cell ===

impl Cell {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            style: Style::new(),
        }
    }

    pub(super) fn coloured(text: impl Into<String>, colour: AnsiColor) -> Self {
        Self {
            text: text.into(),
            style: colour.on_default(),
        }
    }
}

/// Rows below their headings, two spaces apart; lines are cut at `width` columns.
pub(super) fn columns(
    headings: &[&str],
    rows: &[Vec<Cell>],
    paint: Paint,
    width: Option<usize>,
) -> String {
    let mut widths: Vec<usize> = headings.iter().map(|heading| heading.width()).collect();
    for row in rows {
        for (cell, width) in row.iter().zip(&mut widths) {
            *width = cell.text.width().max(*width);
        }
    }
    let heading: Vec<Cell> = headings
        .iter()
        .map(|heading| Cell {
            text: (*heading).to_owned(),
            style: Style::new().bold(),
        })
        .collect();
    std::iter::once(&heading)
        .chain(rows)
        .map(|row| line(row, &widths, paint, width.unwrap_or(usize::MAX)))
        .collect()
}

/// Values beside their labels; a value without a label goes on from the line above.
pub(super) fn labelled(pairs: &[(&str, Cell)], paint: Paint) -> String {
    let width = pairs.iter().map(|(label, _)| label.width()).max();
    let width = width.unwrap_or_default();
    let dimmed = Style::new().dimmed();
    pairs
        .iter()
        .map(|(label, cell)| {
            let label = paint.paint(dimmed, &format!("{label:width$}"));
            format!("  {label}  {}\n", paint.paint(cell.style, &cell.text))
        })
        .collect()
}

fn line(row: &[Cell], widths: &[usize], paint: Paint, limit: usize) -> String {
    let mut text = String::new();
    let mut used = 0;
    let last = row.iter().rposition(|cell| !cell.text.is_empty());
    for (index, (cell, width)) in row.iter().zip(widths).enumerate() {
        if Some(index) > last || used >= limit {
            break;
        }
        let gap = if index == 0 { 0 } else { 2 };
        let shown = cut(&cell.text, limit.saturating_sub(used + gap));
        let fill = if Some(index) == last {
            0
        } else {
            width.saturating_sub(shown.width())
        };
        text.push_str(&" ".repeat(gap));
        text.push_str(&paint.paint(cell.style, &shown));
        text.push_str(&" ".repeat(fill));
        used += gap + width;
    }
    text.push('\n');
    text
}

/// `text` in at most `width` columns, an ellipsis telling of what is missing.
fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut left = width.saturating_sub(1);
    let mut kept: String = text
        .chars()
        .take_while(|c| {
            let columns = c.width().unwrap_or(0);
            let fits = columns <= left;
            left = left.saturating_sub(columns);
            fits
        })
        .collect();
    if width > 0 {
        kept.push('…');
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_end_without_blanks() {
        let rows = [
            vec![Cell::new("sushi"), Cell::new("up"), Cell::new("")],
            vec![Cell::new("寿司"), Cell::new("failed"), Cell::new("why")],
        ];
        assert_eq!(
            columns(&["NAME", "STATE", "NOTE"], &rows, Paint::Plain, None),
            "NAME   STATE   NOTE\nsushi  up\n寿司   failed  why\n"
        );
        assert_eq!(
            columns(&["NAME", "STATE", "NOTE"], &rows, Paint::Plain, Some(17)),
            "NAME   STATE   N…\nsushi  up\n寿司   failed  w…\n"
        );
    }
}
