//! The APIs' replies as they come. Unknown fields are ignored; a reply without a required
//! one is no usable reply. Nothing here leaves `provider` and `credential`.
//!
//! Names and words are shown, logged and remembered in many places: what could steer a
//! terminal there, which no true one has, is escaped where they are read. Secrets and keys
//! stay exact.

pub mod addon;

use std::{collections::HashMap, fmt};

use secrecy::SecretString;
use serde::{Deserialize, Deserializer, de::Error as _};

use crate::model::text::Escaped;

/// `POST /oauth/authorizations`.
#[derive(Debug, Deserialize)]
pub struct Authorization {
    /// What it is removed by.
    #[serde(deserialize_with = "filled")]
    pub id: String,
    /// Absent only from a reply that makes no sense, but then it can still be removed.
    pub access_token: Option<AccessToken>,
}

/// The part of an authorization that is a secret.
#[derive(Debug, Deserialize)]
pub struct AccessToken {
    /// The bearer for the Borealis API.
    #[serde(deserialize_with = "secret")]
    pub token: SecretString,
}

/// An app as other objects refer to it.
#[derive(Debug, Clone, Deserialize)]
pub struct AppRef {
    /// Heroku's id.
    #[serde(default)]
    pub id: Option<String>,
    /// The app's name.
    #[serde(deserialize_with = "filled")]
    pub name: String,
}

/// An add-on as attachments refer to it.
#[derive(Debug, Clone, Deserialize)]
pub struct AddonRef {
    /// Heroku's id.
    #[serde(deserialize_with = "filled")]
    pub id: String,
    /// The add-on's name.
    #[serde(deserialize_with = "filled")]
    pub name: String,
}

/// An add-on's binding to an app.
#[derive(Debug, Clone, Deserialize)]
pub struct Attachment {
    /// `BOREALIS_PG_MAROON`.
    #[serde(deserialize_with = "filled")]
    pub name: String,
    /// What is bound.
    pub addon: AddonRef,
    /// Where to.
    pub app: AppRef,
}

/// A thing that is only known by its name.
#[derive(Debug, Clone, Deserialize)]
pub struct Named {
    /// The name.
    #[serde(deserialize_with = "filled")]
    pub name: String,
}

/// `GET /addons/{id}` and the elements of `GET /apps/{app}/addons`.
#[derive(Debug, Clone, Deserialize)]
pub struct Addon {
    /// Heroku's id.
    #[serde(deserialize_with = "filled")]
    pub id: String,
    /// The add-on's name, which the Borealis API's paths are made of.
    #[serde(deserialize_with = "filled")]
    pub name: String,
    /// Whose add-on it is.
    pub addon_service: Named,
    /// What was bought.
    #[serde(default)]
    pub plan: Option<Named>,
    /// The app that owns it.
    #[serde(default)]
    pub app: Option<AppRef>,
    /// `provisioning`, `provisioned`, …
    #[serde(default)]
    pub state: Option<String>,
}

/// `GET /account`.
#[derive(Debug, Clone, Deserialize)]
pub struct Account {
    /// Who is logged in.
    #[serde(deserialize_with = "filled")]
    pub email: String,
}

/// `GET /apps/{app}/config-vars`: all of an app's secrets.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub struct ConfigVars(HashMap<String, ConfigVar>);

#[derive(Debug, Deserialize)]
struct ConfigVar(#[serde(deserialize_with = "optional_secret")] Option<SecretString>);

/// `POST …/personal-ssh-users`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SshUser {
    #[serde(deserialize_with = "filled")]
    pub(super) ssh_host: String,
    pub(super) ssh_port: Option<u16>,
    #[serde(deserialize_with = "filled")]
    pub(super) ssh_username: String,
    #[serde(deserialize_with = "secret")]
    pub(super) ssh_private_key: SecretString,
    #[serde(deserialize_with = "exact")]
    pub(super) public_ssh_host_key: String,
}

/// `POST …/personal-db-users`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DatabaseUser {
    #[serde(deserialize_with = "filled")]
    pub(super) db_host: String,
    pub(super) db_port: Option<u16>,
    #[serde(deserialize_with = "filled")]
    pub(super) db_name: String,
    #[serde(deserialize_with = "filled")]
    pub(super) db_username: String,
    #[serde(deserialize_with = "secret")]
    pub(super) db_password: SecretString,
}

// === impl ConfigVars ===

impl ConfigVars {
    /// A variable's value.
    pub fn get(&self, name: &str) -> Option<&SecretString> {
        self.0.get(name)?.0.as_ref()
    }
}

/// A name, fit to be shown.
fn filled<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    exact(from).map(|text| shown(&text))
}

/// Long enough for any key.
const LONGEST: usize = 4000;

fn shown(text: &str) -> String {
    format!("{:.LONGEST$}", Escaped(text))
}

/// A text as it came.
fn exact<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let text = String::deserialize(from)?;
    if text.is_empty() {
        return Err(D::Error::custom("an empty text"));
    }
    Ok(text)
}

fn secret<'de, D: Deserializer<'de>>(from: D) -> Result<SecretString, D::Error> {
    exact(from).map(SecretString::from)
}

/// A variable of another kind than text is somebody else's.
fn optional_secret<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SecretString>, D::Error> {
    struct Text;

    impl<'de> serde::de::Visitor<'de> for Text {
        type Value = Option<SecretString>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a config variable's value")
        }

        fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
            Ok(Some(SecretString::from(text)))
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
            Ok(None)
        }
    }

    from.deserialize_any(Text)
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;
    use serde_json::json;

    use super::{addon::Extension, *};
    use crate::model::text;

    const EVIL: &str = "a\u{1b}[2J\u{7}\0\u{7f}\u{9b}\u{202e}\u{2028}\nforged";

    #[test]
    fn names_are_fit_to_be_shown_and_secrets_are_exact() {
        let body = json!({
            "id": EVIL,
            "name": EVIL.to_owned() + &"x".repeat(10_000),
            "addon_service": { "name": EVIL },
            "plan": { "name": EVIL },
            "app": { "id": EVIL, "name": EVIL },
            "state": EVIL,
        });
        let addon: Addon = serde_json::from_value(body).unwrap();
        let app = addon.app.unwrap();
        for shown in [
            &addon.id,
            &addon.name,
            &addon.addon_service.name,
            &addon.plan.unwrap().name,
            &app.name,
        ] {
            assert!(!shown.contains(text::is_unsafe), "{shown}");
            assert!(shown.chars().count() < 5000);
        }
        let extension: Extension =
            serde_json::from_value(json!({ "name": "x", "schema": EVIL, "version": 17 })).unwrap();
        assert!(!extension.schema.unwrap().contains(text::is_unsafe));
        let token: AccessToken = serde_json::from_value(json!({ "token": EVIL })).unwrap();
        assert_eq!(token.token.expose_secret(), EVIL);
    }
}
