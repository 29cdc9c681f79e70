//! Writes the log to stderr: which events (`BOREALIS_LOG`, `-v`), in which form, and
//! never, whatever is asked for, the trace events of libraries that could carry a secret.
//!
//! An event is one line, and nothing in it steers a terminal, whatever its values hold: those
//! of libraries, and of our own where nobody thought of it, are escaped here.

use std::{
    fmt,
    io::{self, IsTerminal},
    os::fd::AsFd,
};

use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    field::RecordFields,
    filter::{FilterExt, FilterFn, filter_fn},
    fmt::{
        FmtContext, FormatEvent, FormatFields, MakeWriter,
        format::{Format, Full, Writer},
    },
    layer::{Filter, SubscriberExt},
    registry::LookupSpan,
    util::SubscriberInitExt,
};

use crate::model::text::{self, Escaped};

/// The environment variable that holds the filter.
const FILTER_VARIABLE: &str = "BOREALIS_LOG";

/// The characters of a value that are written.
const LONGEST_VALUE: usize = 4000;

/// The crates whose events are the daemon's own. None of them logs a secret at any level.
const OWN_CRATES: [&str; 2] = ["borealisd", "borealis_proto"];

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// Text; in colour on a terminal, with priorities instead of times for the journal.
    #[default]
    Auto,
    /// Text without colour, with times.
    Text,
    /// One JSON object a line.
    Json,
}

/// Why logging can't begin.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter can't be read.
    #[error(
        "{FILTER_VARIABLE}={given:?} is no log filter: {problem}; accepted: a level (error, warn, info, debug, trace, off), or TARGET=LEVEL, several of them with commas between"
    )]
    Filter {
        /// What the variable holds.
        given: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Somebody set up logging before.
    #[error("logging is set up already")]
    Twice,
}

/// Begins to write the log to stderr. `verbosity` is the number of `-v` flags: they win
/// over the environment for the daemon's own events and leave the others as they are.
///
/// # Errors
/// When `BOREALIS_LOG` holds no filter, or logging has begun already.
pub fn init(format: LogFormat, verbosity: u8) -> Result<(), LogError> {
    let given = std::env::var(FILTER_VARIABLE).unwrap_or_default();
    let filter = filter(&given, verbosity)?;
    let layer: Box<dyn Layer<Registry> + Send + Sync> = match format {
        LogFormat::Json => json(std::io::stderr),
        LogFormat::Text => text(std::io::stderr, Colour::Never),
        LogFormat::Auto if stderr_is_the_journal() => journal(std::io::stderr),
        LogFormat::Auto if std::io::stderr().is_terminal() => text(std::io::stderr, colour()),
        LogFormat::Auto => text(std::io::stderr, Colour::Never),
    };
    tracing_subscriber::registry()
        .with(layer.with_filter(filter))
        .try_init()
        .map_err(|_| LogError::Twice)
}

// === which events ===

fn filter(given: &str, verbosity: u8) -> Result<impl Filter<Registry> + use<>, LogError> {
    let own_level = match verbosity {
        0 => None,
        1 => Some(Level::DEBUG),
        _ => Some(Level::TRACE),
    };
    let mut directives = match given.trim() {
        "" => "info".to_owned(),
        given => given.to_owned(),
    };
    if let Some(level) = own_level {
        for name in OWN_CRATES {
            directives.push_str(&format!(",{name}={level}"));
        }
    }
    let filter = EnvFilter::builder()
        .parse(&directives)
        .map_err(|error| LogError::Filter {
            given: given.to_owned(),
            problem: error.to_string(),
        })?;
    Ok(filter.and(libraries_capped()))
}

/// Libraries end at debug. At trace hyper, rustls, russh and the HPACK coder write message
/// heads, handshake messages and packet contents, which hold tokens, passwords and keys; at
/// debug they write sizes, names, addresses and algorithms.
///
/// The hint lets the other filter's count: without one, every event of every library would be
/// put together only to be thrown away.
fn libraries_capped() -> FilterFn<fn(&Metadata<'_>) -> bool> {
    let passes: fn(&Metadata<'_>) -> bool =
        |metadata| *metadata.level() <= Level::DEBUG || is_own(metadata.target());
    filter_fn(passes).with_max_level_hint(Level::TRACE)
}

fn is_own(target: &str) -> bool {
    OWN_CRATES.iter().any(|name| {
        target
            .strip_prefix(name)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    })
}

// === in which form ===

#[derive(Clone, Copy, PartialEq, Eq)]
enum Colour {
    Always,
    Never,
}

type BoxedLayer = Box<dyn Layer<Registry> + Send + Sync>;

fn json<W>(writer: W) -> BoxedLayer
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_writer(EscapedJson(writer))
        .boxed()
}

fn text<W>(writer: W, colour: Colour) -> BoxedLayer
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    tracing_subscriber::fmt::layer()
        .with_ansi(colour == Colour::Always)
        .fmt_fields(OneLine)
        .with_writer(writer)
        .boxed()
}

