//! The terminal that the user sits at, for as long as it doesn't show what is typed. It gets
//! its own mode back when the guard is dropped, however the command ends.

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
    /// A prompt stands there that nobody has answered.
    asking: bool,
}

// === impl Terminal ===

impl Terminal {
    /// From now on what is typed isn't shown, wherever the standard streams lead.
    ///
    /// # Errors
    /// When there is no terminal.
    pub(crate) fn hide_typing() -> io::Result<Self> {
        let tty = OpenOptions::new().read(true).write(true).open("/dev/tty")?;
        let before = tcgetattr(&tty)?;
        let mut now = before.clone();
        now.local_modes.remove(LocalModes::ECHO);
        // The line's end is shown: the next text begins below the prompt.
        now.local_modes.insert(LocalModes::ECHONL);
        // What was typed ahead was typed with echo: it is not for here.
        tcsetattr(&tty, OptionalActions::Flush, &now)?;
        let asking = false;
        Ok(Self {
            tty,
            before,
            asking,
        })
    }

    /// Shows a prompt and reads a line without its end. Dropping the future leaves a thread
    /// that waits for the line, which the end of the process ends.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub(crate) async fn ask(&mut self, prompt: &str) -> io::Result<String> {
        self.tty.write_all(prompt.as_bytes())?;
        self.asking = true;
        let reader = self.tty.try_clone()?;
        let read = move || {
            let mut line = String::new();
            BufReader::new(reader).read_line(&mut line)?;
            Ok(line.trim_end_matches(['\r', '\n']).to_owned())
        };
        let line = tokio::task::spawn_blocking(read)
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)));
        self.asking = false;
        line
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // A terminal that has gone needs no mode.
        if self.asking {
            let _ = self.tty.write_all(b"\n");
        }
        let _ = tcsetattr(&self.tty, OptionalActions::Now, &self.before);
    }
}
