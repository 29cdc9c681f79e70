//! What `top` knows and shows: a pure value. [`Model::update`] takes what happened and answers
//! what is to be done; [`super::view`] draws it.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use borealis_proto::v1;
use jiff::{Timestamp, tz::TimeZone};
use ratatui::crossterm::event::KeyEvent;

use super::{clock::Clock, cursor::Cursor, traffic::Traffic};
use crate::failure::Failure;

/// Events that are kept. The daemon keeps fewer.
const EVENTS: usize = 1000;

/// Something that `top` has to know.
#[derive(Debug)]
pub(crate) enum Happened {
    /// A key was pressed.
    Key(KeyEvent),
    /// A signal asks it to end.
    Signal(u8),
    /// The terminal has another size, or was drawn on by somebody else.
    Resized,
    /// The time is another.
    Tick,
    /// The daemon is there; again, where it was away.
    Back,
    /// The daemon is away, and why.
    Lost(Failure),
    /// The daemon, as it is now.
    Info(Box<v1::GetInfoResponse>),
    /// All sessions, ordered by name.
    Sessions(Vec<v1::Session>),
    /// All connections, the oldest first.
    Connections(Vec<Client>),
    /// The daemon can't tell its connections.
    NoConnections,
    /// Something that happened in the daemon, now or before.
    Event(Box<v1::Event>),
    /// What was asked for is done, or not.
    Answered(Result<String, Failure>),
    /// What is to be put into the clipboard.
    Copied(Copied),
}

/// A connection and who is behind it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Client {
    /// As the daemon tells it.
    pub(crate) connection: v1::Connection,
    /// The program; empty where it can't be known.
    pub(crate) program: String,
    /// Its process; zero where it can't be known.
    pub(crate) pid: u32,
}

/// A URL for the clipboard. Not `Debug` with its text, which may hold a password.
pub(crate) struct Copied {
    /// Of which session.
    pub(crate) session: String,
    /// The URL.
    pub(crate) url: String,
    /// Whether the password is in it.
    pub(crate) with_password: bool,
}

/// What is to be done for the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    /// Leave, with nothing to say.
    Quit,
    /// Leave, as a signal of this number would.
    Interrupted(u8),
    /// Draw everything anew.
    Redraw,
    /// Ask for the daemon's health.
    AskInfo,
    /// Open a session for a target.
    Open {
        /// As typed.
        target: String,
        /// With write access.
        write: bool,
    },
    /// Close a session.
    Close(String),
    /// New credentials for a session.
    Rotate(String),
    /// Get the URL with its password.
    Reveal(String),
    /// Put this into the clipboard.
    Copy(String),
    /// End a connection.
    End(u64),
    /// Cancel what a connection is running.
    Cancel(u64),
}

/// What is shown below the headline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Page {
    Sessions,
    /// Of the chosen session.
    Connections,
    /// Of the chosen session, or of all.
    Events {
        all: bool,
    },
}

/// What keys mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mode {
    Browse,
    /// A filter is typed.
    Filter,
    /// A target is typed.
    Target(String),
    /// Waits for a yes.
    Ask(Question),
    /// The keys are explained, from this line on.
    Help(usize),
}

/// Asked before what can't be undone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) text: String,
    pub(super) command: Command,
}

/// What was last said to the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Notice {
    Said(String),
    Failed(String),
}

/// The connections, as far as they are known.
#[derive(Debug, Clone)]
pub(super) enum Clients {
    /// Not told yet.
    Awaited,
    /// This daemon can't tell them.
    Untold,
    Known(Vec<Client>),
}

/// What `top` knows and shows.
#[derive(Debug)]
pub(crate) struct Model {
    pub(super) now: Timestamp,
    /// Of the times of day that are shown.
    pub(super) zone: TimeZone,
    /// Why the daemon is away, and since when.
    pub(super) away: Option<(Timestamp, String)>,
    pub(super) info: Option<v1::GetInfoResponse>,
    /// Nothing is known of them before the first message.
    pub(super) sessions: Option<Vec<v1::Session>>,
    pub(super) traffic: HashMap<String, Traffic>,
    pub(super) clients: Clients,
    /// The newest first.
    pub(super) events: VecDeque<v1::Event>,
    /// How many have been told so far.
    pub(super) events_seen: usize,
    pub(super) page: Page,
    /// The page that Esc leads back to from the events.
    pub(super) before_events: Page,
    pub(super) mode: Mode,
    pub(super) filter: String,
    pub(super) session: Cursor<String>,
    pub(super) client: Cursor<u64>,
    pub(super) event: Cursor<u64>,
    pub(super) notice: Option<Notice>,
}

// === impl Model ===

impl Model {
    /// Knows nothing yet. Times of day are shown in `zone`.
    pub(crate) fn new(now: Timestamp, zone: TimeZone) -> Self {
        Self {
            now,
            zone,
            away: None,
            info: None,
            sessions: None,
            traffic: HashMap::new(),
            clients: Clients::Awaited,
            events: VecDeque::new(),
            events_seen: 0,
            page: Page::Sessions,
            before_events: Page::Sessions,
            mode: Mode::Browse,
            filter: String::new(),
            session: Cursor::default(),
            client: Cursor::default(),
            event: Cursor::default(),
            notice: None,
        }
    }

