//! `ConnectionService`: a short method for each call.

use std::{pin::Pin, sync::Arc, time::Duration};

use borealis_proto::v1::{self, connection_service_server::ConnectionService};
use futures_util::future::join_all;
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};

use super::convert;
use crate::{
    journal::{Journal, Kind},
    model::{Cause, Foreign, SessionName, text},
    proxy::{ConnectionRecord, PeerProcess, State},
    session::machine::Phase,
    supervisor::{Handle, SessionSnapshot, Snapshot},
};

/// How often the connections are looked at for who watches. Where nobody does, nobody looks.
const LOOK: Duration = Duration::from_millis(500);
/// The characters of what a caller calls itself.
const CALLER: usize = 80;

pub(super) struct Connections {
    pub(super) handle: Handle,
    pub(super) journal: Journal,
}

/// A connection that was asked for by its number.
struct Found {
    session: SessionName,
    record: Arc<ConnectionRecord>,
}

type Answer<T> = Result<Response<T>, Status>;
type Streaming<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

// === impl Connections ===

impl Connections {
    fn find(&self, id: u64) -> Option<Found> {
        let snapshot = self.handle.watch();
        let snapshot = snapshot.borrow();
        snapshot.sessions.iter().find_map(|view| {
            let records = view.counters.registry().all();
            let record = records.into_iter().find(|record| record.id == id)?;
            Some(Found {
                session: view.name.clone(),
                record,
            })
        })
    }

    async fn end(&self, id: u64, by: &Foreign) -> v1::ConnectionOutcome {
        let Some(Found { session, record }) = self.find(id) else {
            return nobody(id);
        };
        let detail = told(&record, by);
        tracing::info!(%session, id, %by, "a connection is ended on demand");
        record.end(Cause::ConnectionEnded { by: by.clone() }).await;
        self.journal
            .of_session(&session, Kind::ConnectionEnded, detail);
        outcome(id, &session, Ok(()))
    }

    async fn cancel(&self, id: u64, by: &Foreign) -> v1::ConnectionOutcome {
        let Some(Found { session, record }) = self.find(id) else {
            return nobody(id);
        };
        let detail = told(&record, by);
        let cancelled = record.cancel_query().await;
        if cancelled.is_ok() {
            self.journal
                .of_session(&session, Kind::QueryCancelled, detail);
        }
        outcome(id, &session, cancelled)
    }
}

#[tonic::async_trait]
impl ConnectionService for Connections {
    type WatchConnectionsStream = Streaming<v1::WatchConnectionsResponse>;

    async fn list_connections(
        &self,
        request: Request<v1::ListConnectionsRequest>,
    ) -> Answer<v1::ListConnectionsResponse> {
        let v1::ListConnectionsRequest { sessions } = request.into_inner();
        let connections = list(&self.handle.watch().borrow(), &sessions);
        Ok(Response::new(v1::ListConnectionsResponse { connections }))
    }

