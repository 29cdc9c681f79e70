//! The control API: everything that can be done to a running sandbox, as JSON over HTTP on a
//! listener of its own. A thin layer over [`Faults`].

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Access, AddonState, BastionAction, Fault, FaultId, Faults, PostgresAction, SandboxError,
};

/// Which credentials another machine asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum CredentialKind {
    /// Database passwords.
    #[default]
    Database,
    /// SSH keys.
    Ssh,
}

/// What `POST /targets/{target}/rotate` takes.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RotateRequest {
    #[serde(default)]
    pub(crate) kind: CredentialKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) access: Option<Access>,
    /// How often; only for keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) times: Option<u32>,
}

/// What `POST /postgres/terminate` takes.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TerminateRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) target: Option<String>,
}

/// What `PUT /targets/{target}/state` takes.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StateRequest {
    pub(crate) state: AddonState,
}

#[derive(Debug)]
struct Failure(SandboxError);

type Answer<T = Json<Value>> = Result<T, Failure>;

/// All routes.
pub(crate) fn router(faults: Faults) -> Router {
    Router::new()
        .route("/environment", get(environment))
        .route(
            "/stats",
            get(async |State(f): State<Faults>| Json(f.stats())),
        )
        .route("/requests", get(requests).delete(forget_requests))
        .route(
            "/secrets",
            get(async |State(f): State<Faults>| Json(f.secrets())),
        )
        .route(
            "/faults",
            get(faults_in_force).post(add_fault).delete(remove_faults),
        )
        .route("/faults/{id}", axum::routing::delete(remove_fault))
        .route("/clear", post(clear))
        .route("/bastion/{action}", post(bastion))
        .route("/postgres/terminate", post(terminate))
        .route("/postgres/{action}", post(postgres))
        .route("/targets/{target}/rotate", post(rotate))
        .route("/targets/{target}/reset", post(reset))
        .route("/targets/{target}/state", put(set_state))
        .route("/token/revoke", post(revoke_token))
        .route("/token/restore", post(restore_token))
        .route("/grants/expire", post(expire_grants))
        .with_state(faults)
}

async fn environment(State(faults): State<Faults>) -> Json<Value> {
    let variables = faults.environment().into_iter();
    Json(
        variables
            .map(|(name, value)| (name, Value::from(value)))
            .collect(),
    )
}

async fn requests(State(faults): State<Faults>) -> Json<Value> {
    Json(json!(faults.requests()))
}

async fn forget_requests(State(faults): State<Faults>) -> Json<Value> {
    faults.forget_requests();
    done()
}

async fn faults_in_force(State(faults): State<Faults>) -> Json<Value> {
    let list = faults.in_force().into_iter();
    Json(
        list.map(|(id, fault)| json!({"id": id, "fault": fault}))
            .collect(),
    )
}

async fn add_fault(State(faults): State<Faults>, Json(fault): Json<Fault>) -> Response {
    let id = faults.add(fault);
    (StatusCode::CREATED, Json(json!({"id": id}))).into_response()
}

async fn remove_faults(State(faults): State<Faults>) -> Json<Value> {
    for id in faults.in_force().into_keys() {
        faults.remove(id);
    }
    done()
}

async fn remove_fault(State(faults): State<Faults>, Path(id): Path<FaultId>) -> Answer {
    if faults.remove(id) {
        Ok(done())
    } else {
        Err(Failure(SandboxError::Unknown {
            what: "fault",
            name: id.0.to_string(),
        }))
    }
}

async fn clear(State(faults): State<Faults>) -> Answer {
    faults.clear().await?;
    Ok(done())
}

async fn bastion(State(faults): State<Faults>, Path(action): Path<BastionAction>) -> Answer {
    faults.bastion(action).await?;
    Ok(done())
}

async fn postgres(State(faults): State<Faults>, Path(action): Path<PostgresAction>) -> Answer {
    faults.postgres(action).await?;
    Ok(done())
}

async fn terminate(State(faults): State<Faults>, Json(request): Json<TerminateRequest>) -> Answer {
    let terminated = faults
        .terminate_connections(request.target.as_deref())
        .await?;
    Ok(Json(json!({"terminated": terminated})))
}

async fn rotate(
    State(faults): State<Faults>,
    Path(target): Path<String>,
    Json(request): Json<RotateRequest>,
) -> Answer {
    match request.kind {
        CredentialKind::Database => {
            let roles = faults
                .rotate_password_elsewhere(&target, request.access)
                .await?;
            Ok(Json(json!({"roles": roles})))
        }
        CredentialKind::Ssh => {
            let times = request.times.unwrap_or(1);
            faults.rotate_key_elsewhere(&target, times).await?;
            Ok(done())
        }
    }
}

async fn reset(State(faults): State<Faults>, Path(target): Path<String>) -> Answer {
    faults.reset_users(&target).await?;
    Ok(done())
}

async fn set_state(
    State(faults): State<Faults>,
    Path(target): Path<String>,
    Json(request): Json<StateRequest>,
) -> Answer {
    faults.set_state(&target, request.state).await?;
    Ok(done())
}

async fn revoke_token(State(faults): State<Faults>) -> Json<Value> {
    faults.revoke_token();
    done()
}

async fn restore_token(State(faults): State<Faults>) -> Json<Value> {
    faults.restore_token();
    done()
}

async fn expire_grants(State(faults): State<Faults>) -> Json<Value> {
    faults.expire_grants();
    done()
}

fn done() -> Json<Value> {
    Json(json!({"done": true}))
}

// === impl Failure ===

impl From<SandboxError> for Failure {
    fn from(error: SandboxError) -> Self {
        Self(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = match self.0 {
            SandboxError::Unknown { .. } => StatusCode::NOT_FOUND,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, Json(json!({"error": self.0.to_string()}))).into_response()
    }
}
