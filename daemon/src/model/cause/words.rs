//! What is said of a cause.

/// What is said of a cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Words {
    /// What failed, and for what, without a full stop.
    pub sentence: String,
    /// What to do next; empty where there is nothing to do.
    pub hint: String,
}

// === impl Words ===

impl Words {
    pub(super) fn new(sentence: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            sentence: sentence.into(),
            hint: hint.into(),
        }
    }
}