/// The journal keeps the time itself and reads the level from a `<N>` at the line's start
/// (sd-daemon(3)).
fn journal<W>(writer: W) -> BoxedLayer
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .fmt_fields(OneLine)
        .event_format(Journal(Format::default().without_time().with_level(false)))
        .with_writer(writer)
        .boxed()
}

struct Journal(Format<Full, ()>);

impl<S, N> FormatEvent<S, N> for Journal
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        // The priorities of syslog(3).
        let priority = match *event.metadata().level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            Level::DEBUG | Level::TRACE => 7,
        };
        write!(writer, "<{priority}>")?;
        self.0.format_event(context, writer, event)
    }
}

/// Writes fields as `tracing_subscriber`'s own formatter does, each escaped and cut.
struct OneLine;

struct Fields<'w> {
    writer: Writer<'w>,
    is_first: bool,
    outcome: fmt::Result,
}

impl<'w> FormatFields<'w> for OneLine {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut visitor = Fields {
            writer,
            is_first: true,
            outcome: Ok(()),
        };
        fields.record(&mut visitor);
        visitor.outcome
    }
}

impl Fields<'_> {
    fn write(&mut self, name: &str, value: &str) -> fmt::Result {
        if !std::mem::take(&mut self.is_first) {
            self.writer.write_char(' ')?;
        }
        if name != "message" {
            let name = name.trim_start_matches("r#");
            if self.writer.has_ansi_escapes() {
                write!(self.writer, "\u{1b}[3m{name}\u{1b}[0m\u{1b}[2m=\u{1b}[0m")?;
            } else {
                write!(self.writer, "{name}=")?;
            }
        }
        write!(self.writer, "{:.LONGEST_VALUE$}", Escaped(value))
    }
}

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.record_debug(field, &format_args!("{value}"));
        } else {
            self.record_debug(field, &value);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if self.outcome.is_ok() {
            self.outcome = self.write(field.name(), &format!("{value:?}"));
        }
    }
}

/// JSON's own escaping leaves DEL, C1 and bidirectional controls as they are. They stand only
/// within its strings, where an escape means the same.
struct EscapedJson<W>(W);

impl<'w, W: MakeWriter<'w>> MakeWriter<'w> for EscapedJson<W> {
    type Writer = EscapedJson<W::Writer>;

    fn make_writer(&'w self) -> Self::Writer {
        EscapedJson(self.0.make_writer())
    }
}