    /// After what time something that is shown changes by itself. Until then, and until
    /// something happens, there is nothing to draw.
    pub(crate) fn next_tick(&self) -> Option<Duration> {
        let mut clock = Clock::at(self.now);
        if let Some((since, _)) = &self.away {
            clock.shows(Some(&prost_types::Timestamp {
                seconds: since.as_second(),
                nanos: 0,
            }));
        }
        for session in self.sessions.iter().flatten() {
            clock.shows(session.since.as_ref());
            clock.shows(session.expires_at.as_ref());
            clock.shows(session.next_attempt_at.as_ref());
            clock.shows(session.idle_in_transaction_since.as_ref());
            let credential = session.credential.as_ref();
            clock.shows(credential.and_then(|credential| credential.rotates_at.as_ref()));
        }
        if self.page == Page::Connections {
            for client in self.listed_clients() {
                clock.shows(client.connection.state_since.as_ref());
            }
        }
        if self.traffic.values().any(Traffic::is_moving) {
            clock.within(Duration::from_secs(1));
        }
        clock.soonest()
    }

    // --- what is listed ---

    /// The sessions that the filter leaves.
    pub(super) fn listed_sessions(&self) -> impl Iterator<Item = &v1::Session> {
        let sessions = self.sessions.iter().flatten();
        sessions.filter(|session| {
            self.page != Page::Sessions
                || self.passes(&[
                    &session.name,
                    &session.app,
                    &session.addon,
                    super::super::words::state(session.state()).unwrap_or_default(),
                    super::super::words::access(session.access()).unwrap_or_default(),
                ])
        })
    }

    /// The chosen session's connections that the filter leaves.
    pub(super) fn listed_clients(&self) -> impl Iterator<Item = &Client> {
        let clients = match &self.clients {
            Clients::Known(clients) => clients.as_slice(),
            Clients::Awaited | Clients::Untold => &[],
        };
        let chosen = self.session.on();
        clients.iter().filter(move |client| {
            let connection = &client.connection;
            Some(&connection.session) == chosen
                && (self.page != Page::Connections
                    || self.passes(&[
                        &client.program,
                        &connection.application_name,
                        &connection.database,
                        super::super::words::connection_state(connection.state())
                            .unwrap_or_default(),
                    ]))
        })
    }

    /// The events that the filter leaves, the newest first.
    pub(super) fn listed_events(&self) -> impl Iterator<Item = &v1::Event> {
        let of = match self.page {
            Page::Events { all: true } => None,
            _ => self.session.on(),
        };
        self.events.iter().filter(move |event| {
            of.is_none_or(|of| *of == event.session)
                && (!matches!(self.page, Page::Events { .. })
                    || self.passes(&[&event.kind, &event.session, &event.message]))
        })
    }

    fn passes(&self, values: &[&str]) -> bool {
        let filter = self.filter.to_lowercase();
        values
            .iter()
            .any(|value| value.to_lowercase().contains(&filter))
    }

    /// The session that is chosen.
    pub(super) fn chosen_session(&self) -> Option<&v1::Session> {
        let name = self.session.on()?;
        let mut sessions = self.sessions.iter().flatten();
        sessions.find(|session| session.name == *name)
    }

    /// The connection that is chosen.
    pub(super) fn chosen_client(&self) -> Option<&Client> {
        let id = *self.client.on()?;
        self.listed_clients()
            .find(|client| client.connection.id == id)
    }

    /// The last thing that happened to a session.
    pub(super) fn last_event(&self, session: &str) -> Option<&v1::Event> {
        self.events.iter().find(|event| event.session == session)
    }

    // --- what is told ---

    pub(super) fn take_sessions(&mut self, sessions: Vec<v1::Session>) {
        self.traffic
            .retain(|name, _| sessions.iter().any(|session| session.name == *name));
        for session in &sessions {
            let traffic = self.traffic.entry(session.name.clone()).or_default();
            traffic.take(session.bytes.unwrap_or_default(), self.now);
        }
        self.sessions = Some(sessions);
    }

    pub(super) fn take_event(&mut self, event: v1::Event) {
        // A stream that begins anew tells again what is known.
        if self.events.iter().any(|known| *known == event) {
            return;
        }
        self.events_seen += 1;
        self.events.push_front(event);
        self.events.truncate(EVENTS);
    }

    /// Has each cursor follow its thing.
    pub(super) fn settle(&mut self) {
        // On the other pages the chosen session stays the one that they are about.
        if self.page == Page::Sessions {
            let names = self.session_keys();
            self.session.settle(&names);
        }
        let ids = self.client_keys();
        self.client.settle(&ids);
        let sequences = self.event_keys();
        self.event.settle(&sequences);
    }

    pub(super) fn session_keys(&self) -> Vec<String> {
        let names = self.listed_sessions().map(|session| &session.name);
        names.cloned().collect()
    }

    pub(super) fn client_keys(&self) -> Vec<u64> {
        self.listed_clients()
            .map(|client| client.connection.id)
            .collect()
    }

    pub(super) fn event_keys(&self) -> Vec<u64> {
        self.listed_events().map(|event| event.sequence).collect()
    }
}

// === impl Copied ===

impl std::fmt::Debug for Copied {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Copied")
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}
