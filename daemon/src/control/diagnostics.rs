//! `DiagnosticsService`: what happened, how much, and what is wrong.

use std::{pin::Pin, sync::Arc};

use borealis_proto::v1::{self, diagnostics_service_server::DiagnosticsService};
use jiff::Timestamp;
use tokio::sync::{broadcast::error::RecvError, mpsc};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};

use super::convert;
use crate::{
    doctor::{Check, Doctor, Outcome},
    journal::{Following, Journal, Record},
    model::{SessionName, text},
};

pub(super) struct Diagnostics {
    pub(super) journal: Journal,
    pub(super) metrics: Arc<dyn Fn() -> String + Send + Sync>,
    pub(super) doctor: Doctor,
}

type Answer<T> = Result<Response<T>, Status>;
type Streaming<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl DiagnosticsService for Diagnostics {
    type WatchEventsStream = Streaming<v1::WatchEventsResponse>;
    type DiagnoseStream = Streaming<v1::DiagnoseResponse>;

    async fn watch_events(
        &self,
        request: Request<v1::WatchEventsRequest>,
    ) -> Answer<Self::WatchEventsStream> {
        let v1::WatchEventsRequest {
            follow,
            session,
            since,
        } = request.into_inner();
        let wanted = Wanted {
            session,
            since: since.map(convert::time).transpose()?,
        };
        let following = self.journal.follow();
        let (sender, stream) = mpsc::channel(16);
        tokio::spawn(async move {
            tokio::select! {
                () = send_events(&sender, following, &wanted, follow) => {}
                () = sender.closed() => {}
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn get_metrics(
        &self,
        _: Request<v1::GetMetricsRequest>,
    ) -> Answer<v1::GetMetricsResponse> {
        let text = (self.metrics)();
        Ok(Response::new(v1::GetMetricsResponse { text }))
    }

    async fn diagnose(
        &self,
        request: Request<v1::DiagnoseRequest>,
    ) -> Answer<Self::DiagnoseStream> {
        let target = match request.into_inner().target {
            None => None,
            named => Some(convert::target(named).map_err(|cause| convert::status(&cause))?),
        };
        let doctor = self.doctor.clone();
        let (checks, mut made) = mpsc::channel(4);
        let (sender, stream) = mpsc::channel(4);
        tokio::spawn(async move {
            let forwarding = async {
                while let Some(check) = made.recv().await {
                    let check = Some(convert_check(check));
                    if sender
                        .send(Ok(v1::DiagnoseResponse { check }))
                        .await
                        .is_err()
                    {
                        return;
                    }
                }
            };
            tokio::select! {
                ((), ()) = async { tokio::join!(doctor.diagnose(target, checks), forwarding) } => {}
                () = sender.closed() => {}
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}

/// Which events are asked for.
struct Wanted {
    /// Empty: of all.
    session: String,
    since: Option<Timestamp>,
}

impl Wanted {
    fn has(&self, record: &Record) -> bool {
        let session = record.session.as_ref().map(SessionName::as_str);
        (self.session.is_empty() || session == Some(&self.session))
            && self.since.is_none_or(|since| record.at >= since)
    }
}

/// Ends when there is nothing more to tell, or nobody to tell it.
async fn send_events(
    sender: &mpsc::Sender<Result<v1::WatchEventsResponse, Status>>,
    following: Following,
    wanted: &Wanted,
    follow: bool,
) {
    let Following {
        earlier,
        recent,
        mut next,
    } = following;
    let recent = recent.iter().map(|event| Record::from(&**event));
    for record in earlier.into_iter().map(Arc::unwrap_or_clone).chain(recent) {
        if wanted.has(&record) && sender.send(Ok(convert_record(&record))).await.is_err() {
            return;
        }
    }
    if !follow {
        return;
    }
    loop {
        match next.recv().await {
            Ok(event) => {
                let record = Record::from(&*event);
                if wanted.has(&record) && sender.send(Ok(convert_record(&record))).await.is_err() {
                    return;
                }
            }
            // A gap in the numbers tells the reader who was too slow.
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

fn convert_record(record: &Record) -> v1::WatchEventsResponse {
    let session = record.session.as_ref();
    let failure = record.failure.as_ref().map(|failure| v1::Failure {
        code: text::line(&failure.code),
        class: convert::failure_class(failure.class).into(),
        message: text::line(&failure.message),
        hint: text::line(&failure.hint),
    });
    v1::WatchEventsResponse {
        event: Some(v1::Event {
            sequence: record.sequence,
            at: Some(convert::timestamp(record.at)),
            kind: text::line(&record.kind),
            session: session.map(ToString::to_string).unwrap_or_default(),
            message: text::line(&record.sentence()),
            failure,
            count: record.count,
        }),
    }
}

fn convert_check(check: Check) -> v1::Check {
    let outcome = match check.outcome {
        Outcome::Ok => v1::CheckOutcome::Ok,
        Outcome::Warn => v1::CheckOutcome::Warn,
        Outcome::Fail => v1::CheckOutcome::Fail,
        Outcome::Skipped => v1::CheckOutcome::Skipped,
    };
    v1::Check {
        id: check.id.into(),
        subject: check.subject,
        outcome: outcome.into(),
        found: check.found,
        hint: check.hint,
    }
}
