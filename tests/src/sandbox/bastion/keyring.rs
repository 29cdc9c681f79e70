//! The user keys that a bastion takes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use russh::keys::PublicKey;

/// Shared by the one who issues keys and the one who checks them.
#[derive(Debug, Clone)]
pub(super) struct KeyRing(Arc<Mutex<Keys>>);

#[derive(Debug, Default)]
struct Keys {
    refused: bool,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    login: String,
    scope: String,
    key: PublicKey,
}

// === impl KeyRing ===

impl KeyRing {
    pub(super) fn new() -> Self {
        Self(Arc::default())
    }

    /// Adds a key; of the same scope's, the newest `keep` stay.
    pub(super) fn add(&self, login: &str, scope: &str, key: PublicKey, keep: usize) {
        let mut keys = self.lock();
        keys.entries.push(Entry {
            login: login.to_owned(),
            scope: scope.to_owned(),
            key,
        });
        let of_scope = keys.entries.iter().filter(|e| e.scope == scope).count();
        let mut surplus = of_scope.saturating_sub(keep);
        keys.entries.retain(|entry| {
            let goes = entry.scope == scope && surplus > 0;
            surplus -= usize::from(goes);
            !goes
        });
    }

    pub(super) fn remove(&self, scope: &str) {
        self.lock().entries.retain(|entry| entry.scope != scope);
    }

    pub(super) fn refuse(&self, refused: bool) {
        self.lock().refused = refused;
    }

    pub(super) fn accepts(&self, login: &str, key: &PublicKey) -> bool {
        let keys = self.lock();
        !keys.refused
            && keys
                .entries
                .iter()
                .any(|e| e.login == login && e.key.key_data() == key.key_data())
    }

    /// Every key that is taken, whoever's it is.
    pub(super) fn accepted(&self) -> Vec<PublicKey> {
        let keys = self.lock();
        if keys.refused {
            return Vec::new();
        }
        keys.entries.iter().map(|entry| entry.key.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Keys> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::issue;

    fn key() -> PublicKey {
        issue::key().unwrap().public_key().clone()
    }

    #[test]
    fn only_the_newest_keys_of_a_scope_stay() {
        let ring = KeyRing::new();
        let (first, second, third, other) = (key(), key(), key(), key());
        ring.add("u", "a", first.clone(), 2);
        ring.add("u", "b", other.clone(), 2);
        ring.add("u", "a", second.clone(), 2);
        assert!(ring.accepts("u", &first));
        ring.add("u", "a", third.clone(), 2);
        assert!(!ring.accepts("u", &first));
        assert!(ring.accepts("u", &second) && ring.accepts("u", &third));
        assert!(ring.accepts("u", &other));
        assert!(!ring.accepts("v", &third), "another user's");
        ring.remove("a");
        assert!(!ring.accepts("u", &third) && ring.accepts("u", &other));
    }

    #[test]
    fn refusing_is_undone() {
        let ring = KeyRing::new();
        let key = key();
        ring.add("u", "a", key.clone(), 1);
        ring.refuse(true);
        assert!(!ring.accepts("u", &key) && ring.accepted().is_empty());
        ring.refuse(false);
        assert!(ring.accepts("u", &key));
    }
}
