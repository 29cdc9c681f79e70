//! What can go wrong while the sandbox starts or does what it was told.

use std::{io, path::Path};

/// Why the sandbox could not do something.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// A program that must be installed isn't.
    #[error("{what} was not found; install it with {install}")]
    Missing {
        /// The program.
        what: String,
        /// How to install it.
        install: &'static str,
    },
    /// The operating system refused something.
    #[error("{doing} failed: {source}")]
    Io {
        /// What was tried.
        doing: String,
        /// The system's answer.
        source: io::Error,
    },
    /// PostgreSQL refused a statement or a connection.
    #[error("{doing} failed: {}", describe(source))]
    Sql {
        /// What was tried.
        doing: String,
        /// PostgreSQL's answer.
        source: tokio_postgres::Error,
    },
    /// A program or library failed in its own words.
    #[error("{0}")]
    Failed(String),
    /// What was named doesn't exist in the sandbox.
    #[error("there is no {what} {name} in the sandbox")]
    Unknown {
        /// What kind of thing was named.
        what: &'static str,
        /// Its name.
        name: String,
    },
}

// === impl SandboxError ===

impl SandboxError {
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }

    pub(crate) fn path(verb: &str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        Self::io(format!("{verb} {}", path.display()))
    }

    pub(crate) fn sql(doing: impl Into<String>) -> impl FnOnce(tokio_postgres::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Sql { doing, source }
    }

    pub(crate) fn failed(why: impl std::fmt::Display) -> Self {
        Self::Failed(why.to_string())
    }
}

/// The library's own text is only "db error": the server's message is below it.
fn describe(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => format!("{} ({})", db.message(), db.code().code()),
        None => std::error::Error::source(error)
            .map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}")),
    }
}
