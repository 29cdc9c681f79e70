//! `SessionService`: a short method for each call.

use std::{path::PathBuf, pin::Pin, time::Duration};

use borealis_proto::v1::{self, session_service_server::SessionService};
use tokio::{
    sync::{mpsc, watch},
    time::{MissedTickBehavior, interval},
};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};

use super::convert::{self, refused};
use crate::{
    model::{Cause, Mode},
    supervisor::{Handle, Opened, Rotated, SessionSnapshot, Snapshot},
};

/// Wait of a `UseSession` that names none.
const DEFAULT_WAIT: Duration = Duration::from_secs(60);
/// How often the counters are looked at for who watches.
const COUNTERS: Duration = Duration::from_secs(1);

pub(super) struct Sessions {
    handle: Handle,
    ca_file: PathBuf,
}

type Answer<T> = Result<Response<T>, Status>;
type Streaming<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

// === impl Sessions ===

impl Sessions {
    pub(super) fn new(handle: Handle, ca_file: PathBuf) -> Self {
        Self { handle, ca_file }
    }

    /// A session as answers about it alone show it.
    fn one(&self, view: &SessionSnapshot) -> v1::Session {
        let ca_file = match view.mode {
            Mode::Managed => self.ca_file.display().to_string(),
            Mode::Passthrough => String::new(),
        };
        v1::Session {
            ca_file,
            ..convert::session(view)
        }
    }
}

#[tonic::async_trait]
impl SessionService for Sessions {
    type UseSessionStream = Streaming<v1::UseSessionResponse>;
    type WatchSessionsStream = Streaming<v1::WatchSessionsResponse>;

    async fn open_session(
        &self,
        request: Request<v1::OpenSessionRequest>,
    ) -> Answer<v1::OpenSessionResponse> {
        let request = request.into_inner();
        let wait = request
            .wait
            .as_ref()
            .map(convert::duration)
            .transpose()
            .map_err(refused)?;
        let request = convert::open_request(request).map_err(refused)?;
        let Opened { view, created } = self.handle.open(request, wait).await.map_err(refused)?;
        Ok(Response::new(v1::OpenSessionResponse {
            session: Some(self.one(&view)),
            secrets: Some(convert::secrets(&view)),
            created,
        }))
    }

    async fn use_session(
        &self,
        request: Request<v1::UseSessionRequest>,
    ) -> Answer<Self::UseSessionStream> {
        let request = request.into_inner();
        let wait = request
            .wait
            .as_ref()
            .map(convert::duration)
            .transpose()
            .map_err(refused)?;
        let request = convert::use_request(request).map_err(refused)?;
        let held = self
            .handle
            .use_session(request, wait.unwrap_or(DEFAULT_WAIT))
            .await
            .map_err(refused)?;
        let first = v1::UseSessionResponse {
            session: Some(self.one(&held.view)),
            secrets: Some(convert::secrets(&held.view)),
        };
        let (sender, stream) = mpsc::channel(1);
        let handle = self.handle.clone();
        tokio::spawn(async move {
            // The session is in use until the client hangs up.
            if sender.send(Ok(first)).await.is_ok() {
                tokio::select! {
                    () = sender.closed() => {}
                    () = handle.stopping() => {
                        let _ = sender.send(Err(convert::status(&Cause::DaemonStopping))).await;
                    }
                }
            }
            drop(held);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn list_sessions(
        &self,
        _: Request<v1::ListSessionsRequest>,
    ) -> Answer<v1::ListSessionsResponse> {
        let sessions = sessions(&self.handle.watch().borrow().sessions);
        Ok(Response::new(v1::ListSessionsResponse { sessions }))
    }

    async fn get_session(
        &self,
        request: Request<v1::GetSessionRequest>,
    ) -> Answer<v1::GetSessionResponse> {
        let v1::GetSessionRequest { target, reveal } = request.into_inner();
        let target = convert::target(target).map_err(refused)?;
        let view = self.handle.find(target).await.map_err(refused)?;
        Ok(Response::new(v1::GetSessionResponse {
            session: Some(self.one(&view)),
            secrets: reveal.then(|| convert::secrets(&view)),
        }))
    }

    async fn close_sessions(
        &self,
        request: Request<v1::CloseSessionsRequest>,
    ) -> Answer<v1::CloseSessionsResponse> {
        let v1::CloseSessionsRequest {
            targets,
            all,
            grace,
        } = request.into_inner();
        let grace = grace
            .as_ref()
            .map(convert::duration)
            .transpose()
            .map_err(refused)?;
        let selection = convert::selection(targets, all).map_err(refused)?;
        let closed = self
            .handle
            .close(selection, grace.unwrap_or_default())
            .await
            .map_err(refused)?;
        Ok(Response::new(v1::CloseSessionsResponse {
            sessions: sessions(&closed),
        }))
    }

    async fn rotate_sessions(
        &self,
        request: Request<v1::RotateSessionsRequest>,
    ) -> Answer<v1::RotateSessionsResponse> {
        let v1::RotateSessionsRequest { targets, all } = request.into_inner();
        let selection = convert::selection(targets, all).map_err(refused)?;
        let mut rotated = self.handle.rotate(selection).await.map_err(refused)?;
        if let [Rotated { outcome, .. }] = &mut rotated[..] {
            std::mem::replace(outcome, Ok(())).map_err(refused)?;
        }
        let mut answer = v1::RotateSessionsResponse::default();
        for Rotated { view, outcome } in rotated {
            match outcome {
                Ok(()) => answer.sessions.push(convert::session(&view)),
                Err(cause) => answer.failures.push(v1::RotationFailure {
                    session: view.name.to_string(),
                    failure: Some(convert::failure(&cause)),
                }),
            }
        }
        Ok(Response::new(answer))
    }

    async fn watch_sessions(
        &self,
        _: Request<v1::WatchSessionsRequest>,
    ) -> Answer<Self::WatchSessionsStream> {
        let (sender, stream) = mpsc::channel(1);
        let snapshots = self.handle.watch();
        tokio::spawn(async move {
            tokio::select! {
                stopping = send_changes(&sender, snapshots) => {
                    let _ = sender.send(Err(convert::status(&stopping))).await;
                }
                () = sender.closed() => {}
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}

/// Sends each change of the set, and of the counters as often as they are looked at, until the
/// daemon ends: answers that it does.
async fn send_changes(
    sender: &mpsc::Sender<Result<v1::WatchSessionsResponse, Status>>,
    mut snapshots: watch::Receiver<Snapshot>,
) -> Cause {
    let mut look = interval(COUNTERS);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = None;
    loop {
        let now = {
            let snapshot = snapshots.borrow_and_update();
            if snapshot.is_stopping {
                return Cause::DaemonStopping;
            }
            v1::WatchSessionsResponse {
                revision: snapshot.revision,
                sessions: sessions(&snapshot.sessions),
            }
        };
        if last.as_ref() != Some(&now) {
            // Who is gone is noticed elsewhere.
            let _ = sender.send(Ok(now.clone())).await;
            last = Some(now);
        }
        tokio::select! {
            changed = snapshots.changed() => {
                if changed.is_err() {
                    return Cause::DaemonStopping;
                }
            }
            _ = look.tick() => {}
        }
    }
}

fn sessions(views: &[SessionSnapshot]) -> Vec<v1::Session> {
    views.iter().map(convert::session).collect()
}
