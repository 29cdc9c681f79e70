//! Reads typed values out of a TOML text that a user wrote, and words the refusal of those that
//! don't fit. Knows nothing of which keys there are: `config.toml` is the daemon's, a project's
//! `borealis.toml` is borealisctl's.

mod duration;

use std::{
    net::SocketAddr,
    ops::{Range, RangeInclusive},
    path::{Path, PathBuf},
    time::Duration,
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// Why a config file is refused: one sentence that names the file, the line and the
/// column, the key, what it was given and what would be accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}{position} {problem}", file = file.display(), position = position.map(|(line, column)| format!(":{line}:{column}:")).unwrap_or_default())]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// Line and column, both counted from 1; `None` where the file can't be read at all.
    pub position: Option<(usize, usize)>,
    /// What is wrong there and what would be right.
    pub problem: String,
}

/// A file's text while it is judged.
#[derive(Debug)]
pub struct Source<'a> {
    /// The file's name, for errors.
    pub file: &'a Path,
    /// What is in it.
    pub text: &'a str,
}

/// One table of the file.
#[derive(Debug)]
pub struct Section<'a> {
    source: &'a Source<'a>,
    /// `"rotation."`; empty for the file's own keys.
    prefix: &'static str,
    span: Range<usize>,
    table: &'a DeTable<'a>,
}

/// A key that is there, and its value.
#[derive(Debug)]
pub struct Entry<'a> {
    source: &'a Source<'a>,
    key: String,
    value: &'a Spanned<DeValue<'a>>,
}

// === impl Source ===

impl<'a> Source<'a> {
    /// The error at a place of the text.
    pub fn error(&self, span: Range<usize>, problem: impl Into<String>) -> ConfigError {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        ConfigError {
            file: self.file.to_path_buf(),
            position: Some((
                before.matches('\n').count() + 1,
                before[line_start..].chars().count() + 1,
            )),
            problem: problem.into(),
        }
    }

    /// The file's own keys.
    ///
    /// # Errors
    /// Where the text is no TOML.
    pub fn parse(&self) -> Result<Spanned<DeTable<'a>>, ConfigError> {
        DeTable::parse(self.text).map_err(|error| {
            self.error(
                error.span().unwrap_or(0..0),
                format!("this is not valid TOML: {}", error.message()),
            )
        })
    }

    /// The table of the file's own keys.
    pub fn root(&'a self, table: &'a Spanned<DeTable<'a>>) -> Section<'a> {
        Section {
            source: self,
            prefix: "",
            span: table.span(),
            table: table.get_ref(),
        }
    }

    /// The value as the user wrote it, on one line and not too long.
    fn quote(&self, span: Range<usize>) -> String {
        const LONGEST: usize = 60;
        let text = self.text.get(span).unwrap_or_default();
        let line: String = text
            .lines()
            .next()
            .unwrap_or_default()
            .chars()
            .take(LONGEST)
            .collect();
        if line.len() < text.len() {
            format!("{line}…")
        } else {
            line
        }
    }
}

// === impl Section ===

impl<'a> Section<'a> {
    /// Refuses every key that isn't one of these.
    ///
    /// # Errors
    /// The first one that isn't.
    pub fn only(&self, accepted: &[&str]) -> Result<(), ConfigError> {
        let unknown = self
            .table
            .keys()
            .filter(|key| !accepted.contains(&key.get_ref().as_ref()))
            .min_by_key(|key| key.span().start);
        match unknown {
            None => Ok(()),
            Some(key) => Err(self.source.error(
                key.span(),
                format!(
                    "there is no key {}{}{}; accepted {}: {}",
                    self.prefix,
                    key.get_ref(),
                    nearest(key.get_ref(), accepted),
                    match self.prefix {
                        "" => "at the top".to_owned(),
                        prefix => format!("in [{}]", prefix.trim_end_matches('.')),
                    },
                    accepted.join(", ")
                ),
            )),
        }
    }

    /// A key that may be there.
    pub fn get(&self, key: &str) -> Option<Entry<'a>> {
        self.table.get(key).map(|value| Entry {
            source: self.source,
            key: format!("{}{key}", self.prefix),
            value,
        })
    }

    /// Where the table begins, counted from 1.
    pub fn line(&self) -> usize {
        let before = self.source.text.get(..self.span.start).unwrap_or_default();
        before.matches('\n').count() + 1
    }

    /// An error at a key itself, or at the table where it has no such key.
    pub fn error_at_key(&self, key: &str, problem: impl Into<String>) -> ConfigError {
        let named = self.table.get_key_value(key);
        let span = named.map_or(self.span.clone(), |(key, _)| key.span());
        self.source.error(span, problem)
    }

    /// An error at a key's value, or at the table where it has no such key.
    pub fn error_at(&self, key: &str, problem: impl Into<String>) -> ConfigError {
        let span = self.table.get(key).map_or(self.span.clone(), Spanned::span);
        self.source.error(span, problem)
    }

    /// A key that must be there.
    ///
    /// # Errors
    /// That it isn't, with an example of its value.
    pub fn require(&self, key: &str, example: &str) -> Result<Entry<'a>, ConfigError> {
        self.get(key).ok_or_else(|| {
            let problem = format!("{}{key} is missing; accepted: {example}", self.prefix);
            self.error_at(key, problem)
        })
    }
}

/// The key that was meant, where one is near enough, as the command line's parser has it.
fn nearest(typed: &str, accepted: &[&str]) -> String {
    accepted
        .iter()
        .map(|key| (strsim::jaro(typed, key), key))
        .filter(|(likeness, _)| *likeness > 0.7)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map_or_else(String::new, |(_, key)| format!(" (did you mean {key}?)"))
}

// === impl Entry ===

