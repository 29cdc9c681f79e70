//! The model by what it does at each key and message, the view by whole frames.

mod frames;
mod keys;

use borealis_proto::v1;
use jiff::{Timestamp, tz::TimeZone};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::{
    model::{Client, Command, Happened, Model},
    view::{self, Theme},
};
use crate::output::Paint;

/// A model at a time that stands still unless it is moved.
pub(super) struct Scene {
    pub(super) model: Model,
    now: Timestamp,
}

pub(super) fn start() -> Timestamp {
    "2026-11-22T14:15:00Z".parse().unwrap()
}

fn ago(seconds: i64) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp {
        seconds: start().as_second() - seconds,
        nanos: 0,
    })
}

pub(super) fn session(name: &str, state: v1::State) -> v1::Session {
    v1::Session {
        name: name.into(),
        app: "sushi".into(),
        addon: "borealis-pg-hex-12345".into(),
        role: v1::Role::Personal.into(),
        access: v1::Access::ReadOnly.into(),
        mode: v1::Mode::Managed.into(),
        state: state.into(),
        since: ago(600),
        host: "127.0.0.1".into(),
        port: 15432,
        socket_dir: format!("/run/user/1000/borealis/pg/{name}"),
        database: "d4f0".into(),
        user: name.into(),
        ..v1::Session::default()
    }
}

/// One up, one reconnecting, one that may write, with an idle transaction and little time.
pub(super) fn sessions(passed: u64) -> Vec<v1::Session> {
    let up = v1::State::Up;
    vec![
        v1::Session {
            state: v1::State::Reconnecting.into(),
            step: "waiting before the next attempt".into(),
            last_error: Some(v1::Failure {
                message: "the bastion refused the connection".into(),
                ..v1::Failure::default()
            }),
            ..session("ramen.borealis_pg_maroon", up)
        },
        v1::Session {
            connections: Some(v1::ConnectionCounts {
                active: 2,
                total: 40,
            }),
            bytes: Some(v1::ByteCounts {
                sent: 2048 * passed,
                received: 90_000 * passed,
            }),
            credential: Some(v1::Credential {
                generation: 3,
                issued_at: ago(600),
                rotates_at: ago(-7 * 3600 - 90),
            }),
            round_trip: Some(prost_types::Duration {
                seconds: 0,
                nanos: 23_400_000,
            }),
            ..session("sushi", up)
        },
        v1::Session {
            access: v1::Access::ReadWrite.into(),
            connections: Some(v1::ConnectionCounts {
                active: 1,
                total: 1,
            }),
            expires_at: ago(-29 * 60 - 30),
            idle_in_transaction_since: ago(720),
            ..session("sushi-rw", up)
        },
    ]
}

fn connection(id: u64, session: &str, state: v1::ConnectionState, since: i64) -> Client {
    Client {
        connection: v1::Connection {
            id,
            session: session.into(),
            via: v1::Via::Tcp.into(),
            tls: true,
            peer_port: 50_000,
            application_name: "psql".into(),
            database: "d4f0".into(),
            state: state.into(),
            state_since: ago(since),
            since: ago(900),
            backend_pid: 991,
            bytes: Some(v1::ByteCounts {
                sent: 1500,
                received: 30_000,
            }),
            ..v1::Connection::default()
        },
        ..Client::default()
    }
}

pub(super) fn clients() -> Vec<Client> {
    use v1::ConnectionState::{Active, Idle, IdleInTransaction};
    vec![
        connection(3, "sushi", Idle, 65),
        Client {
            program: "python3".into(),
            pid: 4211,
            ..connection(7, "sushi", Active, 4)
        },
        connection(9, "sushi-rw", IdleInTransaction, 720),
    ]
}

fn event(sequence: u64, session: &str, seconds: i64, message: &str) -> Happened {
    Happened::Event(Box::new(v1::Event {
        sequence,
        at: ago(seconds),
        kind: "something".into(),
        session: session.into(),
        message: message.into(),
        ..v1::Event::default()
    }))
}

// === impl Scene ===

impl Scene {
    /// Knows nothing.
    pub(super) fn empty() -> Self {
        Self {
            model: Model::new(start(), TimeZone::UTC),
            now: start(),
        }
    }

    /// With sessions, connections and events.
    pub(super) fn new() -> Self {
        let mut scene = Self::empty();
        scene.now = start() - jiff::SignedDuration::from_secs(20);
        for second in 0..=20 {
            // Traffic that came in bursts.
            let passed = [0, 0, 5, 5, 6, 20, 21, 21, 90, 91, 91, 91, 95, 120, 121][second.min(14)];
            scene.tell(Happened::Sessions(sessions(passed)));
            scene.now += jiff::SignedDuration::from_secs(1);
        }
        scene.now = start();
        scene.tell(Happened::Connections(clients()));
        scene.tell(event(1, "sushi", 600, "opened: read-only, as you"));
        scene.tell(event(2, "ramen.borealis_pg_maroon", 60, "lost its tunnel"));
        scene.tell(event(3, "sushi", 30, "has new credentials: generation 3"));
        scene.tell(Happened::Info(Box::new(v1::GetInfoResponse {
            version: "0.1.0".into(),
            health: v1::Health::Warning.into(),
            reasons: vec![v1::Failure {
                message: "session ramen.borealis_pg_maroon is reconnecting".into(),
                ..v1::Failure::default()
            }],
            ..v1::GetInfoResponse::default()
        })));
        scene
    }

    pub(super) fn tell(&mut self, happened: Happened) -> Vec<Command> {
        self.model.update(happened, self.now)
    }

    pub(super) fn after(&mut self, seconds: i64) {
        self.now += jiff::SignedDuration::from_secs(seconds);
        self.tell(Happened::Tick);
    }

    pub(super) fn press(&mut self, code: KeyCode) -> Vec<Command> {
        self.tell(Happened::Key(KeyEvent::new(code, KeyModifiers::NONE)))
    }

    pub(super) fn keys(&mut self, text: &str) -> Vec<Command> {
        text.chars()
            .flat_map(|c| self.press(KeyCode::Char(c)))
            .collect()
    }

    /// What stands on the screen, line by line, without trailing blanks.
    pub(super) fn frame(&self, width: u16, height: u16) -> String {
        self.painted(width, height, Paint::Coloured).0
    }

    /// The same, and how many cells have a colour.
    pub(super) fn painted(&self, width: u16, height: u16, paint: Paint) -> (String, usize) {
        use ratatui::{Terminal, backend::TestBackend, style::Color};
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        let theme = Theme::new(paint);
        let drawn = terminal
            .draw(|frame| view::draw(&self.model, theme, frame.area(), frame.buffer_mut()))
            .unwrap();
        let mut coloured = 0;
        let mut text = String::new();
        for y in 0..height {
            let mut line = String::new();
            let mut skip = 0;
            for x in 0..width {
                let cell = &drawn.buffer[(x, y)];
                coloured += usize::from(cell.fg != Color::Reset || cell.bg != Color::Reset);
                if skip > 0 {
                    skip -= 1;
                    continue;
                }
                skip = unicode_width::UnicodeWidthStr::width(cell.symbol()).saturating_sub(1);
                line.push_str(cell.symbol());
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        (text, coloured)
    }
}
