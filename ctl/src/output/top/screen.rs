//! The terminal while `top` has it: its other screen, no cursor, key by key. It gets all back
//! when this is dropped, and before a panic is told.

use std::{
    io::{self, Write as _},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use base64::Engine as _;
use ratatui::{
    Terminal,
    backend::CrosstermBackend,
    crossterm::{
        cursor::{Hide, Show},
        event::{self, Event},
        execute,
        terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
    },
};
use tokio::sync::mpsc::Sender;

use super::{
    super::Output,
    model::{Happened, Model},
    view::{self, Theme},
};
use crate::failure::{Failure, reason};

/// Whether the terminal is not as it was.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// The terminal while `top` has it.
pub(crate) struct Screen {
    terminal: Terminal<CrosstermBackend<io::Stdout>>,
    theme: Theme,
}

// === impl Output ===

impl Output {
    /// Whether standard output can be drawn on. A terminal that is called dumb can't be.
    pub(crate) fn has_screen(&self) -> bool {
        self.on_terminal && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
    }

    /// Takes the terminal.
    ///
    /// # Errors
    /// When there is none, or it can't be changed.
    pub(crate) fn take_screen(&self) -> Result<Screen, Failure> {
        let failure = |error: io::Error| {
            give_back();
            Failure::failed(format!("can't use the terminal: {}", reason(&error))).with_hint(
                "`borealisctl list --watch` prints every change, `borealisctl top | cat` all as plain text",
            )
        };
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            give_back();
            before(panic);
        }));
        enable_raw_mode().map_err(failure)?;
        TAKEN.store(true, Ordering::SeqCst);
        execute!(io::stdout(), EnterAlternateScreen, Hide).map_err(failure)?;
        let terminal = Terminal::new(CrosstermBackend::new(io::stdout())).map_err(failure)?;
        Ok(Screen {
            terminal,
            theme: Theme::new(self.results),
        })
    }
}

// === impl Screen ===

impl Screen {
    /// Draws what differs from what stands there.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub(crate) fn draw(&mut self, model: &Model) -> Result<(), Failure> {
        let theme = self.theme;
        let drawn = self
            .terminal
            .draw(|frame| view::draw(model, theme, frame.area(), frame.buffer_mut()));
        drawn.map(drop).map_err(|error| Failure::output(&error))
    }

    /// Has the next frame drawn whole: somebody else drew here, or the size is another.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub(crate) fn forget(&mut self) -> Result<(), Failure> {
        // Not `clear`, which asks the terminal where its cursor is and waits for the answer
        // among the keys.
        let size = self.terminal.size();
        size.and_then(|size| self.terminal.resize(size.into()))
            .map_err(|error| Failure::output(&error))
    }

    /// Has the terminal put a text into the clipboard of whoever sits before it, also at the
    /// other end of an SSH connection (OSC 52).
    ///
    /// # Errors
    /// When the terminal is gone.
    pub(crate) fn copy(&mut self, text: &str) -> Result<(), Failure> {
        let encoded = base64::engine::general_purpose::STANDARD.encode(text);
        let mut stdout = io::stdout().lock();
        write!(stdout, "\x1b]52;c;{encoded}\x07")
            .and_then(|()| stdout.flush())
            .map_err(|error| Failure::output(&error))
    }

    /// Tells keys and changes of the size from now on, until nobody listens.
    ///
    /// # Errors
    /// When there can't be another thread.
    pub(crate) fn tell_keys(&self, happened: Sender<Happened>) -> Result<(), Failure> {
        let read = move || {
            loop {
                let next = match event::read() {
                    Ok(Event::Key(key)) => Happened::Key(key),
                    Ok(Event::Resize(..)) => Happened::Resized,
                    Ok(_) => continue,
                    // The terminal was closed, as SIGHUP would tell.
                    Err(_) => Happened::Signal(1),
                };
                let is_last = matches!(next, Happened::Signal(_));
                if happened.blocking_send(next).is_err() || is_last {
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("keys".to_owned()).spawn(read);
        thread
            .map(drop)
            .map_err(|error| Failure::failed(format!("can't read keys: {}", reason(&error))))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

/// Makes the terminal what it was, once.
fn give_back() {
    if TAKEN.swap(false, Ordering::SeqCst) {
        // A terminal that has gone needs no way back.
        let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
        let _ = disable_raw_mode();
    }
}
