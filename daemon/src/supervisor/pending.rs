//! Commands that have no answer yet.

use super::{OpenRequest, Opened, Reply, SessionSnapshot};

/// An `open` that has no answer yet.
pub(super) struct PendingOpen {
    pub(super) request: OpenRequest,
    pub(super) reply: Reply<Opened>,
}

/// Somebody who waits for the end of sessions.
pub(super) struct PendingClose {
    /// How many have not ended.
    pub(super) left: usize,
    pub(super) views: Vec<SessionSnapshot>,
    pub(super) reply: Reply<Vec<SessionSnapshot>>,
}