    async fn watch_connections(
        &self,
        request: Request<v1::WatchConnectionsRequest>,
    ) -> Answer<Self::WatchConnectionsStream> {
        let v1::WatchConnectionsRequest { sessions } = request.into_inner();
        let handle = self.handle.clone();
        let (sender, stream) = mpsc::channel(1);
        tokio::spawn(async move {
            tokio::select! {
                () = send_changes(&sender, &handle, &sessions) => {}
                () = sender.closed() => {}
                () = handle.stopping() => {
                    let _ = sender.send(Err(convert::status(&Cause::DaemonStopping))).await;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn end_connections(
        &self,
        request: Request<v1::EndConnectionsRequest>,
    ) -> Answer<v1::EndConnectionsResponse> {
        let v1::EndConnectionsRequest { ids, by } = request.into_inner();
        let by = caller(&by);
        let outcomes = join_all(ids.into_iter().map(|id| self.end(id, &by))).await;
        Ok(Response::new(v1::EndConnectionsResponse { outcomes }))
    }

    async fn cancel_queries(
        &self,
        request: Request<v1::CancelQueriesRequest>,
    ) -> Answer<v1::CancelQueriesResponse> {
        let v1::CancelQueriesRequest { ids, by } = request.into_inner();
        let by = caller(&by);
        let outcomes = join_all(ids.into_iter().map(|id| self.cancel(id, &by))).await;
        Ok(Response::new(v1::CancelQueriesResponse { outcomes }))
    }
}

/// Sends the whole set at first, and whenever it is another one than before.
async fn send_changes(
    sender: &mpsc::Sender<Result<v1::WatchConnectionsResponse, Status>>,
    handle: &Handle,
    sessions: &[String],
) {
    let snapshots = handle.watch();
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last: Option<Vec<v1::Connection>> = None;
    let mut revision = 0;
    loop {
        look.tick().await;
        let connections = list(&snapshots.borrow(), sessions);
        // It is reckoned anew at each look, from another clock. What changes the state also
        // moves bytes.
        let now: Vec<_> = connections
            .iter()
            .map(|connection| v1::Connection {
                state_since: None,
                ..connection.clone()
            })
            .collect();
        if last.as_ref() == Some(&now) {
            continue;
        }
        last = Some(now);
        revision += 1;
        let message = v1::WatchConnectionsResponse {
            revision,
            connections,
        };
        if sender.send(Ok(message)).await.is_err() {
            return;
        }
    }
}

/// The connections of all sessions, or of those that are named, the oldest first.
fn list(snapshot: &Snapshot, sessions: &[String]) -> Vec<v1::Connection> {
    let wanted = |view: &&SessionSnapshot| {
        sessions.is_empty() || sessions.iter().any(|name| name == view.name.as_str())
    };
    let mut connections: Vec<_> = snapshot
        .sessions
        .iter()
        .filter(wanted)
        .flat_map(|view| {
            let records = view.counters.registry().all();
            records
                .into_iter()
                .map(move |record| connection(view, &record))
        })
        .collect();
    connections.sort_unstable_by_key(|connection| connection.id);
    connections
}

fn connection(view: &SessionSnapshot, record: &ConnectionRecord) -> v1::Connection {
    let (via, peer_port, local_port, peer_pid) = match record.peer {
        PeerProcess::Tcp { client, session } => (v1::Via::Tcp, client.into(), session.into(), 0),
        PeerProcess::Unix { pid } => (v1::Via::UnixSocket, 0, 0, pid),
    };
    let (state, state_since) = record.state();
    let (sent, received) = record.bytes();
    let (application_name, database, tls) = match record.login() {
        Some(login) => (
            login.application_name.clone(),
            login.database.clone().or(view.status.database.clone()),
            login.tls,
        ),
        None => (String::new(), None, false),
    };
    v1::Connection {
        id: record.id,
        session: view.name.to_string(),
        via: via.into(),
        peer_port,
        peer_pid,
        application_name,
        database: database.unwrap_or_default(),
        tls,
        state: match state {
            State::LoggingIn => v1::ConnectionState::LoggingIn,
            State::Held => v1::ConnectionState::Held,
            State::Active => v1::ConnectionState::Active,
            State::Idle => v1::ConnectionState::Idle,
            State::IdleInTransaction => v1::ConnectionState::IdleInTransaction,
            State::Aborted => v1::ConnectionState::IdleInTransactionAborted,
            State::Passthrough => v1::ConnectionState::Passthrough,
        }
        .into(),
        state_since: Some(convert::timestamp(state_since)),
        since: Some(convert::timestamp(record.since)),
        backend_pid: record.backend_pid(),
        bytes: Some(v1::ByteCounts { sent, received }),
        held_for: match state {
            State::Held => held_for(view),
            _ => String::new(),
        },
        tunnel: record.tunnel(),
        local_port,
    }
}

/// For what a client of the session waits that has been let in.
fn held_for(view: &SessionSnapshot) -> String {
    let status = &view.status;
    if status.phase == Phase::Up {
        return "waits for the log-in to the database".into();
    }
    let why = match &status.last_error {
        Some(cause) => cause.to_string(),
        None => text::line(&status.step),
    };
    if why.is_empty() {
        "waits for the session's tunnel".into()
    } else {
        format!("waits for the session's tunnel: {why}")
    }
}

/// Which connection it was, and who asked.
fn told(record: &ConnectionRecord, by: &Foreign) -> String {
    let application = record
        .login()
        .map(|login| login.application_name.as_str())
        .filter(|name| !name.is_empty())
        .map_or_else(String::new, |name| format!(" ({})", text::line(name)));
    format!("{}{application}, asked by {by}", record.id)
}

fn caller(by: &str) -> Foreign {
    let by = match by.trim() {
        "" => "a client of the control API",
        by => by,
    };
    by.chars().take(CALLER).collect::<String>().into()
}

fn nobody(id: u64) -> v1::ConnectionOutcome {
    v1::ConnectionOutcome {
        id,
        session: String::new(),
        failure: Some(convert::failure(&Cause::NoSuchConnection { id })),
    }
}

fn outcome(id: u64, session: &SessionName, done: Result<(), Cause>) -> v1::ConnectionOutcome {
    v1::ConnectionOutcome {
        id,
        session: session.to_string(),
        failure: done.err().map(|cause| convert::failure(&cause)),
    }
}
