//! Events: a line each for people and spreadsheets, objects for programs.

use std::mem;

use anstyle::{AnsiColor, Style};
use borealis_proto::v1;
use serde::Serialize;

use super::{
    Format, Output, Text, csv,
    text::{self, LONGEST},
    time::{rfc3339, stamp},
};
use crate::failure::Failure;

/// Prints events as they come.
pub(crate) struct Events<'a> {
    output: &'a Output,
    /// Whether the end is to be waited for, which is never there when events are followed.
    follow: bool,
    pending: Vec<Record>,
    is_first: bool,
}

#[derive(Debug, Serialize)]
struct Record {
    sequence: u64,
    at: Option<String>,
    kind: String,
    session: Option<String>,
    message: String,
    code: Option<String>,
    hint: Option<String>,
    count: u64,
}

// === impl Events ===

impl<'a> Events<'a> {
    /// None yet.
    pub(crate) fn new(output: &'a Output, follow: bool) -> Self {
        Self {
            output,
            follow,
            pending: Vec::new(),
            is_first: true,
        }
    }

    /// Prints an event, or keeps it until the end where the format wants all at once.
    ///
    /// # Errors
    /// When standard output can't be written.
    pub(crate) fn show(&mut self, event: &v1::Event) -> Result<(), Failure> {
        let is_first = mem::replace(&mut self.is_first, false);
        match self.output.format {
            Format::Table => self.output.text(&line(self.output, event)),
            Format::Csv => {
                let mut lines = Vec::new();
                if is_first {
                    heading(&mut lines);
                }
                Record::of(event).write_csv(&mut lines);
                self.output.data(&lines)
            }
            Format::Json if self.follow => self.output.json_line(&Record::of(event)),
            Format::Yaml if self.follow => {
                self.output.text(&Text::lines("---\n"))?;
                self.output.value(&Record::of(event))
            }
            Format::Json | Format::Yaml => {
                self.pending.push(Record::of(event));
                Ok(())
            }
        }
    }

    /// Prints what was kept.
    ///
    /// # Errors
    /// When standard output can't be written.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        match self.output.format {
            Format::Table => Ok(()),
            Format::Csv if self.is_first => {
                let mut lines = Vec::new();
                heading(&mut lines);
                self.output.data(&lines)
            }
            Format::Csv => Ok(()),
            Format::Json | Format::Yaml => self.output.value(&self.pending),
        }
    }
}

/// `2026-11-22 18:42:03  sushi  lost its tunnel: …`
pub(super) fn line(output: &Output, event: &v1::Event) -> Text {
    let paint = output.results;
    let at = stamp(event.at.as_ref()).unwrap_or_default();
    let mut text = Text::new().styled(paint, Style::new().dimmed(), &at);
    if !event.session.is_empty() {
        let bold = Style::new().bold();
        text = text
            .then("  ")
            .styled(paint, bold, &text::name(&event.session));
    }
    let message = text::cut(&event.message, LONGEST);
    let style = match event.failure {
        Some(_) => AnsiColor::Red.on_default(),
        None => Style::new(),
    };
    text.then("  ").styled(paint, style, &message).then("\n")
}

// === impl Record ===

impl Record {
    fn of(event: &v1::Event) -> Self {
        let known = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let failure = event.failure.as_ref();
        Self {
            sequence: event.sequence,
            at: rfc3339(event.at.as_ref()),
            kind: event.kind.clone(),
            session: known(&event.session),
            message: event.message.clone(),
            code: failure.and_then(|failure| known(&failure.code)),
            hint: failure.and_then(|failure| known(&failure.hint)),
            // An earlier daemon says it in the message only.
            count: event.count.max(1),
        }
    }

    fn write_csv(&self, out: &mut Vec<u8>) {
        let (sequence, count) = (self.sequence.to_string(), self.count.to_string());
        let fields = [
            Some(sequence.as_str()),
            self.at.as_deref(),
            Some(&self.kind),
            self.session.as_deref(),
            Some(&self.message),
            self.code.as_deref(),
            self.hint.as_deref(),
            Some(&count),
        ];
        // Writing to memory can't fail.
        let _ = csv::line(out, fields.map(|field| field.map(str::as_bytes)));
    }
}

fn heading(out: &mut Vec<u8>) {
    let keys = [
        "sequence", "at", "kind", "session", "message", "code", "hint", "count",
    ];
    let _ = csv::line(out, keys.map(|key| Some(key.as_bytes())));
}
