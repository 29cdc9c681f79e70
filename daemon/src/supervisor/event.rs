//! What comes back to the loop from tasks and sessions.

use super::{
    Reply, Rotated,
    binding::Bound,
    prepare::Prepared,
    set::{SessionId, Ticket},
};
use crate::model::Cause;

/// What comes back from work that the loop started.
pub(super) enum Event {
    /// An `open` knows what its target is.
    LookedUp(Box<LookedUp>),
    /// A session has its listeners, or can't have them.
    Bound(SessionId, Box<Bound>),
    /// A session has something new to show.
    Changed(SessionId),
    /// A session's driver has ended.
    Ended(SessionId),
    /// The caller of an `open` has gone.
    Left(SessionId, Ticket),
    /// Sessions have new credentials, or can't have them.
    Rotated(Vec<Rotated>, Reply<Vec<Rotated>>),
    /// The set couldn't be saved.
    NotSaved,
}

/// An `open` whose look-up has ended.
pub(super) struct LookedUp {
    pub(super) ticket: Ticket,
    pub(super) outcome: Result<Prepared, Cause>,
}
