//! The Heroku Platform API, as far as the provider's clients need it, with Heroku's checks
//! of headers, its form of errors and its way of paging.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Path, Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{delete, get, post},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    SandboxError,
    catalog::AddonState,
    paging::page,
    provider::{AddonRequest, Provider},
    world::{Addon, App, Attachment, Bearer, SERVICE, User, World},
};

const ACCEPT: &str = "application/vnd.heroku+json; version=3";

/// What the handlers share.
#[derive(Debug, Clone)]
pub(crate) struct Heroku {
    pub(crate) provider: Arc<Provider>,
    pub(crate) borealis_url: String,
    pub(crate) page: usize,
}

/// Who asks.
#[derive(Debug, Clone)]
struct Asker(Bearer);

/// An error as Heroku writes it.
#[derive(Debug)]
struct HerokuError {
    status: StatusCode,
    id: &'static str,
    message: String,
    resource: Option<&'static str>,
}

type Answer<T = Response> = Result<T, HerokuError>;

/// All routes. The caller puts the gate in front.
pub(crate) fn router(state: Heroku) -> Router {
    Router::new()
        .route("/account", get(account))
        .route("/oauth/authorizations", post(create_authorization))
        .route("/oauth/authorizations/{id}", delete(delete_authorization))
        .route("/actions/addon-attachments/resolve", post(resolve))
        .route("/addons", get(all_addons))
        .route("/addons/{addon}", get(addon))
        .route("/addons/{addon}/addon-attachments", get(addon_attachments))
        .route("/apps", get(apps))
        .route("/apps/{app}", get(app))
        .route("/apps/{app}/addons", get(app_addons).post(create_addon))
        .route("/apps/{app}/addon-attachments", get(app_attachments))
        .route("/apps/{app}/config-vars", get(config_vars))
        .fallback(|| async { HerokuError::not_found("resource", "the specified resource") })
        .layer(middleware::from_fn_with_state(state.clone(), check))
        .with_state(state)
}

/// The version in `Accept`, then the token.
async fn check(State(state): State<Heroku>, mut request: Request, next: Next) -> Response {
    let headers = request.headers();
    let accepted = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    // The space is a matter of taste.
    if !accepted.replace(' ', "").contains(&ACCEPT.replace(' ', "")) {
        return HerokuError::new(
            StatusCode::NOT_ACCEPTABLE,
            "not_acceptable",
            format!("The request must be for this version of the API: `Accept: {ACCEPT}`."),
        )
        .into_response();
    }
    let bearer = bearer_token(headers).and_then(|token| state.provider.world().bearer(token));
    // What a short-lived authorization's scope lets it do is reading.
    let allowed = match &bearer {
        Some(Bearer::User(_)) => true,
        Some(Bearer::Grant(_)) => request.method().is_safe(),
        None => false,
    };
    match bearer {
        Some(bearer) if allowed => {
            request.extensions_mut().insert(Asker(bearer));
            next.run(request).await
        }
        Some(_) => HerokuError::new(
            StatusCode::FORBIDDEN,
            "forbidden",
            "The scope of this OAuth authorization does not allow access to this resource.",
        )
        .into_response(),
        None => HerokuError::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "Invalid credentials provided.",
        )
        .into_response(),
    }
}

/// The token of an `Authorization: Bearer` header.
pub(crate) fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

// === handlers ===

async fn account(State(state): State<Heroku>, request: Request) -> Answer {
    let world = state.provider.world();
    let user = asker(&world, &request)?;
    Ok(Json(json!({
        "id": user.id,
        "email": user.email,
        "name": user.email.split('@').next(),
        "verified": true,
        "two_factor_authentication": false,
    }))
    .into_response())
}

#[derive(Debug, Deserialize)]
struct AuthorizationRequest {
    #[serde(default)]
    description: String,
    expires_in: Option<u64>,
    #[serde(default)]
    scope: Vec<String>,
}

async fn create_authorization(State(state): State<Heroku>, request: Request) -> Answer {
    let email = asker(&state.provider.world(), &request)?.email;
    let wanted: AuthorizationRequest = read_body(request).await?;
    let lasts = wanted.expires_in.unwrap_or(365 * 24 * 3600);
    let grant = {
        let mut world = state.provider.world();
        let grant = world.grants.add(&email, Duration::from_secs(lasts));
        world.note_secret("short-lived authorization", &grant.token);
        grant
    };
    state.provider.pulse.beat();
    let body = json!({
        "id": grant.id,
        "description": wanted.description,
        "scope": wanted.scope,
        "access_token": {"token": grant.token, "expires_in": lasts},
        "user": {"email": grant.user},
    });
    Ok((StatusCode::CREATED, Json(body)).into_response())
}

