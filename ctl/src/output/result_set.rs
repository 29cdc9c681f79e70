//! A result set, row by row: as a table like psql's, CSV, JSON or YAML. Memory doesn't grow
//! with the number of rows; a table has to be told the widths of its columns before.

use std::{
    borrow::Cow,
    fs::File,
    io::{self, BufWriter, Write},
    os::fd::AsFd as _,
};

use anstyle::Style;
use borealis_proto::text::is_unsafe;
use unicode_width::UnicodeWidthStr as _;

use super::{
    Format, Output, Paint, Text, csv, json,
    text::{block, push_shown},
    yaml,
};
use crate::failure::Failure;

/// A column of a result set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Column {
    /// As the statement named it.
    pub(crate) name: String,
    /// What JSON has for its type.
    pub(crate) kind: json::Kind,
}

/// A row: a value or a null for each column.
pub(crate) type Row<'a> = [Option<&'a [u8]>];

/// Where results of any length go: standard output without the line buffering of Rust's own.
pub(crate) type Results = BufWriter<File>;

/// How wide each column of a table is, as far as its rows have been seen.
#[derive(Debug, Clone)]
pub(crate) struct Widths(Vec<usize>);

/// Writes one result set.
#[derive(Debug)]
pub(crate) struct Writer<W> {
    out: W,
    layout: Layout,
    rows: u64,
}

#[derive(Debug)]
enum Layout {
    Csv {
        heading: Vec<String>,
        on_terminal: bool,
    },
    Json {
        keys: Vec<String>,
        kinds: Vec<json::Kind>,
    },
    Yaml {
        keys: Vec<String>,
        kinds: Vec<json::Kind>,
    },
    Table {
        columns: Vec<Column>,
        widths: Widths,
        paint: Paint,
    },
}

// === impl Output ===

impl Output {
    /// Standard output for results of any length; what is written must be flushed.
    ///
    /// # Errors
    /// When the process was started without a standard output.
    pub(crate) fn results(&self) -> Result<Results, Failure> {
        let stdout = io::stdout()
            .as_fd()
            .try_clone_to_owned()
            .map_err(|error| Failure::output(&error))?;
        Ok(BufWriter::with_capacity(64 * 1024, File::from(stdout)))
    }

    /// A writer for one result set of these columns.
    pub(crate) fn result_set<W: Write>(
        &self,
        columns: &[Column],
        widths: Widths,
        out: W,
    ) -> Writer<W> {
        let names: Vec<String> = columns.iter().map(|column| column.name.clone()).collect();
        let kinds = columns.iter().map(|column| column.kind).collect();
        let layout = match self.format {
            Format::Csv => Layout::Csv {
                heading: names,
                on_terminal: self.on_terminal,
            },
            Format::Json => Layout::Json {
                keys: json::unique_names(&names)
                    .iter()
                    .map(|name| json::string(name))
                    .collect(),
                kinds,
            },
            Format::Yaml => Layout::Yaml {
                keys: json::unique_names(&names)
                    .iter()
                    .map(|name| yaml::text(name))
                    .collect(),
                kinds,
            },
            Format::Table => Layout::Table {
                columns: columns.to_vec(),
                widths,
                paint: self.results,
            },
        };
        Writer {
            out,
            layout,
            rows: 0,
        }
    }

    /// What is printed of statements none of which has rows to show; to people their tags are.
    pub(crate) fn without_rows(&self) -> &'static str {
        match self.format {
            Format::Table | Format::Csv => "",
            Format::Json | Format::Yaml => "[]\n",
        }
    }

    /// What stands between two result sets, so that a program can tell them apart: JSON's
    /// arrays need nothing, YAML's are documents.
    pub(crate) fn between_results(&self) -> &'static str {
        match self.format {
            Format::Table | Format::Csv => "\n",
            Format::Json => "",
            Format::Yaml => "---\n",
        }
    }
}

// === impl Widths ===

impl Widths {
    /// Those of the headings.
    pub(crate) fn new(columns: &[Column]) -> Self {
        Self(
            columns
                .iter()
                .map(|column| shown(column.name.as_bytes()).replace('\n', " ").width())
                .collect(),
        )
    }

    /// Widens the columns for one more row.
    pub(crate) fn see(&mut self, row: &Row<'_>) {
        for (width, value) in self.0.iter_mut().zip(row) {
            let needed = match value {
                None => NULL.len(),
                Some(bytes) => width_of(bytes),
            };
            *width = needed.max(*width);
        }
    }
}

// === impl Writer ===

impl<W: Write> Writer<W> {
    /// What stands before the first row.
    ///
    /// # Errors
    /// Those of the writer below.
    pub(crate) fn begin(&mut self) -> io::Result<()> {
        let out = &mut self.out;
        match &self.layout {
            Layout::Csv {
                heading,
                on_terminal: false,
            } => csv::line(out, heading.iter().map(|n| Some(n.as_bytes()))),
            Layout::Csv { heading, .. } => {
                let heading: Vec<_> = heading.iter().map(|name| block(name)).collect();
                csv::line(out, heading.iter().map(|n| Some(n.as_bytes())))
            }
            Layout::Json { .. } => out.write_all(b"["),
            Layout::Yaml { .. } => Ok(()),
            Layout::Table {
                columns,
                widths,
                paint,
            } => table_heading(out, columns, widths, *paint),
        }
    }

