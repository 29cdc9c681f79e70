//! Dials the tunnels of a pool.

use std::sync::Arc;

use tokio::sync::watch;

use crate::{
    credential::Broker,
    model::Cause,
    ssh::{self, Keepalive, Tunnel},
};

/// Dials further tunnels of a session with the key that is held.
#[derive(Clone)]
pub(crate) struct Dialer {
    pub(crate) broker: Arc<Broker>,
    /// For tunnels that are made from now on.
    pub(crate) keepalive: watch::Receiver<Keepalive>,
    /// Known once the session has been up.
    pub(crate) addon: watch::Receiver<Option<String>>,
}

// === impl Dialer ===

impl Dialer {
    /// Dials with the key that is held; asks the provider for none where one is. The session
    /// has `others` already.
    pub(super) async fn dial(&self, others: usize) -> Result<Tunnel, Cause> {
        let Some(addon) = self.addon.borrow().clone() else {
            return Err(Cause::Internal {
                detail: "a tunnel was wanted before the session was up".into(),
            });
        };
        let lease = self.broker.ssh(&addon, None).await?;
        let keepalive = *self.keepalive.borrow();
        ssh::dial(&lease, keepalive, others).await
    }
}
