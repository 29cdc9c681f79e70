//! Stands before both HTTP APIs: writes down every request, and lets happen to it what the
//! faults in force say. It knows nothing of what the requests mean.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    body::{Body, to_bytes},
    extract::{ConnectInfo, Request, State},
    http::{HeaderName, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{
    fault::{Action, Api, Fault, Moment},
    issue,
    pulse::Pulse,
    wire::{Order, Wire},
};

const LOG_LENGTH: usize = 20_000;
const BODY_LIMIT: usize = 16 * 1024 * 1024;

/// The number of a fault, to take it back with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FaultId(pub u64);

/// A request that an API got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggedRequest {
    /// Counts all requests.
    pub number: u64,
    /// Which API got it.
    pub api: Api,
    /// Its method.
    pub method: String,
    /// Its path without the query.
    pub path: String,
    /// The status of the answer; none while there is no answer, or never was one.
    pub status: Option<u16>,
    /// The fault that decided its fate.
    pub fault: Option<FaultId>,
    /// When it came.
    pub at: Timestamp,
    /// How long the answer took.
    pub milliseconds: Option<u64>,
}

/// Both APIs' door.
#[derive(Debug)]
pub(crate) struct Gate {
    inner: Mutex<Inner>,
    /// Changes whenever a fault is taken back.
    cleared: watch::Sender<u64>,
    pulse: Pulse,
}

#[derive(Debug, Default)]
struct Inner {
    faults: BTreeMap<FaultId, Fault>,
    faults_made: u64,
    requests: u64,
    log: VecDeque<LoggedRequest>,
    counts: BTreeMap<String, u64>,
}

/// The door of one API.
#[derive(Debug, Clone)]
pub(crate) struct Door {
    pub(crate) gate: Arc<Gate>,
    pub(crate) api: Api,
}

/// What is left of a fault once it has met a request.
struct Fate {
    id: FaultId,
    moment: Moment,
    action: Action,
}

// === impl Gate ===

impl Gate {
    pub(crate) fn new(pulse: Pulse) -> Self {
        Self {
            inner: Mutex::default(),
            cleared: watch::Sender::new(0),
            pulse,
        }
    }

    /// Puts a fault in force. Of several that fit a request, the oldest decides.
    pub(crate) fn add(&self, fault: Fault) -> FaultId {
        let mut inner = self.lock();
        inner.faults_made += 1;
        let id = FaultId(inner.faults_made);
        inner.faults.insert(id, fault);
        id
    }

    /// Takes a fault back; whether it was there. Requests that hang go on.
    pub(crate) fn remove(&self, id: FaultId) -> bool {
        let removed = self.lock().faults.remove(&id).is_some();
        self.cleared.send_modify(|times| *times += 1);
        removed
    }

    /// Takes all faults back.
    pub(crate) fn clear(&self) {
        self.lock().faults.clear();
        self.cleared.send_modify(|times| *times += 1);
    }

    pub(crate) fn faults(&self) -> BTreeMap<FaultId, Fault> {
        self.lock().faults.clone()
    }

    pub(crate) fn log(&self) -> Vec<LoggedRequest> {
        self.lock().log.iter().cloned().collect()
    }

    pub(crate) fn forget_log(&self) {
        let mut inner = self.lock();
        inner.log.clear();
        inner.counts.clear();
    }

    /// How often each was asked for: `heroku POST /oauth/authorizations` and the like.
    pub(crate) fn counts(&self) -> BTreeMap<String, u64> {
        self.lock().counts.clone()
    }

    fn enter(&self, api: Api, method: &str, path: &str) -> u64 {
        let mut inner = self.lock();
        inner.requests += 1;
        let number = inner.requests;
        let name = match api {
            Api::Heroku => "heroku",
            Api::Borealis => "borealis",
        };
        *inner
            .counts
            .entry(format!("{name} {method} {path}"))
            .or_default() += 1;
        if inner.log.len() == LOG_LENGTH {
            inner.log.pop_front();
        }
        inner.log.push_back(LoggedRequest {
            number,
            api,
            method: method.to_owned(),
            path: path.to_owned(),
            status: None,
            fault: None,
            at: super::issue::now(),
            milliseconds: None,
        });
        drop(inner);
        self.pulse.beat();
        number
    }

    fn note(&self, number: u64, change: impl FnOnce(&mut LoggedRequest)) {
        let mut inner = self.lock();
        if let Some(entry) = inner.log.iter_mut().rev().find(|e| e.number == number) {
            change(entry);
        }
        drop(inner);
        self.pulse.beat();
    }

    /// The fault that a request meets now, one time less of it being left. A pause is
    /// looked for apart, so that it can come before another fault.
    fn meet(
        &self,
        api: Api,
        method: &str,
        path: &str,
        wanted: impl Fn(&Action) -> bool,
    ) -> Option<Fate> {
        let mut inner = self.lock();
        let (id, fault) = inner
            .faults
            .iter_mut()
            .find(|(_, f)| f.fits(api, method, path) && wanted(&f.action))?;
        let fate = Fate {
            id: *id,
            moment: fault.moment,
            action: fault.action.clone(),
        };
        let left = fault.times.map(|times| times.saturating_sub(1));
        fault.times = left;
        // One that hangs stays to be taken back.
        if left == Some(0) && fate.action != Action::Hang {
            inner.faults.remove(&fate.id);
        }
        Some(fate)
    }

