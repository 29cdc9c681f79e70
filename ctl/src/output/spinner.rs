//! A line on the terminal that says what is being waited for.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::text;

/// Shown until dropped.
#[derive(Debug)]
pub(crate) struct Spinner(Option<ProgressBar>);

// === impl Spinner ===

impl Spinner {
    pub(super) fn none() -> Self {
        Self(None)
    }

    pub(super) fn start(text: &str) -> Self {
        let bar = ProgressBar::new_spinner().with_message(shown(text));
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
            bar.set_style(style.tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ "));
        }
        bar.enable_steady_tick(Duration::from_millis(100));
        Self(Some(bar))
    }

    /// Says something else from now on.
    pub(crate) fn say(&self, text: String) {
        if let Some(bar) = &self.0 {
            bar.set_message(shown(&text));
        }
    }
}

/// One line, in what a terminal has of it at least.
fn shown(text: &str) -> String {
    text::cut(&text::line(text), 78).into_owned()
}

impl Drop for Spinner {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
