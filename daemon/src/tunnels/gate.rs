//! What a new connection is told while it asks for a tunnel.

use crate::model::Cause;

/// Whether connections get through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Gate {
    /// A tunnel is up.
    Open,
    /// None is, and one is being tried for: connections wait.
    Hold(Option<Cause>),
    /// Waiting can't help.
    Refuse(Cause),
}
