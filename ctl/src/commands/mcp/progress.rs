//! What a call is at, told to its client while it lasts, and what it had to wait for, told with
//! its result.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rmcp::{
    Peer, RoleServer,
    model::{ProgressNotificationParam, ProgressToken},
};
use tokio::{sync::watch, time::Instant};

/// One call's.
#[derive(Debug)]
pub(super) struct Progress {
    began: Instant,
    stage: watch::Sender<String>,
    notes: Mutex<Vec<String>>,
}

/// Told again this often, so that a client sees that the call lives.
const BEAT: Duration = Duration::from_secs(5);
/// Notes of one call; more say nothing new.
const NOTES: usize = 8;

// === impl Progress ===

impl Progress {
    pub(super) fn new() -> Self {
        Self {
            began: Instant::now(),
            stage: watch::Sender::new(String::new()),
            notes: Mutex::default(),
        }
    }

    /// What the call is at now.
    pub(super) fn at(&self, stage: &str) {
        self.stage.send_if_modified(|known| {
            let changes = known != stage;
            if changes {
                stage.clone_into(known);
            }
            changes
        });
    }

    /// What the call waits for now; its result tells of it.
    pub(super) fn waits(&self, what: &str) {
        self.at(what);
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        if notes.len() < NOTES && notes.last().is_none_or(|last| last != what) {
            notes.push(what.to_owned());
        }
    }

    /// What it has waited for.
    pub(super) fn notes(&self) -> Vec<String> {
        self.notes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Tells a client that asked for it, until it is dropped.
    pub(super) async fn tell(&self, peer: &Peer<RoleServer>, token: Option<ProgressToken>) {
        let Some(token) = token else {
            return std::future::pending().await;
        };
        let mut stages = self.stage.subscribe();
        stages.mark_changed();
        loop {
            // The sender is ours: it can't be gone.
            let _ = tokio::time::timeout(BEAT, stages.changed()).await;
            let stage = stages.borrow_and_update().clone();
            if stage.is_empty() {
                continue;
            }
            let seconds = self.began.elapsed().as_secs_f64();
            let told = ProgressNotificationParam::new(token.clone(), seconds).with_message(stage);
            // A client that can't be told has gone, which ends the call anyway.
            let _ = peer.notify_progress(told).await;
        }
    }
}
