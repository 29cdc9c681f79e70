//! Asking the user something.

use std::io::{self, IsTerminal as _, Write as _};

use super::{Output, text};
use crate::failure::{Failure, reason};

// === impl Output ===

impl Output {
    /// Whether there is somebody to ask.
    pub(crate) fn can_ask(&self) -> bool {
        io::stdin().is_terminal() && io::stderr().is_terminal()
    }

    /// Asks a question and returns the line that is typed, without blanks around it.
    /// Dropping the future leaves the terminal being read.
    ///
    /// # Errors
    /// When nothing is typed at all, or the terminal can't be read.
    pub(crate) async fn ask(&self, question: &str) -> Result<String, Failure> {
        let mut stderr = io::stderr().lock();
        // Who doesn't see the question gives no answer.
        let _ = write!(stderr, "{}: ", text::line(question)).and_then(|()| stderr.flush());
        drop(stderr);
        let read = tokio::task::spawn_blocking(|| {
            let mut line = String::new();
            io::stdin().read_line(&mut line).map(|_| line)
        });
        match read.await {
            Ok(Ok(line)) if !line.is_empty() => Ok(line.trim().to_owned()),
            Ok(Err(error)) => Err(Failure::failed(format!(
                "can't read the answer: {}",
                reason(&error)
            ))),
            Ok(Ok(_)) | Err(_) => Err(Failure::failed("no answer was given")),
        }
    }
}
