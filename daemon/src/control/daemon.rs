//! `DaemonService`: the daemon itself.

use std::{path::PathBuf, sync::Arc};

use borealis_proto::{
    API_VERSION,
    v1::{self, daemon_service_server::DaemonService},
};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::{About, Services, convert};
use crate::{
    credential::Broker,
    journal::Journal,
    reload,
    session::machine::Phase,
    supervisor::{Handle, Snapshot},
};

pub(super) struct Daemon {
    handle: Handle,
    broker: Arc<Broker>,
    about: About,
    reload: reload::Handle,
    journal: Journal,
    shutdown: CancellationToken,
}

type Answer<T> = Result<Response<T>, Status>;

// === impl Daemon ===

impl Daemon {
    pub(super) fn new(services: &Services) -> Self {
        Self {
            handle: services.sessions.clone(),
            broker: Arc::clone(&services.broker),
            about: services.about.clone(),
            reload: services.reload.clone(),
            journal: services.journal.clone(),
            shutdown: services.shutdown.clone(),
        }
    }
}

#[tonic::async_trait]
impl DaemonService for Daemon {
    async fn get_info(&self, _: Request<v1::GetInfoRequest>) -> Answer<v1::GetInfoResponse> {
        let watch = self.handle.watch();
        let snapshot = watch.borrow();
        let (mut health, mut reasons) = health(&snapshot, &self.about.problems);
        if let Some(cause) = self.journal.problem() {
            if health == v1::Health::Ok {
                health = v1::Health::Warning;
            }
            reasons.push(convert::failure(&cause));
        }
        let token = self.broker.known_token();
        let token_source = match token {
            None => String::new(),
            Some(Ok(source)) => source,
            Some(Err(cause)) => {
                if health == v1::Health::Ok {
                    health = v1::Health::Warning;
                }
                reasons.push(convert::failure(&cause));
                String::new()
            }
        };
        let up = snapshot
            .sessions
            .iter()
            .filter(|view| view.status.phase == Phase::Up)
            .count();
        let mut connections = v1::ConnectionCounts::default();
        for view in &snapshot.sessions {
            let counts = convert::connections(&view.counters);
            connections.active += counts.active;
            connections.total += counts.total;
        }
        let text = |path: &PathBuf| path.display().to_string();
        Ok(Response::new(v1::GetInfoResponse {
            version: env!("CARGO_PKG_VERSION").into(),
            api_version: API_VERSION.into(),
            pid: std::process::id(),
            started_at: Some(convert::timestamp(self.about.started_at)),
            socket: text(&self.about.socket),
            config_file: text(&self.about.config_file),
            state_dir: text(&self.about.state_dir),
            runtime_dir: text(&self.about.runtime_dir),
            health: health.into(),
            reasons,
            sessions: u32::try_from(snapshot.sessions.len()).unwrap_or(u32::MAX),
            sessions_up: u32::try_from(up).unwrap_or(u32::MAX),
            connections: Some(connections),
            token_source,
        }))
    }

    async fn reload(&self, _: Request<v1::ReloadRequest>) -> Answer<v1::ReloadResponse> {
        let reloaded = self
            .reload
            .reload()
            .await
            .map_err(|cause| convert::status(&cause))?;
        Ok(Response::new(v1::ReloadResponse {
            opened: reloaded.opened,
            closed: reloaded.closed,
            changed: reloaded.changed,
            later: reloaded.later,
        }))
    }

    async fn shutdown(&self, _: Request<v1::ShutdownRequest>) -> Answer<v1::ShutdownResponse> {
        tracing::info!("asked to shut down");
        self.shutdown.cancel();
        Ok(Response::new(v1::ShutdownResponse {}))
    }
}

/// The daemon's health, and a reason for each thing that is not as it should be.
fn health(snapshot: &Snapshot, problems: &[v1::Failure]) -> (v1::Health, Vec<v1::Failure>) {
    let mut health = v1::Health::Ok;
    let mut reasons: Vec<_> = problems.to_vec();
    reasons.extend(snapshot.problems.iter().map(convert::failure));
    if !reasons.is_empty() {
        health = v1::Health::Warning;
    }
    for view in &snapshot.sessions {
        let Some(cause) = &view.status.last_error else {
            continue;
        };
        health = match view.status.phase {
            Phase::Failed => v1::Health::Failing,
            _ if health == v1::Health::Failing => health,
            _ => v1::Health::Warning,
        };
        let failure = convert::failure(cause);
        reasons.push(v1::Failure {
            message: format!("session {}: {}", view.name, failure.message),
            ..failure
        });
    }
    (health, reasons)
}
