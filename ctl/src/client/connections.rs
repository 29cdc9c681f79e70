//! The local clients: who is connected, and what can be done to one.

use borealis_proto::v1;
use tonic::Streaming;

use super::{Client, settle};
use crate::failure::Failure;

// === impl Client ===

impl Client {
    /// All connections, now and at every change; `None` where the daemon can't tell them,
    /// being older than this program.
    ///
    /// # Errors
    /// What the daemon answered, or that it went away.
    pub(crate) async fn watch_connections(
        &mut self,
    ) -> Result<Option<Streaming<v1::WatchConnectionsResponse>>, Failure> {
        let request = v1::WatchConnectionsRequest::default();
        match self.connections.watch_connections(request).await {
            Err(status) if status.code() == tonic::Code::Unimplemented => Ok(None),
            answer => settle(answer).map(Some),
        }
    }

    /// Ends a connection, as the end of its session would.
    ///
    /// # Errors
    /// What the daemon answered, or that it went away.
    pub(crate) async fn end_connection(&mut self, id: u64, by: &str) -> Result<(), Failure> {
        let request = v1::EndConnectionsRequest {
            ids: vec![id],
            by: by.to_owned(),
        };
        one(settle(self.connections.end_connections(request).await)?.outcomes)
    }

    /// Asks the server to cancel what a connection is running.
    ///
    /// # Errors
    /// What the daemon answered, or that it went away.
    pub(crate) async fn cancel_query(&mut self, id: u64, by: &str) -> Result<(), Failure> {
        let request = v1::CancelQueriesRequest {
            ids: vec![id],
            by: by.to_owned(),
        };
        one(settle(self.connections.cancel_queries(request).await)?.outcomes)
    }
}

fn one(outcomes: Vec<v1::ConnectionOutcome>) -> Result<(), Failure> {
    match outcomes.into_iter().find_map(|outcome| outcome.failure) {
        Some(failure) => Err(Failure::from(failure)),
        None => Ok(()),
    }
}
