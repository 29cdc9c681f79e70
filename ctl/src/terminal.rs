//! The terminal that the user sits at, for as long as it is in another mode than usual. It
//! gets its own mode back when the guard is dropped, however the command ends.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead as _, BufReader, Write as _},
};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

/// The terminal in another mode.
#[derive(Debug)]
pub(crate) struct Terminal {
    tty: File,
    before: Termios,
}

/// What the terminal is to do otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TerminalMode {
    /// What is typed isn't shown.
    Hidden,
    /// What is typed isn't shown, and comes key by key.
    Keys,
}

// === impl Terminal ===

impl Terminal {
    /// Changes the mode of the terminal, wherever the standard streams lead.
    ///
    /// # Errors
    /// When there is no terminal.
    pub(crate) fn enter(mode: TerminalMode) -> io::Result<Self> {
        let tty = OpenOptions::new().read(true).write(true).open("/dev/tty")?;
        let before = tcgetattr(&tty)?;
        let mut now = before.clone();
        now.local_modes.remove(LocalModes::ECHO);
        match mode {
            // The line's end is shown: the next text begins below the prompt.
            TerminalMode::Hidden => now.local_modes.insert(LocalModes::ECHONL),
            TerminalMode::Keys => now.local_modes.remove(LocalModes::ICANON),
        }
        // What was typed ahead was typed with echo: it is not for here.
        tcsetattr(&tty, OptionalActions::Flush, &now)?;
        Ok(Self { tty, before })
    }

    /// Shows a prompt and reads a line without its end. Dropping the future leaves a thread
    /// that waits for the line, which the end of the process ends.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub(crate) async fn ask(&mut self, prompt: &str) -> io::Result<String> {
        self.tty.write_all(prompt.as_bytes())?;
        let reader = self.tty.try_clone()?;
        let read = move || {
            let mut line = String::new();
            BufReader::new(reader).read_line(&mut line)?;
            Ok(line.trim_end_matches(['\r', '\n']).to_owned())
        };
        tokio::task::spawn_blocking(read)
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)))
    }

    /// The keys that are pressed from now on.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub(crate) fn keys(&self) -> io::Result<tokio::sync::mpsc::Receiver<u8>> {
        use io::Read as _;
        let reader = self.tty.try_clone()?;
        let (sender, keys) = tokio::sync::mpsc::channel(16);
        std::thread::Builder::new()
            .name("keys".to_owned())
            .spawn(move || {
                for key in reader.bytes().map_while(Result::ok) {
                    if sender.blocking_send(key).is_err() {
                        return;
                    }
                }
            })?;
        Ok(keys)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // A terminal that has gone needs no mode.
        let _ = tcsetattr(&self.tty, OptionalActions::Now, &self.before);
    }
}
