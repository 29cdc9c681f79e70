//! The only place that prints. Results go to standard output in the chosen format; notes,
//! warnings, failures and the spinner to standard error.

mod account;
pub(crate) mod addon;
pub(crate) mod checks;
pub(crate) mod csv;
pub(crate) mod daemon;
pub(crate) mod events;
mod extensions;
mod integrations;
pub(crate) mod json;
mod progress;
mod prompt;
pub(crate) mod quote;
mod record;
mod restore;
pub(crate) mod result_set;
mod screen;
pub(crate) mod session;
mod size;
mod spinner;
mod table;
mod time;
pub(crate) mod top;
mod upgrade;
mod users;
pub(crate) mod yaml;

use std::{
    io::{self, IsTerminal as _, Write},
    process::ExitCode,
};

use anstyle::{AnsiColor, Style};
use clap::CommandFactory as _;
use serde::Serialize;

use crate::{
    args::{Cli, Format, Global},
    failure::{Exit, Failure, one_line},
};

pub(crate) use spinner::Spinner;

/// Where and how things are printed.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    /// The format of results.
    pub(crate) format: Format,
    results: Paint,
    remarks: Paint,
    quiet: bool,
}

/// Whether a stream takes colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Paint {
    /// A terminal that takes them.
    Coloured,
    /// Anything else.
    Plain,
}

// === impl Paint ===

impl Paint {
    fn of(stream: &impl io::IsTerminal, refused: bool) -> Self {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        if refused || dumb || set("NO_COLOR") || !stream.is_terminal() {
            Self::Plain
        } else {
            Self::Coloured
        }
    }

    /// `text` in `style`, where the stream takes it.
    pub(crate) fn paint(self, style: Style, text: &str) -> String {
        match self {
            Self::Coloured => format!("{style}{text}{style:#}"),
            Self::Plain => text.to_owned(),
        }
    }
}

// === impl Output ===

impl Output {
    /// By the global flags and what the streams are.
    pub(crate) fn new(global: &Global) -> Self {
        Self {
            format: global.format,
            results: Paint::of(&io::stdout(), global.no_color),
            remarks: Paint::of(&io::stderr(), global.no_color),
            quiet: global.quiet,
        }
    }

    /// Writes a result as it stands.
    ///
    /// # Errors
    /// When standard output can't be written, a reader that has gone away included.
    pub(crate) fn text(&self, text: &str) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        stdout
            .write_all(text.as_bytes())
            .and_then(|()| stdout.flush())
            .map_err(|error| Failure::output(&error))
    }

    /// Writes a value for programs: as YAML where that is the format, else as JSON.
    ///
    /// # Errors
    /// When standard output can't be written.
    pub(crate) fn value(&self, value: &impl Serialize) -> Result<(), Failure> {
        let unprintable = |error: &dyn std::fmt::Display| {
            Failure::failed(format!("can't print the result: {error}"))
        };
        let mut text = match self.format {
            Format::Yaml => serde_saphyr::to_string(value).map_err(|error| unprintable(&error))?,
            _ => serde_json::to_string_pretty(value).map_err(|error| unprintable(&error))?,
        };
        if !text.ends_with('\n') {
            text.push('\n');
        }
        self.text(&text)
    }

    /// Tells a person something that is no result. `--quiet` leaves it out.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet {
            remark(text);
        }
    }

    /// Tells of something that may be wrong. `--quiet` leaves it out.
    pub(crate) fn warning(&self, text: &str) {
        if !self.quiet {
            let label = self.remarks.paint(bold(AnsiColor::Yellow), "warning:");
            remark(&format!("{label} {text}"));
        }
    }

    /// What the database says beside its results.
    pub(crate) fn notice(&self, text: &str) {
        remark(text);
    }

    /// Tells why the command failed: one line, and a hint where there is one.
    pub(crate) fn failure(&self, failure: &Failure) {
        tell(failure, self.remarks);
    }

    /// Shows that something is under way, on a terminal, until it is dropped.
    pub(crate) fn spinner(&self, text: String) -> Spinner {
        if self.quiet || !io::stderr().is_terminal() {
            Spinner::none()
        } else {
            Spinner::start(text)
        }
    }
}

/// Tells what is wrong with the command line, or prints the help that was asked for.
pub(crate) fn usage(error: &clap::Error, plain: bool) -> ExitCode {
    use clap::error::ErrorKind;
    match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            // A reader that has gone away needs no help.
            let _ = error.print();
            u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
        }
        _ => {
            let failure = usage_failure(&error.render().to_string(), typed_command().as_deref());
            tell(&failure, Paint::of(&io::stderr(), plain));
            ExitCode::from(Exit::Usage.code())
        }
    }
}

/// Brings the parser's report (a paragraph of what, one of tips, one of usage) to a line and a hint.
fn usage_failure(report: &str, command: Option<&str>) -> Failure {
    let mut paragraphs = report.split("\n\n").map(one_line);
    let what = paragraphs.next().unwrap_or_default();
    let what = what.strip_prefix("error: ").unwrap_or(&what).to_owned();
    let mut hint = None;
    for paragraph in paragraphs {
        if let Some(tip) = paragraph.strip_prefix("tip: ") {
            hint = Some(tip.to_owned());
        }
    }
    let help = || match command {
        Some(command) => format!("see `borealisctl {command} --help`"),
        None => "see `borealisctl --help`".to_owned(),
    };
    Failure::usage(what).with_hint(hint.unwrap_or_else(help))
}

/// The command among the words that were typed, right or wrong.
fn typed_command() -> Option<String> {
    let known = Cli::command();
    std::env::args_os()
        .skip(1)
        .filter_map(|word| word.into_string().ok())
        .find(|word| known.find_subcommand(word).is_some())
}

fn tell(failure: &Failure, paint: Paint) {
    if failure.message.is_empty() {
        return;
    }
    let mut text = format!(
        "{} {}",
        paint.paint(bold(AnsiColor::Red), "error:"),
        failure.message
    );
    for line in &failure.details {
        text.push('\n');
        text.push_str(line);
    }
    if let Some(hint) = &failure.hint {
        text.push_str(&format!(
            "\n{} {hint}",
            paint.paint(bold(AnsiColor::Cyan), "hint:")
        ));
    }
    remark(&text);
}

fn bold(colour: AnsiColor) -> Style {
    colour.on_default().bold()
}

/// Writes a line to standard error. There is nobody to tell when that fails.
fn remark(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_errors_become_a_line_and_a_hint() {
        let failure = usage_failure(
            "error: unexpected argument '--fro' found\n\n  tip: a similar argument exists: '--for'\n\n\
             Usage: borealisctl open [OPTIONS]\n\nFor more information, try '--help'.\n",
            Some("completions"),
        );
        assert_eq!(failure.message, "unexpected argument '--fro' found");
        assert_eq!(
            failure.hint.as_deref(),
            Some("a similar argument exists: '--for'")
        );
        let failure = usage_failure(
            "error: the following required arguments were not provided:\n  <SHELL>\n\n\
             Usage: borealisctl completions <SHELL>\n\nFor more information, try '--help'.\n",
            Some("completions"),
        );
        assert_eq!(
            failure.message,
            "the following required arguments were not provided: <SHELL>"
        );
        assert_eq!(
            failure.hint.as_deref(),
            Some("see `borealisctl completions --help`")
        );
    }
}
