//! What takes minutes: a line in its place on a terminal, a line for each change elsewhere.

use std::io::{self, IsTerminal as _};

use super::{Output, Spinner};

/// Told until it is dropped.
#[derive(Debug)]
pub(crate) struct Progress<'a> {
    output: &'a Output,
    spinner: Option<Spinner>,
    last: String,
}

// === impl Output ===

impl Output {
    /// Begins to tell.
    pub(crate) fn progress(&self) -> Progress<'_> {
        Progress {
            output: self,
            spinner: None,
            last: String::new(),
        }
    }
}

// === impl Progress ===

impl Progress<'_> {
    /// How it stands now.
    pub(crate) fn say(&mut self, text: String) {
        if text == self.last {
            return;
        }
        match &self.spinner {
            Some(spinner) => spinner.say(text.clone()),
            None if io::stderr().is_terminal() => {
                self.spinner = Some(self.output.spinner(text.clone()));
            }
            None => self.output.note(&text),
        }
        self.last = text;
    }
}
