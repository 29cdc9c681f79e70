//! An event in words: what is kept of it, and what is said of it.

use jiff::Timestamp;

use super::{Event, with_count};
use crate::model::{Cause, Class, SessionName, text};

/// An event in words, which outlive the daemon that chose them: a later one reads what an
/// earlier one wrote, and the other way round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Grows by one with each event, over restarts too.
    pub sequence: u64,
    /// When.
    pub at: Timestamp,
    /// What; stable and machine readable. May be a kind that this version doesn't know.
    pub kind: String,
    /// The session that it happened to; `None` where it happened to the daemon.
    pub session: Option<SessionName>,
    /// What happened, in a sentence on one line, without how often.
    pub message: String,
    /// Why, where it is a failure.
    pub failure: Option<Failure>,
    /// How often it happened, where it is told once for all of them.
    pub count: u64,
    /// The event that told of it until then, and is gone.
    pub replaces: Option<u64>,
}

/// A cause in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Stable and machine readable.
    pub code: String,
    /// What it means to the one who asked.
    pub class: Class,
    /// One sentence on one line.
    pub message: String,
    /// What to do next; empty where there is nothing to do.
    pub hint: String,
}

// === impl Record ===

impl Record {
    /// What happened, in a sentence; the session goes without saying.
    pub fn sentence(&self) -> String {
        with_count(self.message.clone(), self.count)
    }
}

impl From<&Event> for Record {
    fn from(event: &Event) -> Self {
        Self {
            sequence: event.sequence,
            at: event.at,
            kind: event.kind.as_str().to_owned(),
            session: event.session.clone(),
            message: text::line(&event.words()),
            failure: event.cause.as_ref().map(Failure::from),
            count: event.count,
            replaces: event.replaces,
        }
    }
}

impl From<&Cause> for Failure {
    fn from(cause: &Cause) -> Self {
        let (kind, words) = (cause.kind(), cause.words());
        Self {
            code: kind.code.to_owned(),
            class: kind.class,
            message: text::line(&words.sentence),
            hint: text::line(&words.hint),
        }
    }
}
