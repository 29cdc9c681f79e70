//! From what happened to what is known, and to what is to be done.

use borealis_proto::v1;
use jiff::Timestamp;

use super::model::{Clients, Command, Happened, Model, Notice, Page};
use crate::failure::Failure;

// === impl Model ===

impl Model {
    /// Takes what happened at a time, and answers what is to be done.
    pub(crate) fn update(&mut self, happened: Happened, now: Timestamp) -> Vec<Command> {
        self.now = now;
        let commands = match happened {
            Happened::Key(key) => self.press(key),
            Happened::Signal(signal) => vec![Command::Interrupted(signal)],
            Happened::Resized => vec![Command::Redraw],
            Happened::Tick => {
                for traffic in self.traffic.values_mut() {
                    traffic.forget(now);
                }
                Vec::new()
            }
            Happened::Back => {
                if self.away.take().is_some() {
                    self.notice = Some(Notice::Said("borealisd is back".to_owned()));
                }
                // What it lost with its end is told anew.
                self.clients = Clients::Awaited;
                vec![Command::AskInfo]
            }
            Happened::Lost(why) => {
                if self.away.is_none() {
                    self.notice = None;
                }
                let since = self.away.take().map_or(now, |(since, _)| since);
                self.away = Some((since, why.message));
                self.info = None;
                Vec::new()
            }
            Happened::Info(info) => {
                self.info = Some(*info);
                Vec::new()
            }
            Happened::Sessions(sessions) => {
                let differs =
                    self.sessions.as_deref().map(conditions) != Some(conditions(&sessions));
                self.take_sessions(sessions);
                // Health is told by nobody; it can be another when a session is.
                if differs {
                    vec![Command::AskInfo]
                } else {
                    Vec::new()
                }
            }
            Happened::Connections(clients) => {
                self.clients = Clients::Known(clients);
                Vec::new()
            }
            Happened::NoConnections => {
                self.clients = Clients::Untold;
                Vec::new()
            }
            Happened::Event(event) => {
                self.take_event(*event);
                Vec::new()
            }
            Happened::Answered(answer) => {
                self.notice = Some(match answer {
                    Ok(said) => Notice::Said(said),
                    Err(failure) => Notice::Failed(told(&failure)),
                });
                Vec::new()
            }
            Happened::Copied(copied) => {
                let what = if copied.with_password {
                    "the URL with its password"
                } else {
                    "the URL without a password"
                };
                self.notice = Some(Notice::Said(format!(
                    "{}: {what} is in the clipboard, where the terminal allows that",
                    copied.session
                )));
                vec![Command::Copy(copied.url)]
            }
        };
        if !matches!(self.page, Page::Sessions) && self.chosen_is_gone() {
            self.page = Page::Sessions;
            self.filter.clear();
        }
        self.settle();
        commands
    }

    /// Whether the session that the page is about was closed.
    fn chosen_is_gone(&self) -> bool {
        !matches!(self.page, Page::Events { .. })
            && self.sessions.is_some()
            && self.chosen_session().is_none()
    }
}

/// What of sessions health may follow from.
fn conditions(sessions: &[v1::Session]) -> Vec<(&str, i32, Option<&v1::Failure>)> {
    sessions
        .iter()
        .map(|session| {
            (
                session.name.as_str(),
                session.state,
                session.last_error.as_ref(),
            )
        })
        .collect()
}

fn told(failure: &Failure) -> String {
    match &failure.hint {
        Some(hint) => format!("{} (hint: {hint})", failure.message),
        None => failure.message.clone(),
    }
}
