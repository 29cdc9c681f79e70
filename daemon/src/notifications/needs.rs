//! What the sessions need their user for, by what is known of them: a pure value, to which the
//! time is passed.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp, tz::TimeZone};

use crate::{
    model::{Access, Cause, Class, SessionName, text},
    platform::clock,
    session::machine::Phase,
    supervisor::{SessionId, SessionSnapshot, Snapshot},
};

/// What lasts no longer has passed by itself.
const SETTLE: SignedDuration = SignedDuration::from_secs(2);
/// The same where no token is found: after the start of a machine its user may unlock a
/// keychain first.
const SETTLE_WITHOUT_TOKEN: SignedDuration = SignedDuration::from_secs(60);
/// How long before the end of write access it is told.
const BEFORE_THE_END: SignedDuration = SignedDuration::from_mins(5);
/// The pause before the desktop is tried again.
const RETRY: SignedDuration = SignedDuration::from_mins(5);

/// A cause that needs the user; two sessions may have the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Topic {
    SignIn,
    /// To an add-on.
    Revoked(String),
    /// Over an add-on's credentials.
    Fight(String),
    /// Of a session's write access.
    End(SessionId, Timestamp),
}

/// What is told, as plain text on one line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) summary: String,
    pub(super) body: String,
}

/// What is needed, and what of it was told.
#[derive(Debug, Default)]
pub(super) struct Needs(BTreeMap<Topic, Need>);

#[derive(Debug)]
struct Need {
    /// Whose need it is; nobody's where it is the daemon's.
    sessions: BTreeSet<SessionId>,
    message: Message,
    due: Timestamp,
    was_told: bool,
}

/// What is to be done.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Steps {
    pub(super) to_tell: Vec<(Topic, Message)>,
    /// What was told, and is no longer so.
    pub(super) passed: Vec<Topic>,
}

// === impl Needs ===

impl Needs {
    /// Takes note of how the sessions are now.
    pub(super) fn look(&mut self, snapshot: &Snapshot, now: Timestamp) -> Steps {
        let mut steps = Steps {
            passed: self.forget(snapshot, now),
            ..Steps::default()
        };
        for session in &snapshot.sessions {
            self.look_at(session, now);
        }
        for cause in &snapshot.problems {
            if let Cause::CredentialsContested { addon, .. } = cause {
                let summary = "Two of your machines take each other's database password away";
                let message = Message::of(summary.to_owned(), cause, "");
                self.add(Topic::Fight(addon.clone()), None, message, now);
            }
        }
        let due = self
            .0
            .iter()
            .filter(|(_, need)| !need.was_told && need.due <= now);
        steps.to_tell = due
            .map(|(topic, need)| (topic.clone(), need.message.clone()))
            .collect();
        steps
    }

    /// Takes note of whether the desktop was told.
    pub(super) fn told(&mut self, topic: &Topic, was_told: bool, now: Timestamp) {
        if let Some(need) = self.0.get_mut(topic) {
            need.was_told = was_told;
            if !was_told {
                need.due = clock::shifted(now, RETRY);
            }
        }
    }

    /// When the next is due.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        let waiting = self.0.values().filter(|need| !need.was_told);
        waiting.map(|need| need.due).min()
    }

    fn look_at(&mut self, session: &SessionSnapshot, now: Timestamp) {
        if session.status.phase == Phase::Closing {
            return;
        }
        let waiting = format!("Session {} waits for it.", session.name);
        match &session.status.last_error {
            Some(cause) if cause.kind().class == Class::Login => {
                let summary = "Sign in to Heroku again".to_owned();
                let message = Message::of(summary, cause, &waiting);
                let is_missing = cause.kind().code == Cause::NotLoggedIn.kind().code;
                let settle = if is_missing {
                    SETTLE_WITHOUT_TOKEN
                } else {
                    SETTLE
                };
                let due = clock::shifted(now, settle);
                self.add(Topic::SignIn, Some(session.id), message, due);
            }
            Some(cause @ Cause::AccessRevoked { addon }) => {
                let summary = "Access to a database was revoked".to_owned();
                let message = Message::of(summary, cause, &waiting);
                let due = clock::shifted(now, SETTLE);
                self.add(
                    Topic::Revoked(addon.clone()),
                    Some(session.id),
                    message,
                    due,
                );
            }
            _ => {}
        }
        if let (Access::ReadWrite, Some(end)) = (session.access, session.expires_at) {
            let due = clock::shifted(end, -BEFORE_THE_END);
            let topic = Topic::End(session.id, end);
            let is_new = !self.0.contains_key(&topic);
            self.add(
                topic.clone(),
                Some(session.id),
                Message::end(&session.name, end),
                due,
            );
            // Whoever opens it for so short a time knows.
            if let Some(need) = self.0.get_mut(&topic)
                && is_new
                && due <= now
            {
                need.was_told = true;
            }
        }
    }

    fn add(&mut self, topic: Topic, session: Option<SessionId>, message: Message, due: Timestamp) {
        let need = self.0.entry(topic).or_insert_with(|| Need {
            sessions: BTreeSet::new(),
            message,
            due,
            was_told: false,
        });
        need.sessions.extend(session);
    }

    /// Forgets what has passed. A session that fails for something else meanwhile, such as a
    /// network that is away, still has the first cause before it.
    fn forget(&mut self, snapshot: &Snapshot, now: Timestamp) -> Vec<Topic> {
        let of = |id: &SessionId| snapshot.sessions.iter().find(|session| session.id == *id);
        let is_well = |session: &SessionSnapshot| match session.status.phase {
            Phase::Closing => true,
            Phase::Up => session.status.last_error.is_none(),
            _ => false,
        };
        let mut passed = Vec::new();
        self.0.retain(|topic, need| {
            let lasts = match topic {
                Topic::SignIn | Topic::Revoked(_) => {
                    need.sessions.retain(|id| of(id).is_some_and(|session| !is_well(session)));
                    !need.sessions.is_empty()
                }
                Topic::Fight(addon) => snapshot.problems.iter().any(|cause| {
                    matches!(cause, Cause::CredentialsContested { addon: other, .. } if other == addon)
                }),
                Topic::End(id, end) => {
                    *end > now && of(id).is_some_and(|session| session.expires_at == Some(*end))
                }
            };
            if !lasts && need.was_told {
                passed.push(topic.clone());
            }
            lasts
        });
        passed
    }
}

// === impl Message ===

impl Message {
    fn of(summary: String, cause: &Cause, more: &str) -> Self {
        let words = cause.words();
        let parts = [words.sentence.as_str(), &words.hint].map(|part| sentence(&text::line(part)));
        let [what, hint] = parts;
        let body = [what.as_str(), more, &hint];
        let body = body.into_iter().filter(|part| !part.is_empty());
        Self {
            summary,
            body: body.collect::<Vec<_>>().join(" "),
        }
    }

    fn end(session: &SessionName, end: Timestamp) -> Self {
        let at = end
            .to_zoned(TimeZone::system())
            .strftime("%H:%M")
            .to_string();
        Self {
            summary: format!("Write access of {session} ends at {at}"),
            body: format!(
                "Session {session} closes then, and with it the connections that are still open. \
                 `borealisctl open` gives it again."
            ),
        }
    }
}

/// With a capital letter and a full stop.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let Some(first) = chars.next() else {
        return String::new();
    };
    format!(
        "{}{}.",
        first.to_uppercase(),
        chars.as_str().trim_end_matches('.')
    )
}

#[cfg(test)]
mod tests;
