//! What the user chooses of a session.

use std::time::Duration;

use jiff::Timestamp;

/// When a session closes by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiry {
    /// From then on it takes no connection, and open ones end at their next idle moment.
    pub at: Timestamp,
    /// What those get at most that are within a transaction.
    pub grace: Duration,
}

impl Expiry {
    /// The grace where none is chosen.
    pub const GRACE: Duration = Duration::from_secs(30);
}

/// Whose database user a session logs in as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// The user's own role on the add-on.
    Personal,
    /// The Heroku app's user, from the app's config variable.
    App,
}

/// What the database user may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Access {
    /// The default everywhere.
    ReadOnly,
    /// Only where the user asked for it.
    ReadWrite,
}

/// Who logs in to the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// The daemon does, with the credentials of the moment; the client logs in to the session.
    Managed,
    /// The client does; bytes pass untouched.
    Passthrough,
}

// === impl Role ===

impl Role {
    /// As the contract writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Personal => "personal",
            Self::App => "app",
        }
    }
}

// === impl Access ===

impl Access {
    /// As the contract writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReadOnly => "read-only",
            Self::ReadWrite => "read-write",
        }
    }
}

// === impl Mode ===

impl Mode {
    /// As the contract writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Managed => "managed",
            Self::Passthrough => "passthrough",
        }
    }
}