async fn delete_authorization(
    State(state): State<Heroku>,
    Path(id): Path<String>,
    request: Request,
) -> Answer {
    let removed = {
        let mut world = state.provider.world();
        let user = asker(&world, &request)?;
        world.grants.remove(&id, &user.email)
    };
    state.provider.pulse.beat();
    if removed {
        Ok(Json(json!({"id": id})).into_response())
    } else {
        Err(HerokuError::not_found(
            "authorization",
            "that authorization",
        ))
    }
}

#[derive(Debug, Deserialize)]
struct ResolveRequest {
    addon_attachment: String,
    app: Option<String>,
    addon_service: Option<String>,
}

async fn resolve(State(state): State<Heroku>, request: Request) -> Answer {
    let wanted: ResolveRequest = read_body(request).await?;
    let world = state.provider.world();
    // Heroku's own tools write APP::ATTACHMENT too.
    let (app, name) = match (&wanted.app, wanted.addon_attachment.split_once("::")) {
        (None, Some((app, name))) => (Some(app), name),
        (app, _) => (app.as_deref(), wanted.addon_attachment.as_str()),
    };
    let app = match app {
        Some(app) => Some(find_app(&world, app)?.name.clone()),
        None => None,
    };
    let found: Vec<Value> = world
        .attachments
        .iter()
        .filter(|attachment| app.as_ref().is_none_or(|app| *app == attachment.app))
        .filter(|attachment| {
            attachment.id == name
                // An attachment's name means something within an app only.
                || app.is_some() && attachment.name.eq_ignore_ascii_case(name)
                || world.addon(name).is_some_and(|a| a.name == attachment.addon)
        })
        .filter(|attachment| {
            wanted.addon_service.as_ref().is_none_or(|service| {
                world
                    .addon(&attachment.addon)
                    .is_some_and(|addon| addon.service == *service)
            })
        })
        .map(|attachment| attachment_json(&world, attachment))
        .collect();
    if found.is_empty() {
        return Err(HerokuError::not_found(
            "add_on attachment",
            "that add on attachment",
        ));
    }
    Ok(Json(found).into_response())
}

async fn all_addons(State(state): State<Heroku>, headers: HeaderMap) -> Answer {
    let world = state.provider.world();
    let list = world.addons.iter().map(|a| addon_json(&world, a)).collect();
    Ok(page(&headers, list, state.page))
}

async fn addon(State(state): State<Heroku>, Path(name): Path<String>) -> Answer {
    let world = state.provider.world();
    let addon = find_addon(&world, &name)?;
    Ok(Json(addon_json(&world, addon)).into_response())
}

