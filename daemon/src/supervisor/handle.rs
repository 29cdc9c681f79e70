//! How the rest of the daemon speaks to the supervisor.

use std::{future::Future, time::Duration};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    Command, OpenRequest, Opened, Reloaded, Rotated, Selection, SessionId, SessionSnapshot,
    Snapshot,
};
use crate::{
    config::Config,
    model::{Cause, Target},
    session::machine::Phase,
};

/// An `open` whose session is closed so soon after it counts as having come after that: of
/// commands that cross, nobody can tell the order, and who opens a session wants it open.
const CROSSING: Duration = Duration::from_secs(5);

/// Speaks to the supervisor; cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) snapshot: watch::Receiver<Snapshot>,
}

/// Keeps a transient session open until it is dropped.
#[derive(Debug)]
pub struct Use {
    /// The session as it was when it came up.
    pub view: SessionSnapshot,
    _guard: DropGuard,
}

/// How long an `open` of a session that is open waits to hear where its target leads now.
const LOOK_UP_LIMIT: Duration = Duration::from_secs(5);

// === impl Handle ===

impl Handle {
    /// Every snapshot from now on; the first is the one of now.
    pub fn watch(&self) -> watch::Receiver<Snapshot> {
        self.snapshot.clone()
    }

    /// Opens a session, or finds the one that is open, and waits until it is up.
    ///
    /// # Errors
    /// What keeps it from ever coming up as asked; nothing stays behind then. A session that
    /// isn't up within `wait` for a passing cause is no error: its view says so. Dropping the
    /// future leaves the session as it is.
    pub async fn open(
        &self,
        request: OpenRequest,
        wait: Option<Duration>,
    ) -> Result<Opened, Cause> {
        let end = wait.map(|wait| Instant::now() + wait);
        loop {
            let began = Instant::now();
            let opened = self.begin(request.clone()).await;
            let settled = match (opened, end) {
                (Ok(opened), Some(end)) => {
                    let left = end.saturating_duration_since(began);
                    self.settle(opened, left).await
                }
                (opened, _) => opened,
            };
            match settled {
                // Of two commands that crossed, this one counts as the later.
                Err(Cause::SessionClosing)
                    if began.elapsed() < CROSSING && end.is_none_or(|end| began < end) => {}
                settled => return settled,
            }
        }
    }

    /// As [`Handle::open`], for a session that lives as long as the answer.
    pub async fn use_session(
        &self,
        mut request: OpenRequest,
        wait: Duration,
    ) -> Result<Use, Cause> {
        let token = CancellationToken::new();
        let guard = token.clone().drop_guard();
        request.lifetime = super::Lifetime::Transient(token);
        let opened = self.open(request, Some(wait)).await?;
        if opened.view.status.phase != Phase::Up {
            let because = opened.view.status.last_error.map(Box::new);
            return Err(Cause::HoldTimeout {
                waited: wait,
                because,
            });
        }
        Ok(Use {
            view: opened.view,
            _guard: guard,
        })
    }

    /// Closes sessions and waits until they have ended.
    pub async fn close(
        &self,
        selection: Selection,
        grace: Duration,
    ) -> Result<Vec<SessionSnapshot>, Cause> {
        self.ask(|reply| Command::Close {
            selection,
            grace,
            reply,
        })
        .await
    }

    /// Renews the credentials of sessions; answers within a limit what came of each.
    pub async fn rotate(&self, selection: Selection) -> Result<Vec<Rotated>, Cause> {
        self.ask(|reply| Command::Rotate { selection, reply }).await
    }

    /// The session that a target means.
    pub async fn find(&self, target: Target) -> Result<SessionSnapshot, Cause> {
        self.ask(|reply| Command::Find { target, reply }).await
    }

    /// Takes a new config: opens what is declared now, closes what no longer is.
    pub async fn reload(&self, config: Config) -> Result<Reloaded, Cause> {
        self.ask(|reply| Command::Reload {
            config: Box::new(config),
            reply,
        })
        .await
    }

