//! What the Borealis API tells of an add-on. Only what an answer is worthless without is
//! required; anything else that is missing, null or of another type is simply not known.

use jiff::Timestamp;
use secrecy::SecretString;
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::Value;

use super::{filled, secret, shown};
use crate::model::Access;

/// `GET …`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AddonInfo {
    /// `available`, `provisioning`, `maintenance-…`
    #[serde(deserialize_with = "word")]
    pub status: Option<String>,
    /// `us-east-1`.
    #[serde(deserialize_with = "word")]
    pub region: Option<String>,
    /// Without the service's name.
    #[serde(deserialize_with = "word")]
    pub plan_name: Option<String>,
    /// `isolated` or `shared`.
    #[serde(deserialize_with = "word")]
    pub db_tenancy_type: Option<String>,
    /// `17.4`.
    #[serde(deserialize_with = "word")]
    pub postgres_version: Option<String>,
    /// What the plan holds.
    #[serde(deserialize_with = "lenient")]
    pub db_storage_max_bytes: Option<u64>,
    /// What is used of it.
    #[serde(deserialize_with = "lenient")]
    pub db_storage_usage_bytes: Option<u64>,
    /// Read-only replicas.
    #[serde(deserialize_with = "lenient")]
    pub replica_quantity: Option<u64>,
    /// The database's name; none while it is being made.
    #[serde(deserialize_with = "word")]
    pub app_db_name: Option<String>,
    /// When the add-on was made.
    #[serde(deserialize_with = "lenient")]
    pub created_at: Option<Timestamp>,
    /// What it was restored or cloned from.
    #[serde(deserialize_with = "word")]
    pub restore_source_addon_name: Option<String>,
    /// `ok`, `violating`, …
    #[serde(deserialize_with = "word")]
    pub storage_compliance_status: Option<String>,
    /// When write access goes unless the storage is within its limit again.
    #[serde(deserialize_with = "lenient")]
    pub storage_compliance_deadline: Option<Timestamp>,
}

/// `GET …/pg-extensions`.
#[derive(Debug, Deserialize)]
pub(in crate::provider) struct Extensions {
    pub(in crate::provider) extensions: Vec<Extension>,
}

/// An installed extension.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Extension {
    /// Its name.
    #[serde(deserialize_with = "filled")]
    pub name: String,
    /// The schema that its objects are in.
    #[serde(default, deserialize_with = "word")]
    pub schema: Option<String>,
    /// Its version.
    #[serde(default, deserialize_with = "word")]
    pub version: Option<String>,
}

/// `POST …/pg-extensions`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct InstalledExtension {
    /// The schema that its objects are in.
    #[serde(deserialize_with = "word")]
    pub pg_extension_schema: Option<String>,
    /// Its version.
    #[serde(deserialize_with = "word")]
    pub pg_extension_version: Option<String>,
}

/// `GET …/db-users`.
#[derive(Debug, Deserialize)]
pub(in crate::provider) struct Users {
    pub(in crate::provider) users: Vec<DatabaseUsers>,
}

/// One user's pair of database users.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DatabaseUsers {
    /// Whose they are; `None` for the Heroku app.
    #[serde(deserialize_with = "word")]
    pub display_name: Option<String>,
    /// `app` or `personal`.
    #[serde(deserialize_with = "word")]
    pub user_type: Option<String>,
    /// The one that may read.
    #[serde(deserialize_with = "word")]
    pub read_only_username: Option<String>,
    /// The one that may write too.
    #[serde(deserialize_with = "word")]
    pub read_write_username: Option<String>,
}

/// `GET …/data-integrations`.
#[derive(Debug, Deserialize)]
pub(in crate::provider) struct Integrations {
    pub(in crate::provider) integrations: Vec<Integration>,
}

/// A third party's service with access.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Integration {
    /// Its name.
    #[serde(deserialize_with = "filled")]
    pub name: String,
    /// Its database user.
    #[serde(default, deserialize_with = "word")]
    pub db_username: Option<String>,
    /// Its SSH user.
    #[serde(default, deserialize_with = "word")]
    pub ssh_username: Option<String>,
    /// Whether it may write.
    #[serde(default, deserialize_with = "lenient")]
    pub write_access: Option<bool>,
    /// When it was registered.
    #[serde(default, deserialize_with = "lenient")]
    pub created_at: Option<Timestamp>,
}

/// What `POST …/data-integrations` asks for.
#[derive(Debug, Clone, Copy)]
pub struct NewIntegration<'a> {
    /// Its name.
    pub name: &'a str,
    /// `<format> <base64>`, perhaps with a comment.
    pub ssh_public_key: &'a str,
    /// What it may do.
    pub access: Access,
}

