//! How the rest of the daemon speaks to the supervisor.

use std::{future::Future, time::Duration};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Command, OpenRequest, Opened, Reloaded, Selection, SessionSnapshot, Snapshot};
use crate::{
    config::Config,
    model::{Cause, SessionName, Target},
    session::machine::Phase,
};

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
        let opened = self.ask(|reply| Command::Open { request, reply }).await?;
        let Some(wait) = wait else { return Ok(opened) };
        self.settle(opened, wait).await
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
        let opened = self.ask(|reply| Command::Open { request, reply }).await?;
        let opened = self.settle(opened, wait).await?;
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

    /// Renews the credentials of sessions; answers when the new ones are in use.
    pub async fn rotate(&self, selection: Selection) -> Result<Vec<SessionSnapshot>, Cause> {
        let names = self
            .ask(|reply| Command::Rotate { selection, reply })
            .await?;
        let snapshot = self.snapshot.borrow();
        Ok(snapshot
            .sessions
            .iter()
            .filter(|view| names.contains(&view.name))
            .cloned()
            .collect())
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

    async fn settle(&self, opened: Opened, wait: Duration) -> Result<Opened, Cause> {
        let Opened { view, created } = opened;
        let name = view.name.clone();
        if !created {
            // Somebody asks for it again: that is worth an attempt now, and a look where it
            // leads.
            let (reply, looked) = oneshot::channel();
            let refresh = Command::Refresh {
                name: name.clone(),
                reply,
            };
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
        let view = match timeout(wait, self.settled(&name, concluded)).await {
            Ok(Some(settled)) => settled,
            Ok(None) => return Err(Cause::SessionClosing),
            Err(_) => self.view(&name).unwrap_or(view),
        };
        let failure = view
            .status
            .last_error
            .clone()
            .filter(|_| view.status.phase != Phase::Up);
        match failure {
            Some(cause) if cause.is_for_good() => {
                if created {
                    let selection = Selection::Targets(vec![Target::Word(name.to_string())]);
                    let _ = self.close(selection, Duration::ZERO).await;
                }
                Err(cause)
            }
            _ => Ok(Opened { view, created }),
        }
    }

    /// The session once it is up, or failed after so many attempts; `None` where it ended.
    async fn settled(&self, name: &SessionName, concluded: u64) -> Option<SessionSnapshot> {
        let mut snapshot = self.snapshot.clone();
        loop {
            {
                let now = snapshot.borrow_and_update();
                let view = now.sessions.iter().find(|view| view.name == *name)?;
                let is_up = view.status.phase == Phase::Up;
                if is_up || (view.is_settled() && view.status.concluded >= concluded) {
                    return Some(view.clone());
                }
            }
            snapshot.changed().await.ok()?;
        }
    }

    fn view(&self, name: &SessionName) -> Option<SessionSnapshot> {
        self.snapshot
            .borrow()
            .sessions
            .iter()
            .find(|view| view.name == *name)
            .cloned()
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