    /// Ends every session, giving open connections until `deadline`, and the supervisor. The
    /// sessions stay open in what is remembered.
    pub async fn stop(&self, deadline: Instant) {
        let (reply, answer) = oneshot::channel();
        if self
            .commands
            .send(Command::Stop { deadline, reply })
            .await
            .is_ok()
        {
            let _ = answer.await;
        }
    }

    /// Returns when the supervisor has ended, as it does after [`Handle::stop`] and by a panic.
    pub async fn ended(&self) {
        self.commands.closed().await;
    }

    /// Answers when the supervisor's loop has got to it.
    pub async fn ping(&self) -> Result<(), Cause> {
        self.ask(|reply| Command::Ping { reply }).await
    }

    async fn begin(&self, request: OpenRequest) -> Result<Opened, Cause> {
        self.ask(|reply| Command::Open { request, reply }).await
    }

    async fn settle(&self, opened: Opened, wait: Duration) -> Result<Opened, Cause> {
        let Opened { view, created } = opened;
        let id = view.id;
        if !created {
            // Somebody asks for it again: that is worth an attempt now, and a look where it
            // leads.
            let (reply, looked) = oneshot::channel();
            let refresh = Command::Refresh { id, reply };
            let _ = self.commands.send(refresh).await;
            // The sender is dropped as an answer.
            let _ = timeout(wait.min(LOOK_UP_LIMIT), looked).await;
            // What the session has published meanwhile is in the snapshot after the loop's turn.
            let _ = self.ping().await;
        }
        // Of a session that was open already, an old failure is no answer.
        let concluded = if created {
            0
        } else {
            view.status.concluded + 1
        };
        let view = match timeout(wait, self.settled(id, concluded)).await {
            Ok(settled) => settled?,
            Err(_) => self.view(id).unwrap_or(view),
        };
        let failure = view
            .status
            .last_error
            .clone()
            .filter(|_| view.status.phase != Phase::Up);
        match failure {
            Some(cause) if cause.is_for_good() => {
                if created {
                    let _ = self.close(Selection::Session(id), Duration::ZERO).await;
                }
                Err(cause)
            }
            _ => {
                self.ask(|reply| Command::Flush { reply }).await?;
                Ok(Opened { view, created })
            }
        }
    }

    /// The session once it is up, or failed after so many attempts.
    ///
    /// # Errors
    /// `SessionClosing` where it ended, `DaemonStopping` where all do.
    async fn settled(&self, id: SessionId, concluded: u64) -> Result<SessionSnapshot, Cause> {
        let mut snapshot = self.snapshot.clone();
        loop {
            {
                let now = snapshot.borrow_and_update();
                if now.is_stopping {
                    return Err(Cause::DaemonStopping);
                }
                let view = now.sessions.iter().find(|view| view.id == id);
                let view = view.ok_or(Cause::SessionClosing)?;
                if view.status.phase == Phase::Closing {
                    return Err(Cause::SessionClosing);
                }
                let is_up = view.status.phase == Phase::Up;
                if is_up || (view.is_settled() && view.status.concluded >= concluded) {
                    return Ok(view.clone());
                }
            }
            let changed = snapshot.changed().await;
            changed.map_err(|_| Cause::DaemonStopping)?;
        }
    }

    /// Completes when the daemon ends.
    pub async fn stopping(&self) {
        let mut snapshot = self.snapshot.clone();
        // An error means that it has ended.
        let _ = snapshot.wait_for(|snapshot| snapshot.is_stopping).await;
    }

    fn view(&self, id: SessionId) -> Option<SessionSnapshot> {
        let snapshot = self.snapshot.borrow();
        let view = snapshot.sessions.iter().find(|view| view.id == id);
        view.cloned()
    }

    fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, Cause>>) -> Command,
    ) -> impl Future<Output = Result<T, Cause>> {
        let (reply, answer) = oneshot::channel();
        let command = command(reply);
        let commands = self.commands.clone();
        async move {
            commands
                .send(command)
                .await
                .map_err(|_| Cause::DaemonStopping)?;
            answer.await.unwrap_or(Err(Cause::DaemonStopping))
        }
    }
}
