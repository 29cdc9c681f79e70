//! Data integrations: third parties' services with access to the database.

use super::{borealis, names_addon, otherwise, reason};
use crate::{
    credential::{Broker, Grant},
    model::{Cause, Refusal},
    provider::wire::addon::{Integration, IntegrationCredentials, NewIntegration},
};

/// Those that are registered.
///
/// # Errors
/// What the provider answers instead.
pub async fn list(broker: &Broker, addon: &str) -> Result<Vec<Integration>, Cause> {
    let call = async |grant: Grant| borealis(broker, &grant, addon).integrations().await;
    broker
        .with_grant(call, |failure| failure.addon_cause(addon))
        .await
}

/// Lets a service in; its password is known from this answer only.
///
/// # Errors
/// Why the provider doesn't.
pub async fn register(
    broker: &Broker,
    addon: &str,
    new: NewIntegration<'_>,
) -> Result<IntegrationCredentials, Cause> {
    let call = async |grant: Grant| {
        borealis(broker, &grant, addon)
            .register_integration(&new)
            .await
    };
    broker
        .with_grant(call, |failure| {
            let (name, owned) = (new.name.to_owned(), addon.to_owned());
            match failure.status() {
                Some(400) => Cause::Refused(Refusal::IntegrationInvalid {
                    name,
                    addon: owned,
                    reason: reason(&failure),
                }),
                Some(403) => Cause::Refused(Refusal::WriteAccessRevoked { addon: owned }),
                Some(409) => {
                    Cause::Refused(Refusal::IntegrationNameTaken { name, addon: owned })
                }
                _ => {
                    let doing = format!(
                        "data integration {name} was registered (if so, remove it and register it again: its password was lost with the answer)"
                    );
                    otherwise(failure, addon, &doing, "integrations")
                }
            }
        })
        .await
}

/// Revokes a service's access.
///
/// # Errors
/// Why the provider doesn't.
pub async fn remove(broker: &Broker, addon: &str, name: &str) -> Result<(), Cause> {
    let call = async |grant: Grant| {
        borealis(broker, &grant, addon)
            .remove_integration(name)
            .await
    };
    broker
        .with_grant(call, |failure| {
            let owned = addon.to_owned();
            match failure.status() {
                Some(403) => Cause::Refused(Refusal::WriteAccessRevoked { addon: owned }),
                Some(404) if !names_addon(&failure) => {
                    Cause::Refused(Refusal::IntegrationNotFound {
                        name: name.to_owned(),
                        addon: owned,
                    })
                }
                _ => {
                    let doing = format!("data integration {name} was removed");
                    otherwise(failure, addon, &doing, "integrations")
                }
            }
        })
        .await
}