/// `POST …/data-integrations`: what the service is to be given.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "the names say it")]
pub struct IntegrationCredentials {
    #[serde(deserialize_with = "filled")]
    pub db_host: String,
    pub db_port: Option<u16>,
    #[serde(deserialize_with = "filled")]
    pub db_name: String,
    #[serde(deserialize_with = "filled")]
    pub db_username: String,
    #[serde(deserialize_with = "secret")]
    pub db_password: SecretString,
    #[serde(deserialize_with = "filled")]
    pub ssh_host: String,
    pub ssh_port: Option<u16>,
    #[serde(deserialize_with = "filled")]
    pub ssh_username: String,
    #[serde(default, deserialize_with = "word")]
    pub public_ssh_host_key: Option<String>,
}

/// `GET …/restore-capabilities`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RestoreCapabilities {
    /// A copy as of now can be made.
    #[serde(deserialize_with = "lenient")]
    pub clone_supported: Option<bool>,
    /// A copy as of an earlier time can be made.
    #[serde(deserialize_with = "lenient")]
    pub restore_supported: Option<bool>,
    /// The earliest such time.
    #[serde(deserialize_with = "lenient")]
    pub earliest_restorable_time: Option<Timestamp>,
    /// The latest such time.
    #[serde(deserialize_with = "lenient")]
    pub latest_restorable_time: Option<Timestamp>,
}

/// `POST …/restore-tokens`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::provider) struct RestoreToken {
    #[serde(deserialize_with = "secret")]
    pub(in crate::provider) restore_token: SecretString,
}

/// `GET …/pg-version-upgrades`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Upgrade {
    /// The version that runs.
    #[serde(deserialize_with = "word")]
    pub current_pg_major_version: Option<String>,
    /// The version that can be had; `None` where there is none.
    #[serde(deserialize_with = "word")]
    pub next_pg_major_version: Option<String>,
    /// `available`, `upgrading`, `maximum`, …
    #[serde(deserialize_with = "word")]
    pub upgrade_status: Option<String>,
}

/// `POST …/pg-version-upgrades`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StartedUpgrade {
    /// The version that runs.
    #[serde(deserialize_with = "word")]
    pub current_pg_major_version: Option<String>,
    /// The version to come.
    #[serde(deserialize_with = "word")]
    pub target_pg_major_version: Option<String>,
}

// === impl AddonInfo ===

impl AddonInfo {
    /// Whether the provider still makes it.
    pub fn is_being_provisioned(&self) -> bool {
        matches!(
            self.status.as_deref(),
            Some("requested" | "provisioning" | "awaiting" | "configuring")
        )
    }
}

/// A text, or a number where the API may one day send one.
fn word<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Ok(match Value::deserialize(from)? {
        Value::String(text) if !text.is_empty() => Some(shown(&text)),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    })
}

fn lenient<'de, D: Deserializer<'de>, T: DeserializeOwned>(from: D) -> Result<Option<T>, D::Error> {
    Ok(serde_json::from_value(Value::deserialize(from)?).ok())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_known_does_no_harm() {
        let info: AddonInfo = serde_json::from_value(json!({
            "status": "maintenance-of-a-new-kind", "region": null, "postgresVersion": 17,
            "dbStorageMaxBytes": -1, "dbStorageUsageBytes": 5, "replicaQuantity": "two",
            "createdAt": "2026-11-22T15:15:00+01:00", "storageComplianceDeadline": "soon",
            "appDbName": "", "somethingNew": {"a": [1]},
        }))
        .unwrap();
        assert_eq!(info.status.as_deref(), Some("maintenance-of-a-new-kind"));
        assert_eq!(info.postgres_version.as_deref(), Some("17"));
        assert_eq!(
            info.created_at.map(|time| time.to_string()).as_deref(),
            Some("2026-11-22T14:15:00Z")
        );
        assert_eq!(
            (info.db_storage_max_bytes, info.db_storage_usage_bytes),
            (None, Some(5))
        );
        assert_eq!(
            (info.region, info.replica_quantity, info.app_db_name),
            (None, None, None)
        );
        assert_eq!(info.storage_compliance_deadline, None);
    }

    #[test]
    fn lists_need_their_list() {
        assert!(serde_json::from_value::<Extensions>(json!({})).is_err());
        assert!(serde_json::from_value::<Users>(json!({"users": null})).is_err());
        let list: Extensions =
            serde_json::from_value(json!({"extensions": [{"name": "pg_trgm"}]})).unwrap();
        assert_eq!(list.extensions[0].version, None);
    }
}
