//! PostgreSQL major versions.

use super::{borealis, otherwise, reason};
use crate::{
    credential::{Broker, Grant},
    model::{Cause, Refusal},
    provider::wire::addon::{StartedUpgrade, Upgrade},
};

/// Whether a newer major version can be had.
///
/// # Errors
/// What the provider answers instead.
pub async fn get(broker: &Broker, addon: &str) -> Result<Upgrade, Cause> {
    let call = async |grant: Grant| borealis(broker, &grant, addon).upgrade().await;
    broker
        .with_grant(call, |failure| failure.addon_cause(addon))
        .await
}

/// Starts the upgrade to the next major version, which goes on by itself.
///
/// # Errors
/// Why the provider doesn't.
pub async fn execute(broker: &Broker, addon: &str) -> Result<StartedUpgrade, Cause> {
    let call = async |grant: Grant| borealis(broker, &grant, addon).start_upgrade().await;
    broker
        .with_grant(call, |failure| {
            let owned = addon.to_owned();
            match failure.status() {
                Some(400) => Cause::Refused(Refusal::UpgradeImpossible {
                    addon: owned,
                    reason: reason(&failure),
                }),
                Some(403) => Cause::Refused(Refusal::WriteAccessRevoked { addon: owned }),
                Some(409) => Cause::Refused(Refusal::Maintenance { addon: owned }),
                _ => otherwise(failure, addon, "the upgrade was started", "upgrade info"),
            }
        })
        .await
}

/// Cancels the upgrade that is under way.
///
/// # Errors
/// Why the provider doesn't.
pub async fn cancel(broker: &Broker, addon: &str) -> Result<(), Cause> {
    let call = async |grant: Grant| borealis(broker, &grant, addon).cancel_upgrade().await;
    broker
        .with_grant(call, |failure| match failure.status() {
            Some(400) => Cause::Refused(Refusal::NoUpgrade {
                addon: addon.to_owned(),
            }),
            _ => otherwise(failure, addon, "the upgrade was cancelled", "upgrade info"),
        })
        .await
}
