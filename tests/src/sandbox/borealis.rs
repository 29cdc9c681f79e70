//! The Borealis add-on API: every call below `/heroku/resources/{addon}`, with the statuses
//! that it is known to answer.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{FromRequestParts, Path, RawPathParams, State},
    http::{HeaderMap, StatusCode, request::Parts},
    response::{IntoResponse, Response},
    routing::{delete, get, post},
};
use jiff::SignedDuration;
use russh::keys::PublicKey;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    SandboxError,
    catalog::AddonState,
    database::Access,
    extensions::{self, Obstacle},
    heroku::bearer_token,
    issue,
    provider::{IntegrationRequest, Provider},
    world::{Addon, Bearer},
};

const STORAGE_MAXIMUM: i64 = 1 << 30;

/// A refusal: its status and body.
#[derive(Debug)]
struct Refusal(StatusCode, Value);

type Answer<T = Response> = Result<T, Refusal>;
type Provided = State<Arc<Provider>>;

/// A request that may be served: its user has a live authorization, and the add-on is ours.
struct Visit {
    email: String,
    addon: Addon,
    state: AddonState,
}

/// All routes. The caller puts the gate in front.
pub(crate) fn router(provider: Arc<Provider>) -> Router {
    let calls = Router::new()
        .route("/", get(information))
        .route("/personal-ssh-users", post(personal_ssh_user))
        .route("/personal-db-users", post(personal_db_user))
        .route(
            "/pg-extensions",
            get(list_extensions).post(install_extension),
        )
        .route("/pg-extensions/{extension}", delete(remove_extension))
        .route("/db-users", get(list_users))
        .route("/db-users/credentials", delete(reset_users))
        .route(
            "/data-integrations",
            get(list_integrations).post(add_integration),
        )
        .route(
            "/data-integrations/{integration}",
            delete(remove_integration),
        )
        .route("/restore-capabilities", get(restore_capabilities))
        .route("/restore-tokens", post(restore_token))
        .route(
            "/pg-version-upgrades",
            get(upgrade_information).post(start_upgrade),
        )
        .route("/pg-version-upgrades/current", delete(cancel_upgrade));
    Router::new()
        .nest("/heroku/resources/{addon}", calls)
        .fallback(|| async { Refusal::reason(StatusCode::NOT_FOUND, "No such call") })
        .with_state(provider)
}

// === impl Visit ===

impl FromRequestParts<Arc<Provider>> for Visit {
    type Rejection = Refusal;

    async fn from_request_parts(
        parts: &mut Parts,
        provider: &Arc<Provider>,
    ) -> Result<Self, Self::Rejection> {
        let email = authorized(&parts.headers, provider)?;
        let path = RawPathParams::from_request_parts(parts, provider).await;
        let name = path
            .ok()
            .and_then(|path| {
                let (_, name) = path.iter().find(|(key, _)| *key == "addon")?;
                Some(name.to_owned())
            })
            .unwrap_or_default();
        let world = provider.world();
        let addon = world.addon(&name).filter(|addon| addon.name == name);
        let (Some(addon), Some(borealis)) = (addon, world.borealis(&name)) else {
            return Err(Refusal(
                StatusCode::NOT_FOUND,
                json!({"reason": "Add-on not found", "resourceType": "addon"}),
            ));
        };
        Ok(Self {
            email,
            state: borealis.state,
            addon: addon.clone(),
        })
    }
}

impl Visit {
    fn name(&self) -> &str {
        &self.addon.name
    }

    /// Refuses what a provisioning or upgrading add-on can't do.
    fn ready(&self) -> Answer<()> {
        match self.state {
            AddonState::Provisioning => Err(Refusal::reason(
                StatusCode::UNPROCESSABLE_ENTITY,
                "Add-on is not finished provisioning",
            )),
            AddonState::Upgrading => Err(Refusal::reason(
                StatusCode::LOCKED,
                "Add-on is undergoing a PostgreSQL major version upgrade",
            )),
            AddonState::Available | AddonState::Revoked | AddonState::Maintenance => Ok(()),
        }
    }

    /// Also refuses what is denied to personal users of a revoked add-on.
    fn ready_for_persons(&self) -> Answer<()> {
        self.ready()?;
        match self.state {
            AddonState::Revoked => Err(Refusal::reason(
                StatusCode::FORBIDDEN,
                "Personal access has been revoked",
            )),
            _ => Ok(()),
        }
    }
}

