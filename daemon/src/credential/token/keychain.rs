//! The desktop's keychain: the freedesktop Secret Service on the session bus (GNOME Keyring,
//! KWallet, KeePassXC). The only importer of `secret_service`.
//!
//! A daemon has nobody to ask for a password: what is locked stays locked, nothing prompts,
//! and every question has a time limit, since a keyring may wait for its user for ever.

use std::{collections::HashMap, time::Duration};

use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use secret_service::{EncryptionType, Error, Item, SecretService};

/// A keyring that is there answers within milliseconds; one that the bus starts first takes
/// a second or two.
const LIMIT: Duration = Duration::from_secs(5);

/// What an item is found by: the attributes `service` and `account`, as `secret-tool` has
/// them.
#[derive(Debug, Clone, Copy)]
pub(in crate::credential) struct Key<'a> {
    pub(in crate::credential) service: &'a str,
    pub(in crate::credential) account: &'a str,
}

/// What the keychain holds for a key.
#[derive(Debug)]
pub(in crate::credential) struct Held {
    pub(super) secret: SecretString,
    /// When it was written last.
    pub(super) since: Option<Timestamp>,
}

/// Why the keychain doesn't help.
#[derive(Debug, thiserror::Error)]
pub(in crate::credential) enum KeychainError {
    #[error("there is no keychain: {0}")]
    Absent(String),
    #[error("the keychain is locked")]
    Locked,
    #[error("the keychain did not answer within {} s", LIMIT.as_secs())]
    Silent,
    #[error("the keychain failed: {0}")]
    Failed(String),
}

/// What is held for `key`; `None` where nothing is.
///
/// # Errors
/// Why that can't be told. Dropping the future abandons the question.
pub(in crate::credential) async fn look_up(key: Key<'_>) -> Result<Option<Held>, KeychainError> {
    limited(async {
        let service = connect().await?;
        let found = service.search_items(key.attributes()).await?;
        let Some(item) = newest(&found.unlocked).await else {
            return if found.locked.is_empty() {
                Ok(None)
            } else {
                Err(KeychainError::Locked)
            };
        };
        let bytes = item.get_secret().await?;
        let secret = String::from_utf8(bytes)
            .map_err(|_| KeychainError::Failed("what it holds is no text".into()))?;
        Ok(Some(Held {
            secret: SecretString::from(secret),
            since: modified(item).await,
        }))
    })
    .await
}

/// Keeps `secret` under `key`, in place of what was there.
///
/// # Errors
/// Why it isn't kept.
pub(in crate::credential) async fn store(
    key: Key<'_>,
    label: &str,
    secret: &SecretString,
) -> Result<(), KeychainError> {
    limited(async {
        let service = connect().await?;
        let collection = match service.get_default_collection().await {
            Err(Error::NoResult) => {
                return Err(KeychainError::Absent("it has no default keyring".into()));
            }
            collection => collection?,
        };
        if collection.is_locked().await? {
            return Err(KeychainError::Locked);
        }
        let bytes = secret.expose_secret().as_bytes();
        let replace = true;
        collection
            .create_item(label, key.attributes(), bytes, replace, "text/plain")
            .await?;
        Ok(())
    })
    .await
}

/// Removes what is held for `key`, if anything is.
///
/// # Errors
/// Why it may still be there.
pub(in crate::credential) async fn remove(key: Key<'_>) -> Result<(), KeychainError> {
    limited(async {
        let service = connect().await?;
        let found = service.search_items(key.attributes()).await?;
        for item in &found.unlocked {
            item.delete().await?;
        }
        if found.locked.is_empty() {
            Ok(())
        } else {
            Err(KeychainError::Locked)
        }
    })
    .await
}

// === impl Key ===

impl<'a> Key<'a> {
    fn attributes(&self) -> HashMap<&'static str, &'a str> {
        HashMap::from([("service", self.service), ("account", self.account)])
    }
}

// === impl KeychainError ===

impl From<Error> for KeychainError {
    fn from(error: Error) -> Self {
        let text = match error {
            Error::Locked | Error::Prompt => return Self::Locked,
            Error::Unavailable => {
                return Self::Absent("borealisd can't reach a session bus".into());
            }
            Error::Zbus(error) => error.to_string(),
            Error::ZbusFdo(error) => error.to_string(),
            other => other.to_string(),
        };
        // The bus' names for "nobody offers it, and nobody can be started who would".
        let nobody = ["ServiceUnknown", "Spawn.ServiceNotFound", "NameHasNoOwner"];
        if text.contains("Failed to connect to address") {
            Self::Absent("borealisd can't reach a session bus".into())
        } else if nobody.iter().any(|name| text.contains(name)) {
            Self::Absent("no program offers one on the session bus".into())
        } else {
            Self::Failed(text)
        }
    }
}

async fn limited<T>(
    work: impl Future<Output = Result<T, KeychainError>>,
) -> Result<T, KeychainError> {
    tokio::time::timeout(LIMIT, work)
        .await
        .unwrap_or(Err(KeychainError::Silent))
}

/// A connection of its own each time: it is asked for once in hours, and the bus or the
/// keyring may have been started anew.
async fn connect() -> Result<SecretService<'static>, Error> {
    SecretService::connect(EncryptionType::Dh).await
}

/// Several items may match where one was made with further attributes.
async fn newest<'a>(items: &'a [Item<'a>]) -> Option<&'a Item<'a>> {
    let mut newest = None;
    for item in items {
        let modified = modified(item).await;
        if newest.is_none_or(|(_, before)| modified > before) {
            newest = Some((item, modified));
        }
    }
    newest.map(|(item, _)| item)
}

async fn modified(item: &Item<'_>) -> Option<Timestamp> {
    let seconds = item.get_modified().await.ok()?;
    Timestamp::from_second(i64::try_from(seconds).ok()?).ok()
}

#[cfg(test)]
mod tests;
