//! What keys do.

use borealis_proto::v1;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::{
    cursor::Cursor,
    model::{Command, Copied, Happened, Mode, Model, Notice, Page, Question},
};
use crate::{
    libpq,
    output::{text, words::counted},
};

/// Lines that a page key moves by.
const A_PAGE: isize = 10;
/// Lines that the help moves by.
const A_FEW: usize = 4;

/// The keys and what they do, as the help shows them.
pub(super) const KEYS: [(&str, &str); 16] = [
    ("↑ ↓ PgUp PgDn", "choose a line (also j and k)"),
    ("Enter", "a session's connections, then its events"),
    ("Esc", "back; ends a filter"),
    ("v", "the events of all sessions"),
    ("/", "show only what has this text in it"),
    ("o", "open a session: TARGET, or TARGET -w to write"),
    ("x", "close the session (asks)"),
    ("r", "rotate: new credentials; clients don't notice"),
    ("e", "end the connection (asks)"),
    ("c", "cancel what the connection runs (asks)"),
    ("y", "copy the URL over the socket, without password"),
    ("Y", "copy the URL with its password (asks)"),
    ("Ctrl-L", "draw the screen anew"),
    ("?", "this help"),
    ("q", "quit; the sessions stay"),
    ("Ctrl-C", "the same, with exit code 130"),
];

// === impl Model ===

