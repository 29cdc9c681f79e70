//! A terminal's screen as a picture: SVG, with the colours of a dark terminal.

use std::fmt::Write as _;

use vt100::{Cell, Color, Screen};

const WIDTH: f64 = 8.4;
const HEIGHT: f64 = 18.0;
const MARGIN: f64 = 10.0;
const BACKGROUND: &str = "#1c1f26";
const FOREGROUND: &str = "#d7dae0";
/// The first eight of a terminal's colours.
const COLOURS: [&str; 8] = [
    "#3b4048", "#f07178", "#a5d36c", "#e6c15a", "#6cb2f0", "#c792ea", "#5fd0d0", "#d7dae0",
];

/// Cells beside each other that look the same.
struct Run {
    from: u16,
    cells: u16,
    text: String,
    foreground: &'static str,
    background: &'static str,
    bold: bool,
}

/// The screen as an SVG document.
pub fn svg(screen: &Screen, title: &str) -> String {
    let (rows, columns) = screen.size();
    let (rows, columns) = (rows.get(), columns.get());
    let width = f64::from(columns).mul_add(WIDTH, 2.0 * MARGIN);
    let height = f64::from(rows).mul_add(HEIGHT, 2.0 * MARGIN);
    let mut out = String::new();
    // Writing to memory can't fail.
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" \
         width=\"{width:.0}\" height=\"{height:.0}\" font-family=\"ui-monospace, 'DejaVu Sans Mono', \
         Menlo, Consolas, monospace\" font-size=\"14\">\n<title>{}</title>\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"{BACKGROUND}\"/>",
        escaped(title)
    );
    for row in 0..rows {
        for run in runs(screen, row, columns) {
            draw(&mut out, row, &run);
        }
    }
    out.push_str("</svg>\n");
    out
}

fn draw(out: &mut String, row: u16, run: &Run) {
    let x = f64::from(run.from).mul_add(WIDTH, MARGIN);
    let y = f64::from(row).mul_add(HEIGHT, MARGIN);
    let width = f64::from(run.cells) * WIDTH;
    if run.background != BACKGROUND {
        let _ = writeln!(
            out,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{HEIGHT}\" fill=\"{}\"/>",
            run.background
        );
    }
    let text = run.text.trim_end();
    if text.is_empty() {
        return;
    }
    let weight = if run.bold {
        " font-weight=\"bold\""
    } else {
        ""
    };
    // Its length is given, so that columns stand where they should with any font.
    let cells = u16::try_from(text.chars().count()).unwrap_or(run.cells);
    let _ = writeln!(
        out,
        "<text x=\"{x:.1}\" y=\"{:.1}\" fill=\"{}\"{weight} textLength=\"{:.1}\" \
         lengthAdjust=\"spacingAndGlyphs\" xml:space=\"preserve\">{}</text>",
        y + 13.5,
        run.foreground,
        f64::from(cells) * WIDTH,
        escaped(text)
    );
}

fn runs(screen: &Screen, row: u16, columns: u16) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for column in 0..columns {
        let Some(cell) = screen.cell(row, column) else {
            continue;
        };
        let (foreground, background) = colours(cell);
        let text = match cell.contents() {
            "" => " ",
            text => text,
        };
        match runs.last_mut() {
            // A run begins anew after blanks, so that a font of another width does no harm.
            Some(run)
                if run.foreground == foreground
                    && run.background == background
                    && run.bold == cell.bold()
                    && !(run.text.ends_with("  ") && text != " ") =>
            {
                run.text.push_str(text);
                run.cells += 1;
            }
            _ => runs.push(Run {
                from: column,
                cells: 1,
                text: text.to_owned(),
                foreground,
                background,
                bold: cell.bold(),
            }),
        }
    }
    runs
}

fn colours(cell: &Cell) -> (&'static str, &'static str) {
    let of = |colour: Color, default| match colour {
        Color::Idx(index) => COLOURS[usize::from(index % 8)],
        Color::Default | Color::Rgb(..) => default,
    };
    let foreground = of(cell.fgcolor(), FOREGROUND);
    let background = of(cell.bgcolor(), BACKGROUND);
    if cell.inverse() {
        (background, foreground)
    } else {
        (foreground, background)
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
