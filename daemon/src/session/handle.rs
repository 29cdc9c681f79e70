//! A session as the supervisor has it, and what it can be told.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::Instant,
};

use super::Status;
use crate::{
    model::Cause,
    platform::clock::BootInstant,
    proxy::{Address, Counters},
};

/// A running session, as the supervisor holds it.
#[derive(Debug)]
pub struct Session {
    /// Where clients find it.
    pub address: Address,
    /// What it is doing.
    pub status: watch::Receiver<Status>,
    /// What passed through it.
    pub counters: Arc<Counters>,
    /// What it can be told.
    pub commands: mpsc::Sender<Command>,
    pub(super) task: JoinHandle<()>,
}

/// What a session can be told.
#[derive(Debug)]
pub enum Command {
    /// Ask for new credentials, in place of those that were held when the user `asked`;
    /// answered when they are in use, or why they are not, within a minute.
    Rotate {
        /// When.
        asked: BootInstant,
        /// Who waits.
        reply: oneshot::Sender<Result<(), Cause>>,
    },
    /// Somebody asks for the session again: a reason to try now, and to look where its target
    /// leads. Answered when that is known, as far as it can be.
    Refresh(oneshot::Sender<()>),
    /// Take no more connections, let the open ones end, and end.
    Close(CloseRequest),
}

/// How a session ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloseRequest {
    /// What clients are told.
    pub cause: Cause,
    /// When connections that are open still are ended. The session itself has ended
    /// [`END_LIMIT`](super::END_LIMIT) later at the latest.
    pub deadline: Instant,
}

/// A grace beyond what the clock can count is this long.
const FAR_FUTURE: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

// === impl Session ===

impl Session {
    /// Waits until the session has ended.
    pub async fn ended(self) {
        if let Err(error) = self.task.await {
            tracing::error!(%error, "a session's driver ended in disorder");
        }
    }
}

impl CloseRequest {
    /// Gives open connections this long from now on.
    pub fn within(grace: Duration, cause: Cause) -> Self {
        let now = Instant::now();
        let deadline = now.checked_add(grace).unwrap_or_else(|| now + FAR_FUTURE);
        Self { cause, deadline }
    }
}
