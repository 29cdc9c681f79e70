//! One call: its turn, its session, a connection of its own, and as many attempts as lost lines,
//! rotations and restarts of the daemon ask for. What is read can be read again: nothing of
//! an attempt that broke has changed anything.

use std::{sync::Arc, time::Duration};

use rmcp::model::{CallToolResult, ContentBlock};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{
    databases::{Databases, Reached},
    progress::Progress,
    statement::Refusal,
};
use crate::{
    failure::{Exit, Failure},
    query::{
        Complaint, Trouble,
        reader::{Canceller, Reader},
    },
};

/// What a call does with its connection.
pub(super) trait Work: Sync {
    /// What it comes to.
    type Result: Send;
    /// Does it. May be asked again, on another connection.
    fn run(
        &self,
        reader: &mut Reader,
    ) -> impl Future<Output = Result<Self::Result, Trouble>> + Send;
}

/// All calls of a server.
#[derive(Debug)]
pub(super) struct Calls {
    pub(super) databases: Databases,
    /// How long a statement may run.
    timeout: Duration,
    turns: Semaphore,
}

/// Why a call has no result.
#[derive(Debug)]
pub(super) enum Stopped {
    /// It wasn't sent.
    Refused(Refusal),
    /// The database says so.
    Told {
        complaint: Box<Complaint>,
        sql: String,
    },
    /// Something on the way to the database.
    Failed(Failure),
    /// Nobody wants it any more.
    Cancelled,
}

/// Calls that have a connection at the same time.
pub(super) const AT_ONCE: usize = 4;
/// How long a call goes on trying to get through.
const PATIENCE: Duration = Duration::from_secs(60);
/// What the server gets to end a statement by itself, beyond the time that it was given.
const GRACE: Duration = Duration::from_secs(5);
/// What a cancel request gets.
const CANCEL: Duration = Duration::from_secs(3);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(250);

// === impl Calls ===

impl Calls {
    pub(super) fn new(databases: Databases, timeout: Duration) -> Self {
        Self {
            databases,
            timeout,
            turns: Semaphore::new(AT_ONCE),
        }
    }

    /// Does a work on a database.
    ///
    /// # Errors
    /// Why there is no result.
    pub(super) async fn run<W: Work>(
        &self,
        database: Option<&str>,
        agent: &str,
        work: &W,
        progress: &Progress,
        cancelled: &CancellationToken,
    ) -> Result<W::Result, Stopped> {
        let until = Instant::now() + PATIENCE;
        let turn = match self.turns.try_acquire() {
            Ok(turn) => Ok(turn),
            Err(_) => {
                progress.waits(&format!("waiting until one of {AT_ONCE} calls has ended"));
                unless(cancelled, self.turns.acquire()).await?
            }
        };
        // The semaphore is never closed.
        let _turn = turn.map_err(|_| Stopped::Cancelled)?;
        loop {
            let trouble = match self
                .attempt(database, agent, work, progress, cancelled, until)
                .await
            {
                Ok(result) => return Ok(result),
                Err(Ended::Final(stopped)) => return Err(stopped),
                Err(Ended::Passing(stopped)) => stopped,
            };
            if Instant::now() >= until {
                return Err(trouble);
            }
            progress.waits(&format!("trying again: {}", trouble.line()));
            unless(cancelled, sleep(PAUSE)).await?;
        }
    }

    async fn attempt<W: Work>(
        &self,
        database: Option<&str>,
        agent: &str,
        work: &W,
        progress: &Progress,
        cancelled: &CancellationToken,
        until: Instant,
    ) -> Result<W::Result, Ended> {
        let choosing = self.databases.choose(database);
        let name = unless(cancelled, choosing).await.map_err(Ended::Final)?;
        let name = name.map_err(unreached)?;
        progress.at(&format!("connecting to {name}"));
        let reached = tokio::select! {
            reached = self.databases.reach(&name) => reached.map_err(unreached)?,
            never = self.follow(&name, progress) => match never {},
            () = cancelled.cancelled() => return Err(Ended::Final(Stopped::Cancelled)),
        };
        let canceller = Canceller::new(&reached.place);
        let settings = self.settings(agent);
        let settings = settings
            .each_ref()
            .map(|(name, value)| (*name, value.as_str()));
        let opening = async {
            tokio::select! {
                reader = timeout_at(until, Reader::open(&reached.place, &settings, &canceller)) => reader,
                never = self.follow(&reached.name, progress) => match never {},
            }
        };
        let opened = ended_by(cancelled, &canceller, opening).await?;
        let mut reader = match opened {
            Ok(Ok(reader)) => reader,
            Ok(Err(trouble)) => return Err(self.judged(trouble, &reached).await),
            Err(_) => return Err(Ended::Final(Stopped::Failed(late(&reached.name)))),
        };
        progress.at("running");
        let running = timeout(self.timeout + GRACE, work.run(&mut reader));
        match ended_by(cancelled, &canceller, running).await? {
            Ok(Ok(result)) => {
                reader.close().await;
                Ok(result)
            }
            Ok(Err(trouble)) => Err(self.judged(trouble, &reached).await),
            // The server's own limit didn't end it: a setting of it was undone, or the line hangs.
            Err(_) => {
                let _ = timeout(CANCEL, canceller.cancel()).await;
                Err(Ended::Final(Stopped::Failed(self.too_long())))
            }
        }
    }

