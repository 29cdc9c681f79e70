//! The cancel keys that a session's clients were given. A cancel request opens a connection of
//! its own and proves nothing but that it has the key, so what isn't here is nobody's: it is
//! closed, and costs the bastion nothing.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{postgres::CancelRequest, ssh::Tunnel};

/// The keys of one session.
#[derive(Default)]
pub(crate) struct CancelKeys(Arc<Keys>);

type Keys = Mutex<HashMap<CancelRequest, CancelTarget>>;

/// What a cancel request with a client's key is for.
#[derive(Clone)]
pub(crate) struct CancelTarget {
    /// The key of the connection that the client has now. Another one than it was given where
    /// that connection has been replaced.
    pub(crate) key: CancelRequest,
    /// The tunnel that the connection goes through.
    pub(crate) tunnel: Tunnel,
}

/// Keeps one key valid.
pub(crate) struct CancelKeyGuard {
    keys: Arc<Keys>,
    given: CancelRequest,
}

// === impl CancelKeys ===

impl CancelKeys {
    /// Has requests with the key `given`, which a client is about to hear, lead to `target`.
    pub(crate) fn give(&self, given: CancelRequest, target: CancelTarget) -> CancelKeyGuard {
        locked(&self.0).insert(given.clone(), target);
        CancelKeyGuard {
            keys: Arc::clone(&self.0),
            given,
        }
    }

    /// What a request is for; `None` where no client has its key.
    pub(crate) fn find(&self, request: &CancelRequest) -> Option<CancelTarget> {
        locked(&self.0).get(request).cloned()
    }
}

// === impl CancelKeyGuard ===

impl CancelKeyGuard {
    /// Another connection has taken the place of the one that the client was given the key of.
    pub(crate) fn redirect(&self, target: CancelTarget) {
        locked(&self.keys).insert(self.given.clone(), target);
    }
}

impl Drop for CancelKeyGuard {
    fn drop(&mut self) {
        locked(&self.keys).remove(&self.given);
    }
}

fn locked(keys: &Keys) -> MutexGuard<'_, HashMap<CancelRequest, CancelTarget>> {
    keys.lock().unwrap_or_else(PoisonError::into_inner)
}
