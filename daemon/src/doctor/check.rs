//! What one check comes to.

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Stable and machine readable.
    pub id: &'static str,
    /// The session or target that it is about; empty where it is about the daemon.
    pub subject: String,
    /// How it is.
    pub outcome: Outcome,
    /// What was found, in a sentence without a full stop.
    pub found: String,
    /// What to do; empty where there is nothing to do.
    pub hint: String,
}

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// As it should be.
    Ok,
    /// Works, but may not for long, or not for everything.
    Warn,
    /// Doesn't work.
    Fail,
    /// An earlier failure leaves nothing to check.
    Skipped,
}
