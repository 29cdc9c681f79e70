//! The Heroku Platform API: one function for each call that is needed.
//!
//! Every function fails with a [`Failure`]; dropping its future abandons the call, which
//! the API may still carry out.

use reqwest::Method;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use super::{
    failure::Failure,
    http::{Call, Http, Repeat},
    retry_policy::Waiting,
    wire::{Account, Addon, Attachment, Authorization, ConfigVars},
};

/// The longest that an authorization lives when nobody removes it, in seconds.
pub const AUTHORIZATION_LIFETIME: u32 = 180;

/// An add-on to be made from another one.
#[derive(Debug)]
pub struct NewAddon<'a> {
    /// With the service's name: `borealis-pg:x2-s100`.
    pub plan: &'a str,
    /// From the Borealis API, for the add-on to be restored.
    pub restore_token: &'a SecretString,
    /// ISO 8601; `None` for a clone.
    pub restore_to_time: Option<&'a str>,
    /// The attachment's name; `None` for Heroku's choice.
    pub attachment: Option<&'a str>,
}

/// The API, with a user's token.
#[derive(Clone, Copy)]
pub struct Heroku<'a> {
    pub(super) http: &'a Http,
    pub(super) token: &'a SecretString,
    pub(super) waiting: Waiting,
}

// === impl Heroku ===

impl Heroku<'_> {
    /// `POST /oauth/authorizations`: a bearer for the Borealis API that lives
    /// [`AUTHORIZATION_LIFETIME`].
    pub async fn create_authorization(&self, description: &str) -> Result<Authorization, Failure> {
        let mut call = self.post(
            &["oauth", "authorizations"],
            json!({
                "description": description,
                "expires_in": AUTHORIZATION_LIFETIME,
                "scope": ["read", "identity"],
            }),
        );
        call.leaves =
            Some("an authorization may have been made, which ends by itself within 180 seconds");
        self.http.json(&call).await
    }

    /// `DELETE /oauth/authorizations/{id}`.
    pub async fn delete_authorization(&self, id: &str) -> Result<(), Failure> {
        let call = self.call(Method::DELETE, &["oauth", "authorizations", id], None);
        self.http.done(&call).await
    }

    /// `POST /actions/addon-attachments/resolve`: what an add-on's or attachment's name or
    /// id means, in one app or anywhere.
    pub async fn resolve_attachments(
        &self,
        addon: &str,
        app: Option<&str>,
    ) -> Result<Vec<Attachment>, Failure> {
        let mut body = json!({ "addon_attachment": addon });
        if let Some(app) = app {
            body["app"] = app.into();
        }
        let call = self.post(&["actions", "addon-attachments", "resolve"], body);
        self.http.json(&call).await
    }

    /// `GET /addons/{id or name}`.
    pub async fn addon(&self, addon: &str) -> Result<Addon, Failure> {
        self.http.json(&self.get(&["addons", addon])).await
    }

    /// `GET /addons/{id or name}/addon-attachments`.
    pub async fn addon_attachments(&self, addon: &str) -> Result<Vec<Attachment>, Failure> {
        let call = self.get(&["addons", addon, "addon-attachments"]);
        self.http.list(&call).await
    }

    /// `GET /apps/{app}/addons`, of every service.
    pub async fn app_addons(&self, app: &str) -> Result<Vec<Addon>, Failure> {
        self.http.list(&self.get(&["apps", app, "addons"])).await
    }

    /// `POST /apps/{app}/addons`: buys an add-on, so it is never asked for twice.
    pub async fn create_addon(&self, app: &str, new: &NewAddon<'_>) -> Result<Addon, Failure> {
        let mut config = json!({ "restore-token": new.restore_token.expose_secret() });
        if let Some(time) = new.restore_to_time {
            config["restore-to-time"] = time.into();
        }
        let mut body = json!({ "plan": new.plan, "config": config });
        if let Some(name) = new.attachment {
            body["attachment"] = json!({ "name": name });
        }
        let call = self.call(Method::POST, &["apps", app, "addons"], Some(body));
        self.http.json(&call.once()).await
    }

    /// `GET /apps/{app}/config-vars`.
    pub async fn config_vars(&self, app: &str) -> Result<ConfigVars, Failure> {
        let call = self.get(&["apps", app, "config-vars"]);
        self.http.json(&call).await
    }

    /// `GET /account`: whose token it is.
    pub async fn account(&self) -> Result<Account, Failure> {
        self.http.json(&self.get(&["account"])).await
    }
}

impl<'a> Heroku<'a> {
    fn get(&self, path: &[&'a str]) -> Call<'a> {
        self.call(Method::GET, path, None)
    }

    fn post(&self, path: &[&'a str], body: Value) -> Call<'a> {
        self.call(Method::POST, path, Some(body))
    }

    fn call(&self, method: Method, path: &[&'a str], body: Option<Value>) -> Call<'a> {
        Call {
            method,
            path: path.to_vec(),
            bearer: self.token,
            body,
            waiting: self.waiting,
            leaves: None,
            repeat: Repeat::Freely,
        }
    }
}