impl<W: io::Write> io::Write for EscapedJson<W> {
    /// Is given whole events.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let line = String::from_utf8_lossy(bytes);
        let is_kept = |c: char| c == '\n' || !text::is_unsafe(c);
        if line.chars().all(is_kept) {
            self.0.write_all(bytes)?;
            return Ok(bytes.len());
        }
        let mut escaped = String::with_capacity(line.len() + 16);
        let mut units = [0; 2];
        for c in line.chars() {
            if is_kept(c) {
                escaped.push(c);
                continue;
            }
            for unit in c.encode_utf16(&mut units) {
                escaped.push_str(&format!("\\u{unit:04x}"));
            }
        }
        self.0.write_all(escaped.as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// See <https://no-color.org>.
fn colour() -> Colour {
    match std::env::var_os("NO_COLOR") {
        Some(value) if !value.is_empty() => Colour::Never,
        _ => Colour::Always,
    }
}

/// systemd names the journal's socket as `device:inode` in `JOURNAL_STREAM`, which a child
/// inherits even where its stderr leads elsewhere; so both are compared (systemd.exec(5)).
fn stderr_is_the_journal() -> bool {
    let Ok(named) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    rustix::fs::fstat(std::io::stderr().as_fd())
        .is_ok_and(|stat| named == format!("{}:{}", stat.st_dev, stat.st_ino))
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        sync::{Arc, Mutex},
    };

    use tracing::level_filters::LevelFilter;

    use super::*;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn written(
        directives: &str,
        verbosity: u8,
        form: fn(Memory) -> BoxedLayer,
        log: fn(),
    ) -> String {
        let memory = Memory::default();
        let layer = form(memory.clone());
        let subscriber = tracing_subscriber::registry()
            .with(layer.with_filter(filter(directives, verbosity).unwrap()));
        tracing::subscriber::with_default(subscriber, log);
        let bytes = memory.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    fn plain(memory: Memory) -> BoxedLayer {
        text(move || memory.clone(), Colour::Never)
    }

    fn some_of_each() {
        tracing::trace!(target: "h2::hpack", "library trace");
        tracing::debug!(target: "russh::client", "library debug");
        tracing::info!(target: "hyper", "library info");
        tracing::trace!(target: "borealisd_evil", "stranger trace");
        tracing::trace!(target: "borealisd::ssh", "own trace");
        tracing::debug!(target: "borealisd", "own debug");
        tracing::info!(target: "borealisd", "own info");
    }

    fn seen(directives: &str, verbosity: u8) -> Vec<&'static str> {
        let text = written(directives, verbosity, plain, some_of_each);
        [
            "library trace",
            "library debug",
            "library info",
            "stranger trace",
            "own trace",
            "own debug",
            "own info",
        ]
        .into_iter()
        .filter(|event| text.contains(event))
        .collect()
    }

    #[test]
    fn what_nobody_wants_is_not_even_put_together() {
        let hint = |directives| filter(directives, 0).unwrap().max_level_hint();
        assert_eq!(hint(""), Some(LevelFilter::INFO));
        assert_eq!(hint("warn,borealisd=debug"), Some(LevelFilter::DEBUG));
    }

    #[test]
    fn no_filter_lets_a_library_trace() {
        let all_but_foreign_traces = [
            "library debug",
            "library info",
            "own trace",
            "own debug",
            "own info",
        ];
        for directives in [
            "trace",
            "h2=trace,russh=trace,trace",
            "h2::hpack=trace,trace",
        ] {
            assert_eq!(seen(directives, 0), all_but_foreign_traces, "{directives}");
            assert_eq!(seen(directives, 3), all_but_foreign_traces, "{directives}");
        }
    }

    #[test]
    fn verbosity_is_about_our_own_events() {
        assert_eq!(seen("", 0), ["library info", "own info"]);
        assert_eq!(seen("", 1), ["library info", "own debug", "own info"]);
        assert_eq!(
            seen("", 2),
            ["library info", "own trace", "own debug", "own info"]
        );
        assert_eq!(seen("warn", 1), ["own debug", "own info"]);
        assert_eq!(seen("off", 0), [""; 0]);
    }

    #[test]
    fn a_wrong_filter_is_named() {
        let error = filter("borealisd=loud", 0).err().unwrap().to_string();
        assert!(
            error.starts_with(r#"BOREALIS_LOG="borealisd=loud" is no log filter: "#),
            "{error}"
        );
    }

    #[test]
    fn journal_lines_have_a_priority_and_no_time() {
        let text = written(
            "info",
            0,
            |memory| journal(move || memory.clone()),
            || {
                tracing::warn!(target: "borealisd", session = "sushi", "tunnel lost");
            },
        );
        assert_eq!(text, "<4>borealisd: tunnel lost session=\"sushi\"\n");
    }

    const EVIL: &str =
        "a\u{1b}[2J\u{7}\0\u{7f}\u{9b}31m\u{202e}\u{2066}\u{2028}b\nERROR borealisd: forged\r\n";

    fn evil_events() {
        let error = io::Error::other(EVIL);
        let span = tracing::info_span!(target: "borealisd", "span", %error, text = EVIL);
        let _entered = span.enter();
        tracing::error!(target: "borealisd", text = EVIL, shown = %EVIL, debugged = ?EVIL, error = &error as &dyn std::error::Error, "{EVIL}");
        tracing::info!(target: "hyper", message = EVIL);
        let long = "x".repeat(10_000);
        let lossy = String::from_utf8_lossy(b"a\xff\x9bb").into_owned();
        tracing::info!(target: "borealisd", %long, %lossy);
    }

    #[test]
    fn no_value_begins_a_line_or_steers_a_terminal() {
        let forms: [fn(Memory) -> BoxedLayer; 3] = [
            plain,
            |memory| journal(move || memory.clone()),
            |memory| json(move || memory.clone()),
        ];
        for form in forms {
            let text = written("trace", 0, form, evil_events);
            let lines: Vec<_> = text.split_terminator('\n').collect();
            assert_eq!(lines.len(), 3, "{text}");
            assert!(!lines.iter().any(|line| line.contains(text::is_unsafe)));
            assert!(text.contains("forged"));
        }
        let coloured: fn(Memory) -> BoxedLayer =
            |memory| text(move || memory.clone(), Colour::Always);
        let text = written("trace", 0, coloured, evil_events);
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(!text.contains("\u{1b}[2J") && !text.contains('\u{9b}'));
    }

    #[test]
    fn json_says_what_it_was_given() {
        let text = written(
            "info",
            0,
            |memory| json(move || memory.clone()),
            || tracing::info!(target: "borealisd", text = EVIL, "{EVIL}"),
        );
        let value: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
        assert_eq!(value["text"], EVIL);
        assert_eq!(value["message"], EVIL);
    }

    #[test]
    fn json_lines_are_json() {
        let text = written(
            "info",
            0,
            |memory| json(move || memory.clone()),
            || {
                tracing::info!(target: "borealisd", session = "sushi", "up");
            },
        );
        let value: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
        assert_eq!(value["message"], "up");
        assert_eq!(value["session"], "sushi");
        assert_eq!(value["level"], "INFO");
    }
}
