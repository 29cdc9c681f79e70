//! What kinds of failure there are, and what each means.

/// All of a cause that does not depend on its details.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// Stable and machine readable.
    pub code: &'static str,
    /// What it means to the one who asked.
    pub class: Class,
    /// What a session does about it.
    pub retry: Retry,
    /// What a Postgres client is told. Chosen for what drivers do with it: they try 57P03 and
    /// 08xxx again, and give up on 28000.
    pub sqlstate: &'static str,
}

/// What a cause means to the one who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The operation failed: exit code 1.
    Operation,
    /// The request makes no sense: exit code 2.
    Usage,
    /// Not logged in: exit code 4.
    Login,
    /// Nothing, or more than one thing, fits: exit code 5.
    NotFound,
    /// The add-on can't be used now: exit code 6.
    Unavailable,
}

/// What a session does about a cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Only the user can help.
    Never,
    /// Try again, with growing pauses.
    Backoff,
    /// Try once with a new lease, then as [`Retry::Backoff`].
    NewLease,
    /// Try again every few minutes: the provider's side takes that long.
    Slowly,
    /// Try again when the Heroku token changes.
    WhenTokenChanges,
    /// Try again when there is a network.
    WithNetwork,
}

// === impl Kind ===

impl Kind {
    pub(super) const fn new(
        code: &'static str,
        class: Class,
        retry: Retry,
        sqlstate: &'static str,
    ) -> Self {
        Self {
            code,
            class,
            retry,
            sqlstate,
        }
    }
}
