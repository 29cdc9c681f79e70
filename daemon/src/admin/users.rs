//! Database users.

use super::{borealis, otherwise};
use crate::{
    credential::{Broker, Grant},
    model::{Cause, Refusal},
    provider::wire::addon::DatabaseUsers,
};

/// The active ones.
///
/// # Errors
/// What the provider answers instead.
pub async fn list(broker: &Broker, addon: &str) -> Result<Vec<DatabaseUsers>, Cause> {
    let call = async |grant: Grant| borealis(broker, &grant, addon).users().await;
    broker
        .with_grant(call, |failure| failure.addon_cause(addon))
        .await
}

/// Gives the app's users new names and passwords and deactivates the personal ones. Leases
/// are left as they are: the database refuses them when a client next connects, and that is
/// when the personal users may come back.
///
/// # Errors
/// Why the provider doesn't.
pub async fn reset(broker: &Broker, addon: &str) -> Result<(), Cause> {
    let call = async |grant: Grant| borealis(broker, &grant, addon).reset_users().await;
    broker
        .with_grant(call, |failure| {
            let owned = addon.to_owned();
            match failure.status() {
                Some(400) => Cause::Refused(Refusal::Maintenance { addon: owned }),
                Some(403) => Cause::Refused(Refusal::WriteAccessRevoked { addon: owned }),
                _ => otherwise(failure, addon, "the database users were reset", "users"),
            }
        })
        .await
}
