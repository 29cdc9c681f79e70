//! Whoever reads the results, when that is another program.

use std::{fs::File, io, os::fd::AsFd as _};

use tokio::{io::Interest, net::unix::pipe::Sender};

use super::Output;

// === impl Output ===

impl Output {
    /// Waits until nobody reads standard output any more (`… --follow | head -1`): a command
    /// that prints when something happens would notice at the next event only. Never comes
    /// where standard output is a file, which can't be watched.
    pub(crate) async fn reader_gone(&self) {
        // Only watched: nothing is written here, and the pipe stays in the mode it is in.
        let watch = || {
            let stdout = io::stdout().as_fd().try_clone_to_owned()?;
            Sender::from_file_unchecked(File::from(stdout))
        };
        let gone = match watch() {
            Ok(stdout) => stdout.ready(Interest::ERROR).await,
            Err(error) => Err(error),
        };
        if gone.is_err() {
            std::future::pending().await
        }
    }
}
