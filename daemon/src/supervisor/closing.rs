//! Ending sessions, one or all, and renewing their credentials.

use std::time::Duration;

use jiff::Timestamp;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Reply, Selection, SessionSnapshot,
    actor::{Actor, Event},
    entry::{Entry, OnClosed, Running},
};
use crate::{
    journal::Kind,
    model::{Cause, SessionName},
    platform::clock::Clock,
    session,
};

/// The longest sleep between looks at the clock.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);
/// How often a port that is somebody else's is tried again, and it is looked whether what
/// couldn't be saved is.
const RETRY_PAUSE: Duration = Duration::from_secs(2);

impl Actor {
    pub(super) fn close(
        &mut self,
        selection: &Selection,
        grace: Duration,
        reply: Reply<Vec<SessionSnapshot>>,
    ) {
        let names = match self.select(selection) {
            Ok(names) => names,
            Err(cause) => {
                let _ = reply.send(Err(cause));
                return;
            }
        };
        let views: Vec<_> = names
            .iter()
            .filter_map(|name| {
                Some(
                    self.entries
                        .get(name)?
                        .view(&self.runtime_dir, &self.environment.broker),
                )
            })
            .collect();
        let ended: Vec<_> = names
            .iter()
            .map(|name| {
                let token = CancellationToken::new();
                self.begin_close(name, closing(grace), Some(token.clone()));
                token
            })
            .collect();
        self.tasks.spawn(async move {
            for token in ended {
                token.cancelled().await;
            }
            let _ = reply.send(Ok(views));
        });
    }

    /// Tells a session to end. `done` is cancelled when it has.
    pub(super) fn begin_close(
        &mut self,
        name: &SessionName,
        close_request: session::CloseRequest,
        done: Option<CancellationToken>,
    ) {
        let Some(entry) = self.entries.get_mut(name) else {
            if let Some(done) = done {
                done.cancel();
            }
            return;
        };
        entry.closing.push(done.unwrap_or_default());
        match &entry.running {
            Running::Bound(session) => {
                let commands = session.commands.clone();
                self.tasks.spawn(async move {
                    // An error means that it has ended already.
                    let _ = commands.send(session::Command::Close(close_request)).await;
                });
            }
            Running::Unbound { .. } => {
                let (events, name) = (self.events.clone(), name.clone());
                self.tasks.spawn(async move {
                    let _ = events.send(Event::Ended(name)).await;
                });
            }
        }
    }

    /// Takes a session that has ended out of the set; its port and password stay remembered.
    /// Answers what is to be done now.
    pub(super) fn forget(&mut self, name: &SessionName) -> OnClosed {
        let Some(entry) = self.entries.remove(name) else {
            return OnClosed::default();
        };
        self.journal().of_session(name, Kind::SessionClosed, "");
        if let Some(saved) = entry.remembered(Timestamp::now()) {
            self.remembered.insert(name.clone(), saved);
        }
        // Who is told that it is closed must not find it open after a crash.
        self.save_then(entry.closing);
        entry.on_closed
    }

    pub(super) fn rotate(&mut self, selection: &Selection, reply: Reply<Vec<SessionName>>) {
        let names = match self.select(selection) {
            Ok(names) => names,
            Err(cause) => {
                let _ = reply.send(Err(cause));
                return;
            }
        };
        // One moment for all: sessions that share a lease share its renewal.
        let asked = Clock::now();
        let mut answers = Vec::new();
        for name in &names {
            if let Some(Entry {
                running: Running::Bound(session),
                ..
            }) = self.entries.get(name)
            {
                let (done, answer) = oneshot::channel();
                answers.push((session.commands.clone(), done, answer));
            }
        }
        self.tasks.spawn(async move {
            let mut outcome = Ok(names);
            let mut waiting = Vec::new();
            for (commands, done, answer) in answers {
                // A session that ends meanwhile drops the sender, which is an answer too.
                let rotate = session::Command::Rotate { asked, reply: done };
                let _ = commands.send(rotate).await;
                waiting.push(answer);
            }
            for answer in waiting {
                if let Err(cause) = answer.await.unwrap_or(Err(Cause::SessionClosing)) {
                    outcome = Err(cause);
                }
            }
            let _ = reply.send(outcome);
        });
    }

    pub(super) fn pause(&self) -> Duration {
        let unbound = self
            .entries
            .values()
            .any(|entry| matches!(entry.running, Running::Unbound { .. }));
        let next_end = self
            .entries
            .values()
            .filter_map(|entry| entry.spec.expiry)
            .map(|expiry| {
                Duration::try_from(expiry.at.duration_since(Timestamp::now())).unwrap_or_default()
            })
            .min();
        let longest = if unbound || self.store.problem().is_some() {
            RETRY_PAUSE
        } else {
            LONGEST_SLEEP
        };
        next_end.map_or(longest, |left| left.min(longest))
    }

    pub(super) fn look_at_the_clock(&mut self) {
        let now = Timestamp::now();
        let expired: Vec<_> = self
            .entries
            .values()
            .filter(|entry| !entry.is_closing())
            .filter_map(|entry| {
                let expiry = entry.spec.expiry.filter(|expiry| expiry.at <= now)?;
                Some((entry.spec.name.clone(), expiry.grace))
            })
            .collect();
        for (name, grace) in expired {
            tracing::info!(session = %name, "the time that the session was opened for is over");
            self.journal().of_session(&name, Kind::SessionExpired, "");
            let close_request = session::CloseRequest::within(grace, Cause::SessionExpired);
            self.begin_close(&name, close_request, None);
        }
        self.rebind();
    }

    /// Ends every driver; what is saved says that they are open.
    pub(super) async fn stop(&mut self, deadline: Instant, happened: &mut mpsc::Receiver<Event>) {
        self.save();
        let entries = std::mem::take(&mut self.entries);
        let ending = TaskTracker::new();
        for entry in entries.into_values() {
            if let Running::Bound(session) = entry.running {
                let close_request = session::CloseRequest {
                    cause: Cause::DaemonStopping,
                    deadline,
                };
                ending.spawn(async move {
                    let _ = session
                        .commands
                        .send(session::Command::Close(close_request))
                        .await;
                    session.ended().await;
                });
            }
        }
        ending.close();
        // The drivers' last words must not fill the queue that nobody reads any more.
        let drained = async { while happened.recv().await.is_some() {} };
        tokio::select! {
            () = ending.wait() => {}
            () = drained => {}
        }
        if let Err(cause) = self.store.save(self.last_saved.clone()).await {
            tracing::error!(%cause, "the open sessions could not be saved");
        }
        if let Err(cause) = self.client_files.write(Vec::new()).await {
            tracing::warn!(%cause, "the files for libpq could not be written");
        }
    }
}

/// A session that somebody closes.
pub(super) fn closing(grace: Duration) -> session::CloseRequest {
    session::CloseRequest::within(grace, Cause::SessionClosing)
}
