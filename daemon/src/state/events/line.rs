//! A line of the file. A new field is optional, so that daemons of several versions read each
//! other's lines.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    journal::{Failure, Record},
    model::{Class, SessionName},
};

/// Longer ones are not ours.
const LONGEST: usize = 64 << 10;
/// Numbers beyond it are not ours, and would leave none for what follows.
const LAST: u64 = u64::MAX / 2;

#[derive(Serialize, Deserialize)]
struct Line<'a> {
    sequence: u64,
    at: Timestamp,
    kind: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    session: Option<Cow<'a, str>>,
    message: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failure: Option<LineFailure<'a>>,
    #[serde(default = "once", skip_serializing_if = "is_once")]
    count: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    replaces: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct LineFailure<'a> {
    code: Cow<'a, str>,
    class: Cow<'a, str>,
    message: Cow<'a, str>,
    #[serde(default)]
    hint: Cow<'a, str>,
}

const CLASSES: [(Class, &str); 5] = [
    (Class::Operation, "operation"),
    (Class::Usage, "usage"),
    (Class::Login, "login"),
    (Class::NotFound, "not-found"),
    (Class::Unavailable, "unavailable"),
];

fn once() -> u64 {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
fn is_once(count: &u64) -> bool {
    *count == 1
}

/// A line for each.
pub(super) fn write(records: &[Record]) -> String {
    let mut text = String::new();
    for record in records {
        // Numbers and strings always make a line.
        if let Ok(line) = serde_json::to_string(&Line::from(record)) {
            text.push_str(&line);
            text.push('\n');
        }
    }
    text
}

/// `None` where it is no event.
pub(super) fn read(line: &[u8]) -> Option<Record> {
    if line.len() > LONGEST {
        return None;
    }
    let line: Line<'_> = serde_json::from_slice(line).ok()?;
    if !(1..=LAST).contains(&line.sequence) {
        return None;
    }
    let session = line.session.map(|name| SessionName::parse(&name));
    Some(Record {
        sequence: line.sequence,
        at: line.at,
        kind: line.kind.into_owned(),
        session: session.transpose().ok()?,
        message: line.message.into_owned(),
        failure: line.failure.map(Failure::from),
        count: line.count,
        replaces: line.replaces,
    })
}

impl<'a> From<&'a Record> for Line<'a> {
    fn from(record: &'a Record) -> Self {
        Self {
            sequence: record.sequence,
            at: record.at,
            kind: record.kind.as_str().into(),
            session: record.session.as_ref().map(|name| name.as_str().into()),
            message: record.message.as_str().into(),
            failure: record.failure.as_ref().map(LineFailure::from),
            count: record.count,
            replaces: record.replaces,
        }
    }
}

impl<'a> From<&'a Failure> for LineFailure<'a> {
    fn from(failure: &'a Failure) -> Self {
        let class = CLASSES.iter().find(|(class, _)| *class == failure.class);
        Self {
            code: failure.code.as_str().into(),
            class: class.map_or("operation", |(_, word)| word).into(),
            message: failure.message.as_str().into(),
            hint: failure.hint.as_str().into(),
        }
    }
}

impl From<LineFailure<'_>> for Failure {
    fn from(line: LineFailure<'_>) -> Self {
        let class = CLASSES.iter().find(|(_, word)| *word == line.class);
        Self {
            code: line.code.into_owned(),
            // A class of a later version.
            class: class.map_or(Class::Operation, |(class, _)| *class),
            message: line.message.into_owned(),
            hint: line.hint.into_owned(),
        }
    }
}
