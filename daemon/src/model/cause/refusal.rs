//! Why the provider refuses what an add-on's owner wants of it. Never the reason of a
//! session's failure.

use super::{Class, Kind, Retry, Words};

/// What is in the way.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(
    missing_docs,
    reason = "each variant's sentence in `words` says what it means"
)]
pub enum Refusal {
    ExtensionDependencies {
        extension: String,
        dependencies: Vec<String>,
    },
    /// Extensions that can't be installed one after the other.
    ExtensionCycle {
        extension: String,
        cycle: Vec<String>,
    },
    ExtensionUnsupported {
        extension: String,
    },
    ExtensionExists {
        extension: String,
        addon: String,
    },
    ExtensionNotInstalled {
        extension: String,
        addon: String,
    },
    ExtensionDependents {
        extension: String,
        addon: String,
    },
    Maintenance {
        addon: String,
    },
    WriteAccessRevoked {
        addon: String,
    },
    IntegrationNameTaken {
        name: String,
        addon: String,
    },
    IntegrationNotFound {
        name: String,
        addon: String,
    },
    IntegrationInvalid {
        name: String,
        addon: String,
        reason: String,
    },
    RestoreImpossible {
        addon: String,
        reason: String,
    },
    RestoreUnderWay {
        source: String,
        addon: String,
    },
    ProvisioningCancelled {
        addon: String,
    },
    UpgradeImpossible {
        addon: String,
        reason: String,
    },
    NoUpgrade {
        addon: String,
    },
}

// === impl Refusal ===

impl Refusal {
    pub(super) fn kind(&self) -> Kind {
        let code = match self {
            Self::ExtensionDependencies { .. } => "extension-dependencies",
            Self::ExtensionCycle { .. } => "extension-cycle",
            Self::ExtensionUnsupported { .. } => "extension-unsupported",
            Self::ExtensionExists { .. } => "extension-exists",
            Self::ExtensionNotInstalled { .. } => "extension-not-installed",
            Self::ExtensionDependents { .. } => "extension-dependents",
            Self::Maintenance { .. } => "maintenance",
            Self::WriteAccessRevoked { .. } => "write-access-revoked",
            Self::IntegrationNameTaken { .. } => "integration-name-taken",
            Self::IntegrationNotFound { .. } => "integration-not-found",
            Self::IntegrationInvalid { .. } => "integration-invalid",
            Self::RestoreImpossible { .. } => "restore-impossible",
            Self::RestoreUnderWay { .. } => "restore-under-way",
            Self::ProvisioningCancelled { .. } => "provisioning-cancelled",
            Self::UpgradeImpossible { .. } => "upgrade-impossible",
            Self::NoUpgrade { .. } => "no-upgrade",
        };
        let class = match self {
            Self::WriteAccessRevoked { .. } => Class::Unavailable,
            _ => Class::Operation,
        };
        Kind::new(code, class, Retry::Never, "57P03")
    }

    pub(super) fn words(&self) -> Words {
        match self {
            Self::ExtensionDependencies {
                extension,
                dependencies,
            } => Words::new(
                format!(
                    "extension {extension} has one or more unsatisfied dependencies; all of its dependencies must be installed: {}",
                    dependencies.join(", ")
                ),
                "run this command again with --recursive to install the extension and the missing ones that it depends on",
            ),
            Self::ExtensionCycle { extension, cycle } => Words::new(
                format!(
                    "extension {extension} can't be installed: each of these needs another of them to be there first: {}",
                    cycle.join(", ")
                ),
                "ask the provider's support: no order of installing them can work",
            ),
            Self::ExtensionUnsupported { extension } => Words::new(
                format!("{extension} is not a supported Postgres extension"),
                "the supported ones are listed at https://www.borealis-data.com/pg-extensions-support.html",
            ),
            Self::ExtensionExists { extension, addon } => Words::new(
                format!(
                    "extension {extension} is already installed or there is a schema name conflict with an existing database schema"
                ),
                format!(
                    "see `borealisctl extensions {addon}`; with --suppress-conflict this is no error"
                ),
            ),
            Self::ExtensionNotInstalled { extension, addon } => Words::new(
                format!("extension {extension} is not installed"),
                format!(
                    "see `borealisctl extensions {addon}`; with --suppress-missing this is no error"
                ),
            ),
            Self::ExtensionDependents { extension, addon } => Words::new(
                format!(
                    "extension {extension} has dependent extensions or objects; it can only be removed after its dependents are removed"
                ),
                format!("remove them first; see `borealisctl extensions {addon}`"),
            ),
            Self::Maintenance { addon } => Words::new(
                format!("add-on {addon} is currently undergoing maintenance"),
                "try again in a few minutes",
            ),
            Self::WriteAccessRevoked { addon } => Words::new(
                format!(
                    "write access to the database of add-on {addon} has been temporarily revoked; generally this indicates that the database has persistently exceeded its storage limit"
                ),
                "try upgrading to a new add-on plan to restore access",
            ),
            Self::IntegrationNameTaken { name, addon } => Words::new(
                format!(
                    "a data integration named {name} is already registered with add-on {addon}"
                ),
                format!(
                    "choose another name, or remove that one with `borealisctl integrations remove {addon} --name {name}`"
                ),
            ),
            Self::IntegrationNotFound { name, addon } => Words::new(
                format!("add-on {addon} has no data integration named {name}"),
                format!("see `borealisctl integrations {addon}`"),
            ),
            Self::IntegrationInvalid {
                name,
                addon,
                reason,
            } => Words::new(
                format!(
                    "data integration {name} can't be registered with add-on {addon}: {reason}"
                ),
                "names have 1 to 25 of a-z, 0-9 and _; keys are RSA, ECDSA or Ed25519 in OpenSSH's format",
            ),
            Self::RestoreImpossible { addon, reason } => Words::new(
                format!("add-on {addon} can't be restored or cloned: {reason}"),
                format!("see `borealisctl restore capabilities {addon}`"),
            ),
            Self::RestoreUnderWay { source, addon } => Words::new(
                format!(
                    "a restore or clone of add-on {source} is under way already, as add-on {addon}"
                ),
                format!(
                    "wait for it with `borealisctl info {addon} --wait`; without --wait another one is started"
                ),
            ),
            Self::ProvisioningCancelled { addon } => Words::new(
                format!("provisioning was cancelled: add-on {addon} was deprovisioned"),
                "try again, or ask the provider's support for the reason",
            ),
            Self::UpgradeImpossible { addon, reason } => Words::new(
                format!("add-on {addon} is in a state that prevents upgrades: {reason}"),
                format!("see `borealisctl upgrade info {addon}`"),
            ),
            Self::NoUpgrade { addon } => Words::new(
                format!("there is no PostgreSQL version upgrade in progress for add-on {addon}"),
                format!("see `borealisctl upgrade info {addon}`"),
            ),
        }
    }
}
