//! The doctor's checks: for people as each is done, for programs all at once.

use anstyle::{AnsiColor, Style};
use borealis_proto::v1;
use serde::Serialize;

use super::{
    Format, Output, Text, csv,
    text::{self, LONGEST},
    words::outcome,
};
use crate::failure::Failure;

/// Prints checks as they are made, and counts them.
pub(crate) struct Checks<'a> {
    output: &'a Output,
    subject: Option<String>,
    /// Left out one after the other for the same reason: one line for all.
    skipped: Vec<v1::Check>,
    made: Vec<v1::Check>,
}

#[derive(Serialize)]
struct Record<'a> {
    id: &'a str,
    subject: Option<&'a str>,
    outcome: &'static str,
    found: &'a str,
    hint: Option<&'a str>,
}

// === impl Checks ===

impl<'a> Checks<'a> {
    /// None yet.
    pub(crate) fn new(output: &'a Output) -> Self {
        Self {
            output,
            subject: None,
            skipped: Vec::new(),
            made: Vec::new(),
        }
    }

    /// Takes a check.
    ///
    /// # Errors
    /// When standard output can't be written.
    pub(crate) fn show(&mut self, check: v1::Check) -> Result<(), Failure> {
        if self.output.format == Format::Table {
            let mut text = Text::new();
            let goes_on = check.outcome() == v1::CheckOutcome::Skipped
                && self.skipped.last().is_none_or(|last| {
                    (&last.subject, &last.found) == (&check.subject, &check.found)
                });
            if !goes_on {
                text.append(&self.skipped_line());
            }
            if self.subject.as_ref() != Some(&check.subject) {
                if self.subject.is_some() {
                    text.push("\n");
                }
                let heading = match check.subject.as_str() {
                    "" => "borealisd",
                    subject => subject,
                };
                let bold = Style::new().bold();
                text = text.styled(self.output.results, bold, heading).then("\n");
                self.subject = Some(check.subject.clone());
            }
            if check.outcome() == v1::CheckOutcome::Skipped {
                self.skipped.push(check.clone());
            } else {
                text.append(&self.lines(&check));
            }
            self.output.text(&text)?;
        }
        self.made.push(check);
        Ok(())
    }

    /// Prints what is to be printed at the end; answers whether a check has failed.
    ///
    /// # Errors
    /// When standard output can't be written.
    pub(crate) fn finish(mut self) -> Result<bool, Failure> {
        let rest = self.skipped_line();
        let count = |outcome| self.made.iter().filter(|c| c.outcome() == outcome).count();
        let failed = count(v1::CheckOutcome::Fail);
        match self.output.format {
            Format::Table => {
                let summary = match (failed, count(v1::CheckOutcome::Warn)) {
                    (0, 0) => "Everything is as it should be.".to_owned(),
                    (0, 1) => "Works, but for one thing that needs a look.".to_owned(),
                    (0, warned) => format!("Works, but for {warned} things that need a look."),
                    (1, _) => "One check failed.".to_owned(),
                    (failed, _) => format!("{failed} checks failed."),
                };
                self.output.text(&rest.then(format!("\n{summary}\n")))?;
            }
            Format::Csv => self.output.data(&self.csv())?,
            Format::Json | Format::Yaml => {
                let records: Vec<_> = self.made.iter().map(Record::of).collect();
                self.output.value(&records)?;
            }
        }
        Ok(failed > 0)
    }

    /// Those that were left out, as one; nothing where there are none.
    fn skipped_line(&mut self) -> Text {
        let skipped = std::mem::take(&mut self.skipped);
        let labels: Vec<_> = skipped.iter().map(|check| label(&check.id)).collect();
        match (skipped.first(), labels.len()) {
            (None, _) => Text::new(),
            (Some(first), 1) => self.lines(first),
            (Some(first), _) => {
                let found = format!("{}: {}", labels.join(", "), first.found);
                self.lines(&v1::Check {
                    id: String::new(),
                    found,
                    ..first.clone()
                })
            }
        }
    }

    fn lines(&self, check: &v1::Check) -> Text {
        let colour = match check.outcome() {
            v1::CheckOutcome::Ok => AnsiColor::Green,
            v1::CheckOutcome::Fail => AnsiColor::Red,
            v1::CheckOutcome::Warn => AnsiColor::Yellow,
            _ => AnsiColor::BrightBlack,
        };
        let shown = |text: &str| text::cut(&text::line(text), LONGEST).into_owned();
        let word = format!("{:7}", outcome(check.outcome()));
        let mut text = Text::lines("  ")
            .styled(self.output.results, colour.on_default(), &word)
            .then(format!("  {:12}  ", shown(label(&check.id))))
            .then(shown(&check.found))
            .then("\n");
        if !check.hint.is_empty() {
            text.push(format!("{:25}→ {}\n", "", shown(&check.hint)));
        }
        text
    }

    fn csv(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let keys = ["id", "subject", "outcome", "found", "hint"];
        // Writing to memory can't fail.
        let _ = csv::line(&mut out, keys.map(|key| Some(key.as_bytes())));
        for record in self.made.iter().map(Record::of) {
            let fields = [
                Some(record.id),
                record.subject,
                Some(record.outcome),
                Some(record.found),
                record.hint,
            ];
            let _ = csv::line(&mut out, fields.map(|field| field.map(str::as_bytes)));
        }
        out
    }
}

// === impl Record ===

impl<'a> Record<'a> {
    fn of(check: &'a v1::Check) -> Self {
        let known = |text: &'a str| (!text.is_empty()).then_some(text);
        Self {
            id: &check.id,
            subject: known(&check.subject),
            outcome: outcome(check.outcome()),
            found: &check.found,
            hint: known(&check.hint),
        }
    }
}

/// What a person calls it; an unknown one is shown as it came.
fn label(id: &str) -> &str {
    match id {
        "daemon" => "daemon",
        "addon" => "add-on",
        "addon-state" => "add-on state",
        "heroku-api" => "Heroku API",
        "token-place" => "token place",
        "host-key" => "host key",
        "dns" => "DNS",
        "ssh" => "SSH log-in",
        "tls" => "TLS",
        "database" => "log-in",
        "unit" => "systemd unit",
        other => other,
    }
}
