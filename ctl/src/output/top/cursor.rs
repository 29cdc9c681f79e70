//! Which line of a list is chosen: it stays with its thing while others come and go.

/// A chosen line.
#[derive(Debug, Clone)]
pub(super) struct Cursor<K> {
    at: usize,
    on: Option<K>,
}

// === impl Cursor ===

impl<K> Default for Cursor<K> {
    fn default() -> Self {
        Self { at: 0, on: None }
    }
}

impl<K: Clone + PartialEq> Cursor<K> {
    /// The line, where there is one.
    pub(super) fn line(&self) -> Option<usize> {
        self.on.is_some().then_some(self.at)
    }

    /// What it is on.
    pub(super) fn on(&self) -> Option<&K> {
        self.on.as_ref()
    }

    /// Follows its thing in what is listed now. Where that has gone, it takes what stands in
    /// its place.
    pub(super) fn settle(&mut self, listed: &[K]) {
        let found = self
            .on
            .as_ref()
            .and_then(|on| listed.iter().position(|listed| listed == on));
        self.at = found.unwrap_or_else(|| self.at.min(listed.len().saturating_sub(1)));
        self.on = listed.get(self.at).cloned();
    }

    /// Moves by lines, and stops at the ends.
    pub(super) fn step(&mut self, lines: isize, listed: &[K]) {
        self.at = self.at.saturating_add_signed(lines);
        self.on = None;
        self.settle(listed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_with_its_thing() {
        let mut cursor = Cursor::default();
        cursor.settle(&[]);
        assert_eq!(cursor.line(), None);
        cursor.settle(&["b", "d"]);
        assert_eq!((cursor.line(), cursor.on()), (Some(0), Some(&"b")));
        cursor.step(5, &["b", "d"]);
        assert_eq!((cursor.line(), cursor.on()), (Some(1), Some(&"d")));
        // Others come and go.
        cursor.settle(&["a", "b", "c", "d"]);
        assert_eq!((cursor.line(), cursor.on()), (Some(3), Some(&"d")));
        // It goes itself: what stands there then is chosen.
        cursor.settle(&["a", "b"]);
        assert_eq!((cursor.line(), cursor.on()), (Some(1), Some(&"b")));
        cursor.step(-9, &["a", "b"]);
        assert_eq!(cursor.on(), Some(&"a"));
    }
}