    /// One row.
    ///
    /// # Errors
    /// Those of the writer below.
    pub(crate) fn row(&mut self, row: &Row<'_>) -> io::Result<()> {
        let out = &mut self.out;
        let first = self.rows == 0;
        self.rows += 1;
        match &self.layout {
            Layout::Csv {
                on_terminal: false, ..
            } => csv::line(out, row.iter().copied()),
            Layout::Csv { .. } => {
                let shown = |bytes| block(&String::from_utf8_lossy(bytes)).into_owned();
                let row: Vec<_> = row.iter().map(|value| value.map(shown)).collect();
                csv::line(
                    out,
                    row.iter().map(|value| value.as_deref().map(str::as_bytes)),
                )
            }
            Layout::Json { keys, kinds } => {
                out.write_all(if first { b"\n{" } else { b",\n{" })?;
                for (index, value) in row.iter().enumerate() {
                    let comma = if index == 0 { "" } else { "," };
                    let kind = kinds.get(index).copied().unwrap_or(json::Kind::Text);
                    let key = keys.get(index).map_or("\"\"", String::as_str);
                    write!(out, "{comma}{key}:{}", json::value(kind, *value))?;
                }
                out.write_all(b"}")
            }
            Layout::Yaml { keys, .. } if keys.is_empty() => out.write_all(b"- {}\n"),
            Layout::Yaml { keys, kinds } => {
                for (index, ((key, kind), value)) in keys.iter().zip(kinds).zip(row).enumerate() {
                    let dash = if index == 0 { "- " } else { "  " };
                    writeln!(out, "{dash}{key}: {}", yaml::value(*kind, *value))?;
                }
                Ok(())
            }
            Layout::Table {
                columns,
                widths,
                paint,
            } => table_row(out, columns, widths, *paint, row),
        }
    }

    /// What stands after the last row.
    ///
    /// # Errors
    /// Those of the writer below.
    pub(crate) fn end(&mut self) -> io::Result<()> {
        let out = &mut self.out;
        match (&self.layout, self.rows) {
            (Layout::Csv { .. }, _) => {}
            (Layout::Json { .. }, 0) => out.write_all(b"]\n")?,
            (Layout::Json { .. }, _) => out.write_all(b"\n]\n")?,
            (Layout::Yaml { .. }, 0) => out.write_all(b"[]\n")?,
            (Layout::Yaml { .. }, _) => {}
            (Layout::Table { .. }, 1) => out.write_all(b"(1 row)\n")?,
            (Layout::Table { .. }, rows) => writeln!(out, "({rows} rows)")?,
        }
        out.flush()
    }

    /// Hands on what has been written.
    ///
    /// # Errors
    /// Those of the writer below.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

// --- tables ---

/// Can be told from an empty text, other than with psql's default.
const NULL: &str = "NULL";

fn table_heading(
    out: &mut impl Write,
    columns: &[Column],
    widths: &Widths,
    paint: Paint,
) -> io::Result<()> {
    let mut heading = Text::new();
    let mut rule = String::new();
    for (index, (column, width)) in columns.iter().zip(&widths.0).enumerate() {
        if index > 0 {
            heading.push("|");
            rule.push('+');
        }
        let name = shown(column.name.as_bytes()).replace('\n', " ");
        let free = width.saturating_sub(name.width());
        heading = heading
            .then(" ".repeat(1 + free / 2))
            .styled(paint, Style::new().bold(), &name)
            .then(" ".repeat(1 + free - free / 2));
        rule.push_str(&"-".repeat(width + 2));
    }
    writeln!(out, "{}\n{rule}", heading.as_str().trim_end())
}

/// A row takes as many lines as its tallest value; a `+` tells that a value goes on.
fn table_row(
    out: &mut impl Write,
    columns: &[Column],
    widths: &Widths,
    paint: Paint,
    row: &Row<'_>,
) -> io::Result<()> {
    let texts: Vec<Option<Cow<'_, str>>> = row.iter().map(|value| value.map(shown)).collect();
    let mut values: Vec<_> = texts
        .iter()
        .map(|text| text.as_deref().map(|text| text.split('\n').peekable()))
        .collect();
    let mut first = true;
    loop {
        let mut line = Text::new();
        let mut more = false;
        for (index, ((column, width), value)) in
            columns.iter().zip(&widths.0).zip(&mut values).enumerate()
        {
            let (text, goes_on) = match value {
                None if first => (NULL, false),
                None => ("", false),
                Some(lines) => (lines.next().unwrap_or_default(), lines.peek().is_some()),
            };
            more |= goes_on;
            let fill = " ".repeat(width.saturating_sub(text.width()));
            let style = match value {
                None => Style::new().dimmed(),
                Some(_) => Style::new(),
            };
            line.push(if index == 0 { " " } else { "| " });
            line = if column.kind == json::Kind::Number {
                line.then(fill).styled(paint, style, text)
            } else {
                line.styled(paint, style, text).then(fill)
            };
            line.push(if goes_on { "+" } else { " " });
        }
        first = false;
        writeln!(out, "{}", line.as_str().trim_end_matches(' '))?;
        if !more {
            return Ok(());
        }
    }
}

fn width_of(bytes: &[u8]) -> usize {
    if bytes.iter().all(|byte| matches!(byte, b' '..=b'~')) {
        return bytes.len();
    }
    let width = |line: &str| line.width();
    shown(bytes)
        .split('\n')
        .map(width)
        .max()
        .unwrap_or_default()
}

/// A value as a terminal may have it: nothing in it moves the cursor, but line breaks.
fn shown(bytes: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(bytes);
    if !text.contains(|c| is_unsafe(c) && c != '\n') {
        return text;
    }
    let mut out = String::with_capacity(text.len());
    let mut column = 0;
    for c in text.chars() {
        let before = out.len();
        match c {
            '\n' => out.push('\n'),
            '\t' => out.push_str(&" ".repeat(8 - column % 8)),
            c => push_shown(&mut out, c),
        }
        column = if c == '\n' {
            0
        } else {
            column + out[before..].width()
        };
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests;