/// The e-mail of the user behind a live short-lived authorization. The user's own token is
/// none.
fn authorized(headers: &HeaderMap, provider: &Provider) -> Answer<String> {
    let bearer = bearer_token(headers).and_then(|token| provider.world().bearer(token));
    match bearer {
        Some(Bearer::Grant(email)) => Ok(email),
        Some(Bearer::User(_)) | None => Err(Refusal::reason(
            StatusCode::UNAUTHORIZED,
            "Invalid or expired authorization token",
        )),
    }
}

// === personal users ===

async fn personal_ssh_user(State(provider): Provided, visit: Visit) -> Answer<Json<Value>> {
    visit.ready_for_persons()?;
    let user = provider.personal_ssh_user(visit.name(), &visit.email)?;
    let (host, port) = provider.bastion_address();
    Ok(Json(json!({
        "sshHost": host,
        "sshPort": port,
        "sshUsername": user.username,
        "sshPrivateKey": user.private_key,
        "publicSshHostKey": provider.bastion.claimed_host_key(),
    })))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DbUserRequest {
    enable_write_access: bool,
}

async fn personal_db_user(
    State(provider): Provided,
    visit: Visit,
    body: String,
) -> Answer<Json<Value>> {
    visit.ready_for_persons()?;
    let wanted: DbUserRequest = read(&body)?;
    let access = Access::from_write(wanted.enable_write_access);
    let login = provider
        .personal_db_user(visit.name(), &visit.email, access)
        .await?;
    let database = provider.database(visit.name()).await?;
    Ok(Json(json!({
        "dbHost": "127.0.0.1",
        "dbPort": provider.postgres.port(),
        "dbName": database.name(),
        "dbUsername": login.username,
        "dbPassword": login.password,
    })))
}

// === the add-on ===

async fn information(State(provider): Provided, visit: Visit) -> Answer<Json<Value>> {
    let provisioning = visit.state == AddonState::Provisioning;
    let (used, version, name) = if provisioning {
        (0, Value::Null, Value::Null)
    } else {
        let database = provider.database(visit.name()).await?;
        let used = database.size(&provider.postgres).await?;
        let (_, version) = server_version(&provider).await?;
        (used, version.into(), database.name().into())
    };
    let source = provider.with(visit.name(), |b| b.restored_from.clone())?;
    let revoked = visit.state == AddonState::Revoked;
    Ok(Json(json!({
        "addonName": visit.name(),
        "appDbName": name,
        "createdAt": visit.addon.created_at,
        "dbStorageMaxBytes": STORAGE_MAXIMUM,
        "dbStorageUsageBytes": if revoked { STORAGE_MAXIMUM + used } else { used },
        "dbTenancyType": "isolated",
        "planName": visit.addon.plan.split_once(':').map_or("", |(_, plan)| plan),
        "postgresVersion": version,
        "region": "us-east-1",
        "replicaQuantity": 0,
        "restoreSourceAddonName": source,
        "status": match visit.state {
            AddonState::Available | AddonState::Revoked => "available",
            AddonState::Provisioning => "provisioning",
            AddonState::Upgrading => "maintenance-postgresql-major-version-upgrade",
            AddonState::Maintenance => "maintenance",
        },
        "storageComplianceDeadline": null,
        "storageComplianceStatus": if revoked { "restricted" } else { "ok" },
    })))
}

// === extensions ===

async fn list_extensions(State(provider): Provided, visit: Visit) -> Answer<Json<Value>> {
    visit.ready()?;
    let database = provider.database(visit.name()).await?;
    let list = extensions::list(&provider.postgres, &database).await?;
    Ok(Json(json!({"extensions": list})))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExtensionRequest {
    pg_extension_name: String,
}

async fn install_extension(State(provider): Provided, visit: Visit, body: String) -> Answer {
    visit.ready()?;
    let wanted: ExtensionRequest = read(&body)?;
    let name = &wanted.pg_extension_name;
    let database = provider.database(visit.name()).await?;
    let installed = extensions::install(&provider.postgres, &database, name).await?;
    match installed {
        Ok(extension) => {
            let body = json!({
                "pgExtensionSchema": extension.schema,
                "pgExtensionVersion": extension.version,
            });
            Ok((StatusCode::CREATED, Json(body)).into_response())
        }
        Err(obstacle) => Err(Refusal::from_obstacle(obstacle, name)),
    }
}

async fn remove_extension(
    State(provider): Provided,
    visit: Visit,
    Path((_, name)): Path<(String, String)>,
) -> Answer<Json<Value>> {
    visit.ready()?;
    let database = provider.database(visit.name()).await?;
    match extensions::remove(&provider.postgres, &database, &name).await? {
        Ok(()) => Ok(Json(json!({"success": true}))),
        Err(obstacle) => Err(Refusal::from_obstacle(obstacle, &name)),
    }
}

// === users ===

async fn list_users(State(provider): Provided, visit: Visit) -> Answer<Json<Value>> {
    visit.ready()?;
    let users = provider.with(visit.name(), |borealis| {
        let app = json!({
            "displayName": null,
            "readOnlyUsername": borealis.app_users.read_only.username,
            "readWriteUsername": borealis.app_users.read_write.username,
            "userType": "app",
        });
        let personal = borealis.personal.iter().map(|(email, names)| {
            json!({
                "displayName": email,
                "readOnlyUsername": names.read_only,
                "readWriteUsername": names.read_write,
                "userType": "personal",
            })
        });
        std::iter::once(app).chain(personal).collect::<Vec<_>>()
    })?;
    Ok(Json(json!({"users": users})))
}

async fn reset_users(State(provider): Provided, visit: Visit) -> Answer<Json<Value>> {
    visit.ready()?;
    if visit.state == AddonState::Maintenance {
        return Err(Refusal::reason(
            StatusCode::BAD_REQUEST,
            "Add-on is currently undergoing maintenance",
        ));
    }
    provider.reset_users(visit.name()).await?;
    Ok(Json(json!({"success": true})))
}

// === data integrations ===

async fn list_integrations(State(provider): Provided, visit: Visit) -> Answer<Json<Value>> {
    visit.ready()?;
    let list = provider.with(visit.name(), |borealis| {
        borealis
            .integrations
            .iter()
            .map(|integration| {
                json!({
                    "name": integration.name,
                    "dbUsername": integration.db_username,
                    "sshUsername": integration.ssh_username,
                    "writeAccess": integration.access.is_write(),
                    "createdAt": integration.created_at,
                })
            })
            .collect::<Vec<_>>()
    })?;
    Ok(Json(json!({"integrations": list})))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct NewIntegration {
    integration_name: String,
    ssh_public_key: String,
    #[serde(default)]
    enable_write_access: bool,
}

async fn add_integration(
    State(provider): Provided,
    visit: Visit,
    body: String,
) -> Answer<Json<Value>> {
    visit.ready()?;
    let wanted: NewIntegration = read(&body)?;
    let name = wanted.integration_name;
    let bad = |reason: &str| Refusal::reason(StatusCode::BAD_REQUEST, reason);
    let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    if name.is_empty() || name.len() > 50 || !name.chars().all(fine) {
        return Err(bad(
            "The integration name may hold lower case letters, digits, _ and - only, up to 50",
        ));
    }
    let key = PublicKey::from_openssh(wanted.ssh_public_key.trim())
        .map_err(|_| bad("The SSH public key is not valid"))?;
    let taken = provider.with(visit.name(), |b| {
        b.integrations.iter().any(|i| i.name == name)
    })?;
    if taken {
        return Err(Refusal::reason(
            StatusCode::CONFLICT,
            "A data integration with that name is already registered",
        ));
    }
    let request = IntegrationRequest {
        name,
        key,
        access: Access::from_write(wanted.enable_write_access),
    };
    let (integration, login) = provider.add_integration(visit.name(), request).await?;
    let database = provider.database(visit.name()).await?;
    Ok(Json(json!({
        "dbHost": "127.0.0.1",
        "dbPort": provider.postgres.port(),
        "dbName": database.name(),
        "dbUsername": login.username,
        "dbPassword": login.password,
        "sshHost": "127.0.0.1",
        "sshPort": provider.bastion.port(),
        "sshUsername": integration.ssh_username,
        "publicSshHostKey": provider.bastion.claimed_host_key(),
    })))
}

async fn remove_integration(
    State(provider): Provided,
    visit: Visit,
    Path((_, name)): Path<(String, String)>,
) -> Answer<Json<Value>> {
    visit.ready()?;
    if provider.remove_integration(visit.name(), &name).await? {
        Ok(Json(json!({"success": true})))
    } else {
        Err(Refusal(
            StatusCode::NOT_FOUND,
            json!({"reason": "Data integration not found", "resourceType": "integration"}),
        ))
    }
}

// === restore ===

async fn restore_capabilities(visit: Visit) -> Answer<Json<Value>> {
    visit.ready()?;
    // A day of history, or as much as there has been.
    let now = issue::now();
    let day_ago = now - SignedDuration::from_hours(24);
    Ok(Json(json!({
        "cloneSupported": true,
        "restoreSupported": true,
        "earliestRestorableTime": day_ago.max(visit.addon.created_at),
        "latestRestorableTime": now,
    })))
}

async fn restore_token(State(provider): Provided, visit: Visit) -> Answer<Json<Value>> {
    visit.ready()?;
    let token = issue::opaque_token();
    let mut world = provider.world();
    world.note_secret("restore token", &token);
    world
        .restore_tokens
        .insert(token.clone(), visit.addon.name.clone());
    Ok(Json(json!({"restoreToken": token})))
}

// === major versions ===

async fn upgrade_information(State(provider): Provided, visit: Visit) -> Answer<Json<Value>> {
    if visit.state == AddonState::Provisioning {
        visit.ready()?;
    }
    let (current, _) = server_version(&provider).await?;
    Ok(Json(json!({
        "currentPgMajorVersion": current.to_string(),
        "nextPgMajorVersion": (current + 1).to_string(),
        "upgradeStatus": match visit.state {
            AddonState::Upgrading => "upgrading",
            AddonState::Maintenance => "maintenance",
            _ => "available",
        },
    })))
}

/// The upgrade goes on until it is cancelled, or the add-on's state is set from outside.
async fn start_upgrade(State(provider): Provided, visit: Visit) -> Answer<Json<Value>> {
    if visit.state == AddonState::Maintenance {
        return Err(Refusal::reason(
            StatusCode::CONFLICT,
            "Add-on is currently undergoing maintenance",
        ));
    }
    visit.ready()?;
    let (current, _) = server_version(&provider).await?;
    provider
        .set_state(visit.name(), AddonState::Upgrading)
        .await?;
    Ok(Json(json!({
        "currentPgMajorVersion": current.to_string(),
        "targetPgMajorVersion": (current + 1).to_string(),
    })))
}

async fn cancel_upgrade(State(provider): Provided, visit: Visit) -> Answer<Json<Value>> {
    if visit.state != AddonState::Upgrading {
        visit.ready()?;
        return Err(Refusal::reason(
            StatusCode::BAD_REQUEST,
            "There is no PostgreSQL major version upgrade to cancel",
        ));
    }
    provider
        .set_state(visit.name(), AddonState::Available)
        .await?;
    Ok(Json(json!({"success": true})))
}

async fn server_version(provider: &Provider) -> Result<(i32, String), SandboxError> {
    let row = provider
        .postgres
        .admin("postgres")
        .await?
        .query_one(
            "select current_setting('server_version_num')::int,
                    split_part(current_setting('server_version'), ' ', 1)",
            &[],
        )
        .await
        .map_err(SandboxError::sql("asking for the server's version"))?;
    Ok((row.get::<_, i32>(0) / 10_000, row.get(1)))
}

fn read<T: serde::de::DeserializeOwned>(body: &str) -> Answer<T> {
    serde_json::from_str(body).map_err(|error| {
        Refusal::reason(
            StatusCode::BAD_REQUEST,
            &format!("The request body is invalid: {error}"),
        )
    })
}

// === impl Refusal ===

impl Refusal {
    fn reason(status: StatusCode, reason: &str) -> Self {
        Self(status, json!({"reason": reason}))
    }

    fn from_obstacle(obstacle: Obstacle, name: &str) -> Self {
        match obstacle {
            Obstacle::Unknown => Self::reason(
                StatusCode::BAD_REQUEST,
                &format!("{name} is not a supported Postgres extension"),
            ),
            Obstacle::Dependencies(missing) => Self(
                StatusCode::BAD_REQUEST,
                json!({"reason": "Missing extension dependencies", "dependencies": missing}),
            ),
            Obstacle::Exists => Self::reason(
                StatusCode::CONFLICT,
                "The extension is already installed or a schema of that name exists",
            ),
            Obstacle::Dependents => {
                Self::reason(StatusCode::BAD_REQUEST, "The extension has dependents")
            }
            Obstacle::NotInstalled => Self(
                StatusCode::NOT_FOUND,
                json!({"reason": "Extension not installed", "resourceType": "extension"}),
            ),
        }
    }
}

impl From<SandboxError> for Refusal {
    fn from(error: SandboxError) -> Self {
        tracing::warn!(%error, "a Borealis request failed");
        Self::reason(StatusCode::SERVICE_UNAVAILABLE, &error.to_string())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(self.1)).into_response()
    }
}
