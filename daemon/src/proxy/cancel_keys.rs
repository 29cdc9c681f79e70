//! The cancel keys that a session's clients were given. A cancel request opens a connection of
//! its own and proves nothing but that it has the key, so what isn't here is nobody's: it is
//! closed, and costs the bastion nothing.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::postgres::CancelRequest;

/// The keys of one session. `W` watches the end of a connection.
pub(crate) struct CancelKeys<W>(Arc<Keys<W>>);

type Keys<W> = Mutex<HashMap<CancelRequest, CancelTarget<W>>>;

/// What a cancel request with a client's key is for.
#[derive(Clone)]
pub(crate) struct CancelTarget<W> {
    /// The key of the connection that the client has now. Another one than it was given where
    /// that connection has been replaced.
    pub(crate) key: CancelRequest,
    /// The end of that connection, by which its tunnel is known.
    pub(crate) closing: W,
}

/// Keeps one key valid.
pub(crate) struct CancelKeyGuard<W> {
    keys: Arc<Keys<W>>,
    given: CancelRequest,
}

// === impl CancelKeys ===

impl<W: Clone> CancelKeys<W> {
    /// None.
    pub(crate) fn new() -> Self {
        Self(Arc::default())
    }

    /// Has requests with the key `given`, which a client is about to hear, lead to `target`.
    pub(crate) fn give(&self, given: CancelRequest, target: CancelTarget<W>) -> CancelKeyGuard<W> {
        locked(&self.0).insert(given.clone(), target);
        CancelKeyGuard {
            keys: Arc::clone(&self.0),
            given,
        }
    }

    /// What a request is for; `None` where no client has its key.
    pub(crate) fn find(&self, request: &CancelRequest) -> Option<CancelTarget<W>> {
        locked(&self.0).get(request).cloned()
    }
}

// === impl CancelKeyGuard ===

impl<W> CancelKeyGuard<W> {
    /// Another connection has taken the place of the one that the client was given the key of.
    pub(crate) fn redirect(&self, target: CancelTarget<W>) {
        locked(&self.keys).insert(self.given.clone(), target);
    }
}

impl<W> Drop for CancelKeyGuard<W> {
    fn drop(&mut self) {
        locked(&self.keys).remove(&self.given);
    }
}

fn locked<W>(keys: &Keys<W>) -> MutexGuard<'_, HashMap<CancelRequest, CancelTarget<W>>> {
    keys.lock().unwrap_or_else(PoisonError::into_inner)
}