async fn addon_attachments(
    State(state): State<Heroku>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Answer {
    let world = state.provider.world();
    let addon = find_addon(&world, &name)?;
    let list = world
        .attachments
        .iter()
        .filter(|attachment| attachment.addon == addon.name)
        .map(|attachment| attachment_json(&world, attachment))
        .collect();
    Ok(page(&headers, list, state.page))
}

async fn apps(State(state): State<Heroku>, headers: HeaderMap) -> Answer {
    let world = state.provider.world();
    let list = world.apps.iter().map(app_json).collect();
    Ok(page(&headers, list, state.page))
}

async fn app(State(state): State<Heroku>, Path(name): Path<String>) -> Answer {
    let world = state.provider.world();
    Ok(Json(app_json(find_app(&world, &name)?)).into_response())
}

async fn app_addons(
    State(state): State<Heroku>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Answer {
    let world = state.provider.world();
    let app = find_app(&world, &name)?;
    let list = world
        .addons
        .iter()
        .filter(|addon| addon.app == app.name)
        .map(|addon| addon_json(&world, addon))
        .collect();
    Ok(page(&headers, list, state.page))
}

async fn app_attachments(
    State(state): State<Heroku>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Answer {
    let world = state.provider.world();
    let app = find_app(&world, &name)?;
    let list = world
        .attachments
        .iter()
        .filter(|attachment| attachment.app == app.name)
        .map(|attachment| attachment_json(&world, attachment))
        .collect();
    Ok(page(&headers, list, state.page))
}

async fn config_vars(State(state): State<Heroku>, Path(name): Path<String>) -> Answer {
    let attachments: Vec<Attachment> = {
        let world = state.provider.world();
        let app = find_app(&world, &name)?;
        world
            .attachments
            .iter()
            .filter(|attachment| attachment.app == app.name)
            .cloned()
            .collect()
    };
    let mut variables = BTreeMap::new();
    for attachment in attachments {
        match variable(&state, &attachment).await? {
            Some((name, value)) => variables.insert(name, value),
            None => None,
        };
    }
    Ok(Json(variables).into_response())
}

#[derive(Debug, Deserialize)]
struct CreateAddonRequest {
    plan: String,
    #[serde(default)]
    config: BTreeMap<String, String>,
    attachment: Option<AttachmentName>,
}

#[derive(Debug, Deserialize)]
struct AttachmentName {
    name: String,
}

async fn create_addon(
    State(state): State<Heroku>,
    Path(app): Path<String>,
    request: Request,
) -> Answer {
    let wanted: CreateAddonRequest = read_body(request).await?;
    let invalid = |message: String| {
        HerokuError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_params", message)
    };
    let request = {
        let world = state.provider.world();
        let app = find_app(&world, &app)?.name.clone();
        if !wanted.plan.starts_with("borealis-pg:") || wanted.plan == "borealis-pg:" {
            return Err(HerokuError::not_found("plan", "that add-on plan"));
        }
        let source =
            match wanted.config.get("restore-token") {
                None => None,
                Some(token) => {
                    Some(world.restore_tokens.get(token).cloned().ok_or_else(|| {
                        invalid("The restore token is invalid or expired.".into())
                    })?)
                }
            };
        if let Some(time) = wanted.config.get("restore-to-time")
            && time.parse::<jiff::Timestamp>().is_err()
        {
            return Err(invalid(format!(
                "Invalid value for restore-to-time: {time}"
            )));
        }
        let attachment = match wanted.attachment {
            Some(attachment) => attachment.name,
            None => free_attachment_name(&world, &app),
        };
        let taken = |a: &&Attachment| a.app == app && a.name.eq_ignore_ascii_case(&attachment);
        if world.attachments.iter().any(|a| taken(&a)) {
            return Err(invalid(format!("Name {attachment} is already taken.")));
        }
        AddonRequest {
            app,
            plan: wanted.plan,
            attachment,
            source,
        }
    };
    let addon = state.provider.create_addon(request);
    let body = addon_json(&state.provider.world(), &addon);
    Ok((StatusCode::CREATED, Json(body)).into_response())
}

// === values ===

fn asker(world: &World, request: &Request) -> Answer<User> {
    let email = match request.extensions().get::<Asker>() {
        Some(Asker(Bearer::User(email) | Bearer::Grant(email))) => email,
        None => return Err(HerokuError::not_found("account", "that account")),
    };
    world
        .user(email)
        .cloned()
        .ok_or_else(|| HerokuError::not_found("account", "that account"))
}

async fn read_body<T: serde::de::DeserializeOwned>(request: Request) -> Answer<T> {
    let invalid = |error: String| {
        HerokuError::new(
            StatusCode::BAD_REQUEST,
            "bad_request",
            format!("Unable to parse the JSON body: {error}"),
        )
    };
    let bytes = axum::body::to_bytes(request.into_body(), 1 << 20)
        .await
        .map_err(|error| invalid(error.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|error| invalid(error.to_string()))
}

fn find_app<'w>(world: &'w World, name: &str) -> Answer<&'w App> {
    world
        .app(name)
        .ok_or_else(|| HerokuError::not_found("app", "that app"))
}

fn find_addon<'w>(world: &'w World, name: &str) -> Answer<&'w Addon> {
    world
        .addon(name)
        .ok_or_else(|| HerokuError::not_found("add_on", "that add-on"))
}

fn free_attachment_name(world: &World, app: &str) -> String {
    const COLOURS: [&str; 8] = [
        "AMBER", "BLUE", "COPPER", "GREEN", "IVORY", "ORANGE", "PURPLE", "TEAL",
    ];
    let taken = |name: &str| {
        world
            .attachments
            .iter()
            .any(|a| a.app == app && a.name == name)
    };
    COLOURS
        .iter()
        .map(|colour| format!("BOREALIS_PG_{colour}"))
        .find(|name| !taken(name))
        .unwrap_or_else(|| format!("BOREALIS_PG_{}", super::issue::hex(6).to_uppercase()))
}

fn app_json(app: &App) -> Value {
    json!({"id": app.id, "name": app.name})
}

