//! Why a connection ended.

use std::sync::{Arc, OnceLock};

use crate::model::Cause;

/// Why a connection ended; the first to say it is believed.
#[derive(Clone, Default)]
pub(super) struct Loss(Arc<Noted>);

#[derive(Default)]
struct Noted {
    detail: OnceLock<String>,
    /// The server's own words.
    farewell: OnceLock<String>,
}

// === impl Loss ===

impl Loss {
    pub(super) fn note(&self, detail: String) {
        // A later report is only an echo of the first.
        let _ = self.0.detail.set(detail);
    }

    /// Notes that the server ended the connection, and with what words.
    pub(super) fn note_farewell(&self, words: Option<String>) {
        self.note(match &words {
            Some(words) => format!("the server ended it: {words}"),
            None => "the server ended it".into(),
        });
        if let Some(words) = words {
            let _ = self.0.farewell.set(words);
        }
    }

    /// Whether both are of one connection.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Whether something was noted.
    pub(super) fn is_noted(&self) -> bool {
        self.0.detail.get().is_some()
    }

    /// With what words the server ended the connection.
    pub(super) fn farewell(&self) -> Option<String> {
        self.0.farewell.get().cloned()
    }

    /// As a cause.
    pub(super) fn cause(&self) -> Cause {
        let detail = self.0.detail.get().cloned();
        let detail = detail.unwrap_or_else(|| "the connection ended".into());
        Cause::TunnelLost { detail }
    }
}