    /// Waits until the fault is no longer in force.
    async fn wait_for_removal(&self, id: FaultId) {
        let mut cleared = self.cleared.subscribe();
        while self.lock().faults.contains_key(&id) {
            if cleared.changed().await.is_err() {
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The middleware.
pub(crate) async fn pass(
    State(door): State<Door>,
    ConnectInfo(wire): ConnectInfo<Wire>,
    request: Request,
    next: Next,
) -> Response {
    let (gate, api) = (&door.gate, door.api);
    let method = request.method().as_str().to_owned();
    let path = request.uri().path().to_owned();
    let started = Instant::now();
    let number = gate.enter(api, &method, &path);
    tracing::debug!(?api, method, path, "request");

    let is_delay = |action: &Action| matches!(action, Action::Delay { .. });
    if let Some(fate) = gate.meet(api, &method, &path, is_delay) {
        gate.note(number, |entry| entry.fault = Some(fate.id));
        if let Action::Delay { milliseconds } = fate.action {
            tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        }
    }
    let fate = gate.meet(api, &method, &path, |action| !is_delay(action));
    let mut response = match fate {
        None => next.run(request).await,
        Some(fate) => {
            gate.note(number, |entry| entry.fault = Some(fate.id));
            let spoilt = suffer(gate, api, fate, &wire, request, next).await;
            let Some(response) = spoilt else {
                // Nothing that comes now is seen by the client.
                return StatusCode::INTERNAL_SERVER_ERROR.into_response();
            };
            response
        }
    };
    add_usual_headers(&mut response, api, number);
    gate.note(number, |entry| {
        entry.status = Some(response.status().as_u16());
        entry.milliseconds = u64::try_from(started.elapsed().as_millis()).ok();
    });
    response
}

/// What becomes of a request with that fate; nothing where the client gets no answer.
async fn suffer(
    gate: &Gate,
    api: Api,
    fate: Fate,
    wire: &Wire,
    request: Request,
    next: Next,
) -> Option<Response> {
    let done = match (fate.moment, &fate.action) {
        (Moment::After, Action::Hang) => {
            let response = next.run(request).await;
            gate.wait_for_removal(fate.id).await;
            return Some(response);
        }
        (Moment::Before, Action::Hang) => {
            gate.wait_for_removal(fate.id).await;
            return Some(next.run(request).await);
        }
        (Moment::After, _) | (_, Action::Truncate) => Some(next.run(request).await),
        (Moment::Before, _) => {
            // Read to its end, so that the client hears our answer and not a reset.
            let _ = to_bytes(request.into_body(), BODY_LIMIT).await;
            None
        }
    };
    match fate.action {
        Action::Status {
            status,
            headers,
            body,
        } => Some(answer(api, status, &headers, body)),
        Action::Drop => {
            wire.order(Order::Close);
            None
        }
        Action::Garbage => {
            wire.order(Order::Garbage);
            None
        }
        Action::Truncate => Some(truncated(done?, wire).await),
        Action::Hang | Action::Delay { .. } => done,
    }
}

async fn truncated(response: Response, wire: &Wire) -> Response {
    let (mut parts, body) = response.into_parts();
    let bytes = to_bytes(body, BODY_LIMIT).await.unwrap_or_default();
    // Said in full, so that the client can know that something is missing.
    parts
        .headers
        .insert(header::CONTENT_LENGTH, bytes.len().into());
    wire.order(Order::Truncate {
        body: bytes.len() / 2,
        head: Vec::new(),
    });
    Response::from_parts(parts, Body::from(bytes))
}

fn answer(
    api: Api,
    status: u16,
    headers: &BTreeMap<String, String>,
    body: Option<String>,
) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = body.unwrap_or_else(|| usual_body(api, status));
    let mut response = (status, [(header::CONTENT_TYPE, "application/json")], body).into_response();
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (
            HeaderName::try_from(name.as_str()),
            HeaderValue::try_from(value.as_str()),
        ) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

fn usual_body(api: Api, status: StatusCode) -> String {
    let reason = status.canonical_reason().unwrap_or("Unknown");
    let body = match api {
        Api::Borealis => serde_json::json!({"reason": reason}),
        Api::Heroku => {
            let (id, message) = match status.as_u16() {
                401 => ("unauthorized", "Invalid credentials provided."),
                403 => ("forbidden", "You do not have access to that resource."),
                404 => ("not_found", "Couldn't find that resource."),
                429 => (
                    "rate_limit",
                    "Your account reached the API rate limit. Please wait a few minutes before making new requests",
                ),
                503 => ("service_unavailable", "API is temporarily unavailable."),
                500 => ("internal_server_error", "Internal server error."),
                _ => ("error", reason),
            };
            serde_json::json!({"id": id, "message": message})
        }
    };
    body.to_string()
}

fn add_usual_headers(response: &mut Response, api: Api, number: u64) {
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::try_from(issue::id()) {
        headers
            .entry(HeaderName::from_static("request-id"))
            .or_insert(id);
    }
    if api == Api::Heroku {
        let left = 4500_u64.saturating_sub(number);
        headers
            .entry(HeaderName::from_static("ratelimit-remaining"))
            .or_insert(left.into());
    }
}
