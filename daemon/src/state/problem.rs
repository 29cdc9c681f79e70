//! What is reported of the state directory.

/// Something in the state directory that was not as it should be, and what was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Stable and machine readable.
    pub code: &'static str,
    /// What was wrong with what, and what was done, without a full stop.
    pub sentence: String,
    /// What to do next; empty where there is nothing to do.
    pub hint: String,
}
