//! What a session is, and what is published of what it does.

use jiff::Timestamp;

use super::machine::Phase;
use crate::model::{Access, Cause, Expiry, Generation, Mode, Resolved, Role, SessionName, Target};
use crate::platform::clock;

/// What a session is; the user's choice and what it led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// Its name, unique among sessions.
    pub name: SessionName,
    /// What was typed.
    pub target: Target,
    /// What that became; `None` where the provider could not be asked yet.
    pub resolved: Option<Resolved>,
    /// Whose database user.
    pub role: Role,
    /// What that user may do.
    pub access: Access,
    /// Who logs in to the database.
    pub mode: Mode,
    /// When it closes by itself.
    pub expiry: Option<Expiry>,
    /// The database's name as last known.
    pub database: Option<String>,
}

/// What a session is doing, published at each change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// As the user sees it.
    pub phase: Phase,
    /// When it entered the phase.
    pub since: Timestamp,
    /// What it is at, while it is not up.
    pub step: String,
    /// Why it is not up.
    pub last_error: Option<Cause>,
    /// The target after look-up.
    pub resolved: Option<Resolved>,
    /// The credential that new connections log in with.
    pub credential: Option<CredentialStatus>,
    /// The database's name as last known.
    pub database: Option<String>,
    /// When the next attempt begins by itself, while that is waited for.
    pub next_attempt_at: Option<Timestamp>,
    /// How many attempts have ended, so that a waiter can tell a new failure from an old one.
    pub concluded: u64,
}

/// What may be shown of a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialStatus {
    /// Which in the row.
    pub generation: Generation,
    /// When it was issued.
    pub issued_at: Timestamp,
    /// When the timer renews it.
    pub rotates_at: Option<Timestamp>,
    /// The database role.
    pub username: String,
}

// === impl Status ===

impl Status {
    /// Of a session that has done nothing yet.
    pub(crate) fn opening(spec: &Spec) -> Self {
        Self {
            phase: Phase::Opening,
            since: clock::timestamp(),
            step: String::new(),
            last_error: None,
            resolved: spec.resolved.clone(),
            credential: None,
            database: spec.database.clone(),
            next_attempt_at: None,
            concluded: 0,
        }
    }
}