impl Model {
    /// Takes a key.
    pub(super) fn press(&mut self, key: KeyEvent) -> Vec<Command> {
        if key.kind == KeyEventKind::Release {
            return Vec::new();
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c') => vec![Command::Interrupted(2)],
                KeyCode::Char('l') => vec![Command::Redraw],
                KeyCode::Char('u') => {
                    self.erase();
                    Vec::new()
                }
                _ => Vec::new(),
            };
        }
        self.notice = None;
        match self.mode.clone() {
            Mode::Browse => self.browse(key.code),
            Mode::Filter => {
                self.type_filter(key.code);
                Vec::new()
            }
            Mode::Target(typed) => self.type_target(typed, key.code),
            Mode::Ask(question) => {
                self.mode = Mode::Browse;
                if matches!(key.code, KeyCode::Char('y' | 'Y')) {
                    return self.ask_daemon(question.command);
                }
                Vec::new()
            }
            Mode::Help(first) => {
                let last = KEYS.len() - 1;
                self.mode = match key.code {
                    KeyCode::Down | KeyCode::PageDown | KeyCode::Char('j') => {
                        Mode::Help((first + A_FEW).min(last))
                    }
                    KeyCode::Up | KeyCode::PageUp | KeyCode::Char('k') => {
                        Mode::Help(first.saturating_sub(A_FEW))
                    }
                    _ => Mode::Browse,
                };
                Vec::new()
            }
        }
    }

    fn browse(&mut self, key: KeyCode) -> Vec<Command> {
        match key {
            KeyCode::Char('q') => return vec![Command::Quit],
            KeyCode::Char('?') | KeyCode::F(1) => self.mode = Mode::Help(0),
            KeyCode::Char('/') => self.mode = Mode::Filter,
            KeyCode::Char('o') => self.mode = Mode::Target(String::new()),
            KeyCode::Char('v') => self.go(Page::Events { all: true }),
            KeyCode::Up | KeyCode::Char('k') => self.step(-1),
            KeyCode::Down | KeyCode::Char('j') => self.step(1),
            KeyCode::PageUp => self.step(-A_PAGE),
            KeyCode::PageDown => self.step(A_PAGE),
            KeyCode::Home | KeyCode::Char('g') => self.step(isize::MIN),
            KeyCode::End | KeyCode::Char('G') => self.step(isize::MAX / 2),
            KeyCode::Enter | KeyCode::Right => self.deeper(),
            KeyCode::Esc | KeyCode::Left | KeyCode::Backspace => self.back(),
            KeyCode::Char('x') => self.ask_to_close(),
            KeyCode::Char('r') => {
                if let Some(session) = self.chosen_session() {
                    let command = Command::Rotate(session.name.clone());
                    return self.ask_daemon(command);
                }
            }
            KeyCode::Char('e') => self.ask_about_client("End", Command::End),
            KeyCode::Char('c') => self.ask_about_client("Cancel the query of", Command::Cancel),
            KeyCode::Char('y') => return self.copy_url(),
            KeyCode::Char('Y') => self.ask_to_reveal(),
            _ => {}
        }
        Vec::new()
    }

    // --- moving ---

    fn step(&mut self, lines: isize) {
        match self.page {
            Page::Sessions => {
                let keys = self.session_keys();
                self.session.step(lines, &keys);
            }
            Page::Connections => {
                let keys = self.client_keys();
                self.client.step(lines, &keys);
            }
            Page::Events { .. } => {
                let keys = self.event_keys();
                self.event.step(lines, &keys);
            }
        }
    }

    fn go(&mut self, page: Page) {
        if matches!(page, Page::Events { .. }) && !matches!(self.page, Page::Events { .. }) {
            self.before_events = self.page;
            self.event = Cursor::default();
        }
        self.page = page;
        self.filter.clear();
    }

    fn deeper(&mut self) {
        match self.page {
            Page::Sessions if self.session.on().is_some() => {
                self.client = Cursor::default();
                self.go(Page::Connections);
            }
            Page::Connections => self.go(Page::Events { all: false }),
            Page::Sessions | Page::Events { .. } => {}
        }
    }

    fn back(&mut self) {
        if !self.filter.is_empty() {
            self.filter.clear();
            return;
        }
        match self.page {
            Page::Sessions => {}
            Page::Connections => self.go(Page::Sessions),
            Page::Events { .. } => self.go(self.before_events),
        }
    }

    // --- typing ---

    fn erase(&mut self) {
        match &mut self.mode {
            Mode::Filter => self.filter.clear(),
            Mode::Target(typed) => typed.clear(),
            Mode::Browse | Mode::Ask(_) | Mode::Help(_) => {}
        }
    }

    fn type_filter(&mut self, key: KeyCode) {
        match key {
            KeyCode::Enter => self.mode = Mode::Browse,
            KeyCode::Esc => {
                self.filter.clear();
                self.mode = Mode::Browse;
            }
            KeyCode::Backspace => {
                self.filter.pop();
            }
            KeyCode::Up => self.step(-1),
            KeyCode::Down => self.step(1),
            KeyCode::Char(c) => self.filter.push(c),
            _ => {}
        }
    }

    fn type_target(&mut self, mut typed: String, key: KeyCode) -> Vec<Command> {
        match key {
            KeyCode::Esc => {
                self.mode = Mode::Browse;
                return Vec::new();
            }
            KeyCode::Enter => {
                self.mode = Mode::Browse;
                let words: Vec<_> = typed.split_whitespace().collect();
                let (flags, names): (Vec<&str>, Vec<&str>) =
                    words.iter().partition(|word| word.starts_with('-'));
                let write = flags
                    .iter()
                    .all(|flag| ["-w", "--write-access"].contains(flag));
                return match names.as_slice() {
                    [] => Vec::new(),
                    [target] if write => self.ask_daemon(Command::Open {
                        target: (*target).to_owned(),
                        write: !flags.is_empty(),
                    }),
                    _ => {
                        self.notice = Some(Notice::Failed(
                            "what can be typed here is one target, and -w for write access".into(),
                        ));
                        Vec::new()
                    }
                };
            }
            KeyCode::Backspace => {
                typed.pop();
            }
            KeyCode::Char(c) => typed.push(c),
            _ => {}
        }
        self.mode = Mode::Target(typed);
        Vec::new()
    }

    // --- steering ---

    /// Has something done that needs the daemon.
    fn ask_daemon(&mut self, command: Command) -> Vec<Command> {
        if self.away.is_some() {
            self.notice = Some(Notice::Failed(
                "borealisd is away: wait until it is back".to_owned(),
            ));
            return Vec::new();
        }
        self.notice = Some(Notice::Said(match &command {
            Command::Open { target, .. } => format!("opening {target} …"),
            Command::Close(session) => format!("closing {session} …"),
            Command::Rotate(session) => format!("asking for new credentials for {session} …"),
            Command::End(id) => format!("ending connection {id} …"),
            Command::Cancel(id) => format!("asking to cancel the query of connection {id} …"),
            _ => "asking borealisd …".to_owned(),
        }));
        vec![command]
    }

    fn ask(&mut self, text: String, command: Command) {
        self.mode = Mode::Ask(Question { text, command });
    }

    fn ask_to_close(&mut self) {
        let Some(session) = self.chosen_session() else {
            return;
        };
        let name = session.name.clone();
        let active = session.connections.unwrap_or_default().active;
        let ended = match active {
            0 => String::new(),
            1 => " Its connection is ended.".to_owned(),
            count => format!(
                " Its {} are ended.",
                counted(count, "connection", "connections")
            ),
        };
        self.ask(
            format!("Close {}?{ended}", text::name(&name)),
            Command::Close(name),
        );
    }

    fn ask_about_client(&mut self, what: &str, command: fn(u64) -> Command) {
        if self.page != Page::Connections {
            self.notice = Some(Notice::Said(
                "choose a session, and with Enter one of its connections".to_owned(),
            ));
            return;
        }
        let Some(client) = self.chosen_client() else {
            return;
        };
        let connection = &client.connection;
        let id = connection.id;
        let who = super::view::who(client);
        let lost = match connection.state() {
            v1::ConnectionState::IdleInTransaction => " Its transaction is rolled back.",
            _ => "",
        };
        self.ask(
            format!("{what} connection {id} ({who})?{lost}"),
            command(id),
        );
    }

    fn copy_url(&mut self) -> Vec<Command> {
        let Some(session) = self.chosen_session() else {
            return Vec::new();
        };
        let url = libpq::socket_url(session);
        let session = session.name.clone();
        if url.is_empty() {
            self.notice = Some(Notice::Failed(format!(
                "{session} has never been up, so its URL is not known yet"
            )));
            return Vec::new();
        }
        let copied = Copied {
            session,
            url,
            with_password: false,
        };
        self.update(Happened::Copied(copied), self.now)
    }

    fn ask_to_reveal(&mut self) {
        let Some(session) = self.chosen_session() else {
            return;
        };
        let name = session.name.clone();
        self.ask(
            format!(
                "Put {}'s URL with its password into the clipboard?",
                text::name(&name)
            ),
            Command::Reveal(name),
        );
    }
}
