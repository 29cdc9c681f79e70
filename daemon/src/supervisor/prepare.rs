//! What an `open` does before its session is there, so that the session is up sooner.

use std::sync::Arc;

use tokio_util::task::TaskTracker;

use crate::{
    credential::{Broker, Grant},
    model::{Access, Cause, Resolved, Role, Target},
    session::{self, EarlyDial, Environment, Spec},
};

/// What the look-up for an `open` came to.
pub(super) struct Prepared {
    pub(super) resolved: Resolved,
    pub(super) ahead: Ahead,
}

/// What the first attempt need not wait for.
#[derive(Default)]
pub(super) struct Ahead {
    grant: Option<Grant>,
    early_dial: Option<EarlyDial>,
}

/// Looks a target up. Meanwhile the bastion is dialled where it led last time, or, without
/// credentials for that, the grant is asked for that new ones will need.
///
/// # Errors
/// Why it is not known what the target is.
pub(super) async fn prepare(
    environment: &Environment,
    target: &Target,
    role: Role,
    access: Access,
) -> Result<Prepared, Cause> {
    let broker = &environment.broker;
    let early_dial = EarlyDial::begin(broker, &environment.pools, target, role, access);
    let grant = async {
        match early_dial {
            Some(_) => Ok(None),
            // Why there is none is said by who needs it.
            None => Ok(broker.grant_ahead().await.ok()),
        }
    };
    let (resolved, grant) = tokio::try_join!(broker.resolve(target), grant)?;
    Ok(Prepared {
        resolved,
        ahead: Ahead { grant, early_dial },
    })
}

// === impl Ahead ===

impl Ahead {
    /// Asks for what the new session will ask for in a moment, so that the grant outlives no
    /// call and serves all; answers what the session takes itself.
    pub(super) fn spend(
        self,
        broker: &Arc<Broker>,
        spec: &Spec,
        tasks: &TaskTracker,
    ) -> Option<EarlyDial> {
        if let (Some(grant), Some(resolved)) = (self.grant, spec.resolved.clone()) {
            let key = session::database_key(spec, &resolved);
            let broker = Arc::clone(broker);
            tasks.spawn(async move {
                // Who needs them is told why there are none.
                let _ = tokio::join!(
                    broker.ssh(&resolved.addon, None),
                    broker.database(&key, None)
                );
                drop(grant);
            });
        }
        self.early_dial
    }
}
