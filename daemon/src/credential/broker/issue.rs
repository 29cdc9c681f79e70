//! The provider's calls that credentials come from.

use secrecy::ExposeSecret as _;

use crate::{
    credential::{DatabaseKey, Grant, api_client::ApiClient, app_user},
    model::{Access, Cause, DatabaseCredential, SshCredential},
    provider::Waiting,
};

/// A new SSH user.
pub(super) async fn ssh(client: &ApiClient, addon: &str) -> Result<SshCredential, Cause> {
    let call = async |grant: Grant| {
        let provider = &client.provider;
        let borealis = provider.borealis(grant.bearer(), addon, Waiting::Somebody);
        borealis.personal_ssh_user().await
    };
    client
        .with_grant(call, |failure| failure.addon_cause(addon))
        .await
}

/// A new database user; of an app the one that its config variable has.
pub(super) async fn database(
    client: &ApiClient,
    key: &DatabaseKey,
) -> Result<DatabaseCredential, Cause> {
    match key {
        DatabaseKey::Personal { addon, access } => {
            let call = async |grant: Grant| {
                let provider = &client.provider;
                let borealis = provider.borealis(grant.bearer(), addon, Waiting::Somebody);
                borealis.personal_database_user(*access).await
            };
            client
                .with_grant(call, |failure| failure.addon_cause(addon))
                .await
        }
        DatabaseKey::App {
            app,
            attachment,
            access,
        } => read_app_user(client, app, attachment, *access).await,
    }
}

async fn read_app_user(
    client: &ApiClient,
    app: &str,
    attachment: &str,
    access: Access,
) -> Result<DatabaseCredential, Cause> {
    let vars = client
        .with_token(async |token| {
            let heroku = client.provider.heroku(&token.value, Waiting::Somebody);
            heroku
                .config_vars(app)
                .await
                .map_err(|failure| match failure.status() {
                    Some(404) => Cause::AppNotFound {
                        app: app.to_owned(),
                    },
                    _ => failure.heroku_cause(&token.source),
                })
        })
        .await?;
    let names = app_user::variables(attachment);
    let (variable, value) = names
        .iter()
        .find_map(|name| Some((name, Some(vars.get(name)?))))
        .unwrap_or((&names[0], None));
    value
        .and_then(|value| app_user::parse(value.expose_secret(), access))
        .ok_or_else(|| Cause::ConfigVariableInvalid {
            app: app.to_owned(),
            variable: variable.clone(),
        })
}