    /// Settings that a session begins with. They bound it in the server as well; that they can't
    /// be undone in it is not what is relied on.
    fn settings(&self, agent: &str) -> [(&'static str, String); 9] {
        let milliseconds = |time: Duration| time.as_millis().to_string();
        [
            ("application_name", application_name(agent)),
            ("default_transaction_read_only", "on".into()),
            ("statement_timeout", milliseconds(self.timeout)),
            (
                "lock_timeout",
                milliseconds(self.timeout.min(Duration::from_secs(5))),
            ),
            (
                "idle_in_transaction_session_timeout",
                milliseconds(self.timeout + GRACE),
            ),
            ("standard_conforming_strings", "on".into()),
            ("datestyle", "ISO".into()),
            ("bytea_output", "hex".into()),
            // All rows are wanted, not the first of them soon.
            ("cursor_tuple_fraction", "1.0".into()),
        ]
    }

    fn too_long(&self) -> Failure {
        let seconds = self.timeout.as_secs_f64();
        Failure::failed(format!("the statement was stopped after {seconds} s")).with_hint(TOO_LONG)
    }

    /// Says what the session waits for, whenever that changes.
    async fn follow(&self, name: &str, progress: &Progress) -> std::convert::Infallible {
        if let Ok(mut daemon) = self.databases.daemon().await
            && let Ok(mut changes) = daemon.watch().await
        {
            while let Ok(Some(change)) = changes.message().await {
                let session = change.sessions.iter().find(|known| known.name == name);
                if let Some(waits) = session.and_then(super::databases::waits_for) {
                    progress.waits(&waits);
                }
            }
        }
        std::future::pending().await
    }

    /// Whether another attempt may help.
    async fn judged(&self, trouble: Trouble, reached: &Reached) -> Ended {
        match trouble {
            Trouble::Told(complaint) => {
                let passes =
                    passes(&complaint.sqlstate) && !self.databases.has_failed(&reached.name).await;
                let told = Stopped::Told {
                    complaint,
                    sql: String::new(),
                };
                if passes {
                    Ended::Passing(told)
                } else {
                    Ended::Final(told)
                }
            }
            Trouble::Lost(failure) => Ended::Passing(Stopped::Failed(failure)),
            Trouble::Unsafe(failure) => Ended::Final(Stopped::Failed(failure)),
        }
    }
}

/// How an attempt ended.
enum Ended {
    /// Another one may do better.
    Passing(Stopped),
    Final(Stopped),
}

/// Waits for something, unless the call is cancelled.
async fn unless<T>(
    cancelled: &CancellationToken,
    wanted: impl Future<Output = T>,
) -> Result<T, Stopped> {
    tokio::select! {
        result = wanted => Ok(result),
        () = cancelled.cancelled() => Err(Stopped::Cancelled),
    }
}

/// Waits for what the server is at; where the call is cancelled, has the server stop.
async fn ended_by<T>(
    cancelled: &CancellationToken,
    canceller: &Canceller,
    wanted: impl Future<Output = T>,
) -> Result<T, Ended> {
    let mut wanted = std::pin::pin!(wanted);
    tokio::select! {
        result = &mut wanted => Ok(result),
        () = cancelled.cancelled() => {
            // The connection lives until this is through: a cancel request goes by it.
            let _ = timeout(CANCEL, canceller.cancel()).await;
            Err(Ended::Final(Stopped::Cancelled))
        }
    }
}

/// What the database says while a line, a server or a credential is being replaced.
fn passes(sqlstate: &str) -> bool {
    sqlstate.starts_with("08") || ["53300", "57P01", "57P02", "57P03"].contains(&sqlstate)
}

fn unreached(failure: Failure) -> Ended {
    let restarts = ["daemon-stopping", "session-closing", "session-expired"];
    let passes = failure.exit == Exit::NoDaemon || restarts.contains(&failure.code.as_str());
    let stopped = Stopped::Failed(failure);
    if passes {
        Ended::Passing(stopped)
    } else {
        Ended::Final(stopped)
    }
}

fn late(session: &str) -> Failure {
    let seconds = PATIENCE.as_secs();
    Failure::failed(format!("{session} could not be reached within {seconds} s"))
        .with_hint("call again later; `borealisctl doctor` tells the user what is wrong")
}

/// As `pg_stat_activity` shows it.
fn application_name(agent: &str) -> String {
    /// What PostgreSQL keeps of it.
    const LONGEST: usize = 63;
    let agent = agent.chars().filter(|c| c.is_ascii_graphic() || *c == ' ');
    let agent: String = agent.collect();
    let mut name = "borealisctl mcp".to_owned();
    if !agent.trim().is_empty() {
        name += &format!(" ({})", agent.trim());
    }
    name.truncate(LONGEST);
    name
}

const TOO_LONG: &str = "ask for less: fewer rows, an indexed condition, an estimate instead of a count; `explain` shows the plan";

// === impl Stopped ===

impl Stopped {
    /// On one line.
    fn line(&self) -> String {
        match self {
            Self::Refused(refusal) => refusal.message.clone(),
            Self::Told { complaint, .. } => {
                format!("{} (SQLSTATE {})", complaint.message, complaint.sqlstate)
            }
            Self::Failed(failure) => failure.message.clone(),
            Self::Cancelled => "cancelled".to_owned(),
        }
    }

