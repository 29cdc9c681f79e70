//! The connections of local clients.

use borealis_proto::v1;
use tonic::Streaming;

use super::{Client, settle};
use crate::failure::Failure;

// === impl Client ===

impl Client {
    /// The connections of all sessions, or of those that are named, the oldest first.
    ///
    /// # Errors
    /// What the daemon answered, or that it went away.
    pub(crate) async fn connections(
        &mut self,
        sessions: Vec<String>,
    ) -> Result<Vec<v1::Connection>, Failure> {
        let request = v1::ListConnectionsRequest { sessions };
        let answer = settle(self.connections.list_connections(request).await)?;
        Ok(answer.connections)
    }

    /// The same, now and at every change.
    ///
    /// # Errors
    /// What the daemon answered, or that it went away.
    pub(crate) async fn watch_connections(
        &mut self,
        sessions: Vec<String>,
    ) -> Result<Streaming<v1::WatchConnectionsResponse>, Failure> {
        let request = v1::WatchConnectionsRequest { sessions };
        settle(self.connections.watch_connections(request).await)
    }

    /// Ends connections; returns when they have ended. One outcome for each id.
    ///
    /// # Errors
    /// What the daemon answered, or that it went away.
    pub(crate) async fn end_connections(
        &mut self,
        ids: Vec<u64>,
        by: &str,
    ) -> Result<Vec<v1::ConnectionOutcome>, Failure> {
        let by = by.to_owned();
        let request = v1::EndConnectionsRequest { ids, by };
        let answer = settle(self.connections.end_connections(request).await)?;
        Ok(answer.outcomes)
    }

    /// Has what connections are running cancelled. One outcome for each id.
    ///
    /// # Errors
    /// What the daemon answered, or that it went away.
    pub(crate) async fn cancel_queries(
        &mut self,
        ids: Vec<u64>,
        by: &str,
    ) -> Result<Vec<v1::ConnectionOutcome>, Failure> {
        let by = by.to_owned();
        let request = v1::CancelQueriesRequest { ids, by };
        let answer = settle(self.connections.cancel_queries(request).await)?;
        Ok(answer.outcomes)
    }
}