impl<'a> Entry<'a> {
    /// Refuses the value, with what would be accepted in its place.
    pub fn refuse(&self, accepted: impl std::fmt::Display) -> ConfigError {
        self.error(format!(
            "{} = {} is not accepted; accepted: {accepted}",
            self.key,
            self.source.quote(self.value.span()),
        ))
    }

    /// An error at the value's place, in the caller's own words.
    pub fn error(&self, problem: impl Into<String>) -> ConfigError {
        self.source.error(self.value.span(), problem)
    }

    /// The key with the names of its tables.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// A text that isn't empty.
    ///
    /// # Errors
    /// Where it is something else, with what would be accepted.
    pub fn text(&self, accepted: &str) -> Result<&'a str, ConfigError> {
        match self.value.get_ref().as_str().map(str::trim) {
            Some(text) if !text.is_empty() => Ok(text),
            _ => Err(self.refuse(accepted)),
        }
    }

    /// `true` or `false`.
    ///
    /// # Errors
    /// Where it is something else, with what would be accepted.
    pub fn flag(&self) -> Result<bool, ConfigError> {
        let flag = self.value.get_ref().as_bool();
        flag.ok_or_else(|| self.refuse("true, false"))
    }

    /// One of a few words.
    ///
    /// # Errors
    /// Where it is something else, with what would be accepted.
    pub fn word<T: Copy>(&self, words: &[(&str, T)]) -> Result<T, ConfigError> {
        let given = self.value.get_ref().as_str();
        words
            .iter()
            .find(|(word, _)| Some(*word) == given)
            .map(|(_, meaning)| *meaning)
            .ok_or_else(|| {
                let words: Vec<_> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
                self.refuse(words.join(", "))
            })
    }

    /// A whole number.
    ///
    /// # Errors
    /// Where it is something else, with what would be accepted.
    pub fn number<T>(&self, bounds: RangeInclusive<T>) -> Result<T, ConfigError>
    where
        T: TryFrom<i64> + PartialOrd + std::fmt::Display,
    {
        self.integer()
            .and_then(|number| T::try_from(number).ok())
            .filter(|number| bounds.contains(number))
            .ok_or_else(|| {
                self.refuse(format_args!(
                    "a whole number from {} to {}",
                    bounds.start(),
                    bounds.end()
                ))
            })
    }

    /// A span of time within bounds.
    ///
    /// # Errors
    /// Where it is something else, with what would be accepted.
    pub fn duration(&self, bounds: RangeInclusive<Duration>) -> Result<Duration, ConfigError> {
        self.span_of_time()
            .filter(|duration| bounds.contains(duration))
            .ok_or_else(|| self.refuse(Self::durations(&bounds)))
    }

    /// A span of time within bounds, or 0 for `None`.
    ///
    /// # Errors
    /// Where it is something else, with what would be accepted.
    pub fn duration_or_off(
        &self,
        bounds: RangeInclusive<Duration>,
    ) -> Result<Option<Duration>, ConfigError> {
        match self.span_of_time() {
            Some(Duration::ZERO) => Ok(None),
            Some(duration) if bounds.contains(&duration) => Ok(Some(duration)),
            _ => Err(self.refuse(format_args!("0 for off, or {}", Self::durations(&bounds)))),
        }
    }

    /// An address of this machine that no other machine reaches, with a port.
    ///
    /// # Errors
    /// Where it is something else, with what would be accepted.
    pub fn loopback(&self) -> Result<SocketAddr, ConfigError> {
        self.value
            .get_ref()
            .as_str()
            .and_then(|text| text.parse::<SocketAddr>().ok())
            .filter(|address| address.ip().is_loopback())
            .ok_or_else(|| {
                self.refuse(
                    r#"a loopback address with a port, such as "127.0.0.1:9187" or "[::1]:9187""#,
                )
            })
    }

    /// The tables of an array of tables.
    ///
    /// # Errors
    /// Where it is something else, with what would be accepted.
    pub fn sections(&self, prefix: &'static str) -> Result<Vec<Section<'a>>, ConfigError> {
        let refuse = || self.refuse(format_args!("tables headed [[{}]]", self.key));
        let DeValue::Array(array) = self.value.get_ref() else {
            return Err(refuse());
        };
        array
            .iter()
            .map(|element| match element.get_ref() {
                DeValue::Table(table) => Ok(Section {
                    source: self.source,
                    prefix,
                    span: element.span(),
                    table,
                }),
                _ => Err(refuse()),
            })
            .collect()
    }

    /// A table.
    ///
    /// # Errors
    /// Where it is something else, with what would be accepted.
    pub fn section(&self, prefix: &'static str) -> Result<Section<'a>, ConfigError> {
        match self.value.get_ref() {
            DeValue::Table(table) => Ok(Section {
                source: self.source,
                prefix,
                span: self.value.span(),
                table,
            }),
            _ => Err(self.refuse(format_args!("a table headed [{}]", self.key))),
        }
    }

    fn integer(&self) -> Option<i64> {
        let integer = self.value.get_ref().as_integer()?;
        i64::from_str_radix(integer.as_str(), integer.radix()).ok()
    }

    /// A bare number has no unit, so only zero says how long it is.
    fn span_of_time(&self) -> Option<Duration> {
        match (self.value.get_ref().as_str(), self.integer()) {
            (_, Some(0)) | (Some("0"), _) => Some(Duration::ZERO),
            (Some(text), _) => duration::parse(text),
            _ => None,
        }
    }

    fn durations(bounds: &RangeInclusive<Duration>) -> String {
        format!(
            r#"a time with its unit, such as "30s", "5m" or "8h", from "{}" to "{}""#,
            duration::render(*bounds.start()),
            duration::render(*bounds.end())
        )
    }
}