    /// With what was asked, for positions in it.
    pub(super) fn of(self, asked: &str) -> Self {
        match self {
            Self::Told { complaint, .. } => Self::Told {
                complaint,
                sql: asked.to_owned(),
            },
            other => other,
        }
    }

    /// As a tool's error.
    pub(super) fn result(&self) -> CallToolResult {
        let mut lines = Vec::new();
        match self {
            Self::Told { complaint, sql } => {
                let Complaint {
                    sqlstate,
                    message,
                    detail,
                    ..
                } = &**complaint;
                lines.push(format!("error: {message}"));
                lines.push(format!("sqlstate: {sqlstate}"));
                if let Some((line, column)) = complaint.position.and_then(|at| place(sql, at)) {
                    let at = complaint.position.unwrap_or_default();
                    lines.push(format!("position: {at} (line {line}, column {column})"));
                }
                if !detail.is_empty() {
                    lines.push(format!("detail: {detail}"));
                }
                let hints = [complaint.hint.as_str(), own_hint(complaint)];
                for hint in hints.iter().filter(|hint| !hint.is_empty()) {
                    lines.push(format!("hint: {hint}"));
                }
            }
            Self::Refused(Refusal { message, hint }) => {
                lines.push(format!("refused: {message}"));
                lines.push(format!("hint: {hint}"));
            }
            Self::Failed(failure) => {
                lines.push(format!("error: {}", failure.message));
                lines.extend(failure.hint.iter().map(|hint| format!("hint: {hint}")));
            }
            Self::Cancelled => lines.push("error: the call was cancelled".into()),
        }
        CallToolResult::error(vec![ContentBlock::text(lines.join("\n"))])
    }
}

/// What the server can't know of the reason.
fn own_hint(complaint: &Complaint) -> &'static str {
    match complaint.sqlstate.as_str() {
        "25006" => "nothing can be written here: the transaction is read-only, and rolled back",
        "42501" => "the provider's read-only role may not do this",
        "57014" => TOO_LONG,
        "55P03" => "somebody holds a lock on it; call again later",
        "0A000" | "42601" if complaint.message.contains("DECLARE CURSOR") => {
            "only queries are executed here, without INTO, and without INSERT, UPDATE or DELETE in WITH"
        }
        _ => "",
    }
}

/// Line and column, from 1, of a position in characters.
fn place(sql: &str, position: usize) -> Option<(usize, usize)> {
    let before: String = sql.chars().take(position.checked_sub(1)?).collect();
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|&c| c != '\n').count() + 1;
    Some((line, column))
}

impl From<Refusal> for Stopped {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Shared by the calls of a server.
pub(super) type Shared = Arc<Calls>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_become_places() {
        assert_eq!(place("select x", 8), Some((1, 8)));
        assert_eq!(place("select\n é, x", 5 + 7), Some((2, 5)));
        assert_eq!(place("", 1), Some((1, 1)));
        assert_eq!(place("x", 0), None);
    }

    #[test]
    fn an_agents_name_is_a_short_plain_one() {
        assert_eq!(application_name(""), "borealisctl mcp");
        assert_eq!(
            application_name("claude-code 2\n\u{1b}[1mé"),
            "borealisctl mcp (claude-code 2[1m)"
        );
        assert_eq!(application_name(&"x".repeat(500)).len(), 63);
    }
}
