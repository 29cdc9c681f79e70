//! The only place that prints. Results go to standard output in the chosen format; notes,
//! warnings, failures and the spinner to standard error. What people read is a [`Text`]:
//! nothing from outside steers their terminal.

mod account;
pub(crate) mod addon;
pub(crate) mod checks;
pub(crate) mod connections;
pub(crate) mod csv;
pub(crate) mod daemon;
pub(crate) mod events;
mod extensions;
mod format;
mod integrations;
pub(crate) mod json;
mod progress;
mod prompt;
pub(crate) mod quote;
mod reader;
mod record;
mod restore;
pub(crate) mod result_set;
pub(crate) mod screen;
pub(crate) mod session;
mod size;
mod spinner;
mod table;
pub(crate) mod text;
pub(crate) mod time;
pub(crate) mod top;
mod upgrade;
mod users;
pub(crate) mod words;
pub(crate) mod yaml;

use std::{
    borrow::Cow,
    io::{self, IsTerminal as _, Write},
    process::ExitCode,
};

use anstyle::AnsiColor;
use clap::CommandFactory as _;
use serde::Serialize;

use crate::{
    args::{Cli, Global},
    failure::{Exit, Failure, one_line},
};

pub(crate) use format::Format;
pub(crate) use spinner::Spinner;
pub(crate) use text::Text;
pub(crate) use time::now;

use text::LONGEST;

/// Where and how things are printed.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    /// The format of results.
    pub(crate) format: Format,
    results: Paint,
    remarks: Paint,
    quiet: bool,
    /// Standard output is one.
    on_terminal: bool,
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
            on_terminal: io::stdout().is_terminal(),
        }
    }

    /// Whether results are shown on a terminal.
    pub(crate) fn on_terminal(&self) -> bool {
        self.on_terminal
    }

    /// Writes a result for people.
    ///
    /// # Errors
    /// When standard output can't be written, a reader that has gone away included.
    pub(crate) fn text(&self, text: &Text) -> Result<(), Failure> {
        write(text.as_str().as_bytes())
    }

    /// Writes a result that isn't for people, as it stands. On a terminal somebody reads it
    /// all the same: there it is shown as everything is.
    ///
    /// # Errors
    /// When standard output can't be written, a reader that has gone away included.
    pub(crate) fn data(&self, data: &[u8]) -> Result<(), Failure> {
        write(&self.as_data(data))
    }

    /// The data as [`Output::data`] writes it.
    pub(crate) fn as_data<'a>(&self, data: &'a [u8]) -> Cow<'a, [u8]> {
        if !self.on_terminal {
            return Cow::Borrowed(data);
        }
        let text = String::from_utf8_lossy(data);
        Cow::Owned(text::block(&text).into_owned().into_bytes())
    }

    /// Writes a value as one line of JSON, for a reader that gets many.
    ///
    /// # Errors
    /// When standard output can't be written, a reader that has gone away included.
    pub(crate) fn json_line(&self, value: &impl Serialize) -> Result<(), Failure> {
        let line = serde_json::to_string(value).map_err(|error| unprintable(&error))?;
        self.text(&Text::lines(text::escape_in_quotes(&(line + "\n"))))
    }

    /// Writes a value for programs: as YAML where that is the format, else as JSON.
    ///
    /// # Errors
    /// When standard output can't be written.
    pub(crate) fn value(&self, value: &impl Serialize) -> Result<(), Failure> {
        let document = match self.format {
            Format::Yaml => yaml::document(value),
            _ => serde_json::to_string_pretty(value).map(|json| json + "\n"),
        };
        let document = document.map_err(|error| unprintable(&error))?;
        self.text(&Text::lines(text::escape_in_quotes(&document)))
    }

    /// Tells a person something that is no result, on one line. `--quiet` leaves it out.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet {
            let text = text::line(text);
            remark(&Text::lines(text::cut(&text, LONGEST)));
        }
    }

    /// Tells of something that may be wrong. `--quiet` leaves it out.
    pub(crate) fn warning(&self, text: &str) {
        if !self.quiet {
            let text = text::line(text);
            let text = format!(" {}", text::cut(&text, LONGEST));
            remark(&label(self.remarks, AnsiColor::Yellow, "warning:").then(text));
        }
    }

    /// What the database says beside its results.
    pub(crate) fn notice(&self, text: &str) {
        remark(&Text::lines(text));
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
            Spinner::start(&text)
        }
    }
}

/// The columns of the terminal that results are shown on.
fn terminal_width() -> Option<usize> {
    let stdout = io::stdout();
    let size = stdout
        .is_terminal()
        .then(|| rustix::termios::tcgetwinsize(&stdout).ok())??;
    Some(usize::from(size.ws_col)).filter(|&width| width > 0)
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
    let sentence = |text: &str| format!(" {}", text::cut(&text::line(text), LONGEST));
    let mut text = label(paint, AnsiColor::Red, "error:").then(sentence(&failure.message));
    for detail in &failure.details {
        text.push("\n");
        text.push(text::cut(detail, LONGEST * 4));
    }
    if let Some(hint) = &failure.hint {
        text.push("\n");
        text.append(&label(paint, AnsiColor::Cyan, "hint:").then(sentence(hint)));
    }
    remark(&text);
}

fn label(paint: Paint, colour: AnsiColor, text: &str) -> Text {
    Text::new().styled(paint, colour.on_default().bold(), text)
}

/// Writes a line to standard error. There is nobody to tell when that fails.
fn remark(text: &Text) {
    let _ = writeln!(io::stderr().lock(), "{}", text.as_str());
}

fn write(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(bytes)
        .and_then(|()| stdout.flush())
        .map_err(|error| Failure::output(&error))
}

fn unprintable(error: &serde_json::Error) -> Failure {
    Failure::failed(format!("can't print the result: {error}"))
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
