//! What the actor has of a session beside its place in the set.

use super::prepare::Ahead;
use crate::{proxy::LocalLogin, session::Session};

/// What the actor has of a session.
#[derive(Default)]
pub(super) struct Parts {
    /// What the `open` that made it prepared, until its driver takes it.
    pub(super) ahead: Ahead,
    /// What clients log in with, once it has been read or made.
    pub(super) login: Option<LocalLogin>,
    /// Its driver, while it has its listeners.
    pub(super) session: Option<Session>,
}
