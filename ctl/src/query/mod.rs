//! SQL over a session's Unix socket, with the types that the server names and the texts that it
//! sends. Knows nothing of the daemon. [`start`] is `run --db-cmd`, in the simple query protocol,
//! which takes several statements; [`reader`] takes one that reads, in the extended protocol.
//!
//! The conversation of [`start`] runs on a thread of its own, because printing may block (a pager that
//! waits for a key) and signals must be answered meanwhile.

mod complaint;
mod connection;
mod copy;
mod execute;
mod login;
pub(crate) mod reader;
mod row;
mod spool;

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::{sync::oneshot, time::timeout};

use crate::{
    failure::{Failure, reason},
    output::Output,
};

pub(crate) use complaint::Complaint;
use connection::CancelKey;

/// What to execute, and where. Not `Debug`: it holds a password.
#[derive(Clone)]
pub(crate) struct Job {
    /// `<socket_dir>/.s.PGSQL.5432`.
    pub(crate) socket: PathBuf,
    /// The user to log in as.
    pub(crate) user: String,
    /// The database.
    pub(crate) database: String,
    /// Only for a session that lets the database's own log-in through.
    pub(crate) password: String,
    /// Any number of statements.
    pub(crate) sql: String,
    /// What the database user may do; for the hint when it may not.
    pub(crate) access: Access,
    /// Where `COPY … FROM STDIN` reads.
    pub(crate) copy_from: CopyFrom,
}

/// What the session's database user may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Read only.
    ReadOnly,
    /// Read and write.
    ReadWrite,
}

/// Where `COPY … FROM STDIN` reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CopyFrom {
    /// From standard input.
    Stdin,
    /// From nowhere: the SQL itself was read from there.
    Nowhere,
}

/// A job under way.
#[derive(Debug)]
pub(crate) struct Running {
    socket: PathBuf,
    key: Arc<OnceLock<CancelKey>>,
    done: oneshot::Receiver<Result<(), Failure>>,
}

/// Why a conversation ended early.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The database says so.
    Told(Box<Complaint>),
    /// The connection can't be made or used.
    Lost(Failure),
    /// It would not do: nothing was asked.
    Unsafe(Failure),
}

/// How long a cancelled query gets to end.
const CANCEL_GRACE: Duration = Duration::from_secs(2);

/// Starts a job.
///
/// # Errors
/// When no thread can be had.
pub(crate) fn start(job: Job, output: &Output) -> Result<Running, Failure> {
    let (tell, done) = oneshot::channel();
    let key = Arc::new(OnceLock::new());
    let running = Running {
        socket: job.socket.clone(),
        key: Arc::clone(&key),
        done,
    };
    let output = output.clone();
    std::thread::Builder::new()
        .name("query".into())
        .spawn(move || {
            // Nobody waits for the result after an interrupt.
            let _ = tell.send(converse(&job, &output, &key));
        })
        .map_err(|error| Failure::failed(format!("can't start a thread: {}", reason(&error))))?;
    Ok(running)
}

// === impl Trouble ===

impl Trouble {
    fn told(complaint: Complaint) -> Self {
        Self::Told(Box::new(complaint))
    }

    fn failure(self, sql: &str, access: Access) -> Failure {
        match self {
            Self::Told(complaint) => complaint.failure(sql, access),
            Self::Lost(failure) | Self::Unsafe(failure) => failure,
        }
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Lost(failure)
    }
}

// === impl Running ===

impl Running {
    /// Waits until the results are printed. Safe to be dropped and called again.
    ///
    /// # Errors
    /// What the database said, or why it can't be reached.
    pub(crate) async fn done(&mut self) -> Result<(), Failure> {
        match (&mut self.done).await {
            Ok(result) => result,
            Err(_) => Err(Failure::failed("the query ended without a result")),
        }
    }

    /// Has the database cancel the query, and gives it a moment to do so.
    pub(crate) async fn cancel(&mut self) {
        let Some(key) = self.key.get() else { return };
        let asked = timeout(CANCEL_GRACE, connection::cancel(&self.socket, *key)).await;
        if let Ok(Ok(())) = asked {
            // Its error, "canceling statement due to user request", is no news.
            let _ = timeout(CANCEL_GRACE, self.done()).await;
        }
    }
}

fn converse(job: &Job, output: &Output, key: &OnceLock<CancelKey>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("can't start: {}", reason(&error))))?;
    let result = runtime.block_on(execute::execute(job, output, key));
    // A read of standard input that nobody waits for any more must not hold the exit up.
    runtime.shutdown_background();
    result
}