fn reference(world: &World, app: &str) -> Value {
    world.app(app).map_or(Value::Null, app_json)
}

fn addon_json(world: &World, addon: &Addon) -> Value {
    let state = match &addon.borealis {
        Some(borealis) if borealis.state == AddonState::Provisioning => "provisioning",
        _ => "provisioned",
    };
    json!({
        "id": addon.id,
        "name": addon.name,
        "addon_service": {"name": addon.service},
        "plan": {"name": addon.plan},
        "app": reference(world, &addon.app),
        "state": state,
        "created_at": addon.created_at,
    })
}

fn attachment_json(world: &World, attachment: &Attachment) -> Value {
    let addon = world.addon(&attachment.addon);
    json!({
        "id": attachment.id,
        "name": attachment.name,
        "addon": {
            "id": addon.map(|addon| &addon.id),
            "name": attachment.addon,
            "app": addon.map(|addon| reference(world, &addon.app)),
        },
        "app": reference(world, &attachment.app),
        "namespace": null,
    })
}

/// The config variable of an attachment. One that isn't provisioned has none.
async fn variable(state: &Heroku, attachment: &Attachment) -> Answer<Option<(String, String)>> {
    let (service, id, borealis) = {
        let world = state.provider.world();
        let addon = find_addon(&world, &attachment.addon)?;
        let borealis = addon
            .borealis
            .as_ref()
            .map(|b| (b.state, b.config_variable));
        (addon.service.clone(), addon.id.clone(), borealis)
    };
    let Some((addon_state, name)) = borealis else {
        let value = format!("https://{service}.example.com/{id}");
        return Ok(Some((format!("{}_URL", attachment.name), value)));
    };
    debug_assert_eq!(service, SERVICE);
    if addon_state == AddonState::Provisioning {
        return Ok(None);
    }
    let value = connection_info(state, &attachment.addon, &id).await?;
    Ok(Some((name.name(&attachment.name), value)))
}

async fn connection_info(state: &Heroku, addon: &str, id: &str) -> Result<String, SandboxError> {
    let provider = &state.provider;
    let database = provider.database(addon).await?;
    let ssh = provider.app_ssh_user(addon)?;
    let (users, jwt) = provider.with(addon, |b| (b.app_users.clone(), b.app_ssh.jwt.clone()))?;
    let items = [
        ("POSTGRES_WRITER_HOST", "127.0.0.1".into()),
        ("POSTGRES_READER_HOST", "127.0.0.1".into()),
        ("POSTGRES_PORT", provider.postgres.port().to_string()),
        ("POSTGRES_DB_NAME", database.name().to_owned()),
        ("POSTGRES_WRITER_USERNAME", users.read_write.username),
        ("POSTGRES_WRITER_PASSWORD", users.read_write.password),
        ("POSTGRES_READER_USERNAME", users.read_only.username),
        ("POSTGRES_READER_PASSWORD", users.read_only.password),
        ("SSH_HOST", "127.0.0.1".into()),
        ("SSH_PORT", provider.bastion.port().to_string()),
        ("SSH_PUBLIC_HOST_KEY", provider.bastion.claimed_host_key()),
        ("SSH_USERNAME", ssh.username),
        ("SSH_USER_PRIVATE_KEY", ssh.private_key.replace('\n', "\\n")),
        ("ADDON_ID", id.to_owned()),
        ("API_BASE_URL", state.borealis_url.clone()),
        ("CLIENT_APP_JWT", jwt),
    ];
    Ok(items
        .map(|(key, value): (&str, String)| format!("{key}:={value}"))
        .join("|"))
}

// === impl HerokuError ===

impl HerokuError {
    fn new(status: StatusCode, id: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            id,
            message: message.into(),
            resource: None,
        }
    }

    fn not_found(resource: &'static str, what: &str) -> Self {
        Self {
            resource: Some(resource),
            ..Self::new(
                StatusCode::NOT_FOUND,
                "not_found",
                format!("Couldn't find {what}."),
            )
        }
    }
}

impl From<SandboxError> for HerokuError {
    fn from(error: SandboxError) -> Self {
        tracing::warn!(%error, "a Heroku request failed");
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "service_unavailable",
            error.to_string(),
        )
    }
}

impl IntoResponse for HerokuError {
    fn into_response(self) -> Response {
        let mut body = json!({"id": self.id, "message": self.message});
        if let Some(resource) = self.resource {
            body["resource"] = resource.into();
        }
        (self.status, Json(body)).into_response()
    }
}
