//! `borealisctl doctor`: what the daemon can check, layer by layer, each with what was found
//! and what to do. Every check does the thing itself and believes nothing that was published.
//!
//! It changes nothing: held credentials are used as they are, and asked for only where none
//! are held. What is the client's to check (socket, service manager) isn't here.

mod account;
mod check;
mod machine;
mod side_by_side;
mod way;

use std::{path::PathBuf, sync::Arc};

use tokio::sync::{mpsc, watch};

pub use check::{Check, Outcome};
use side_by_side::side_by_side;

use crate::{
    credential::Broker,
    model::{Cause, Target},
    postgres::UpstreamTls,
    ssh::Keepalive,
    supervisor::Handle,
};

/// Makes checks.
#[derive(Clone)]
pub struct Doctor {
    /// Where credentials and tokens are asked for.
    pub broker: Arc<Broker>,
    /// The sessions.
    pub sessions: Handle,
    /// TLS to the database.
    pub upstream_tls: watch::Receiver<UpstreamTls>,
    /// When a silent line counts as dead.
    pub keepalive: watch::Receiver<Keepalive>,
    /// The config file, whether there or not.
    pub config_file: PathBuf,
    /// Where it keeps what survives.
    pub state_dir: PathBuf,
    /// Where sockets are.
    pub runtime_dir: PathBuf,
}

/// Where checks go, one at a time.
struct Report {
    subject: String,
    checks: mpsc::Sender<Check>,
}

// === impl Doctor ===

impl Doctor {
    /// Makes the checks and sends each as it is done: those of the daemon, and of the way to
    /// `target`, or to every open session where none is named; several of these at a time, told
    /// in their order. Dropping the future ends it;
    /// what was asked of the provider meanwhile is undone as always.
    pub async fn diagnose(self, target: Option<Target>, checks: mpsc::Sender<Check>) {
        let report = Report {
            subject: String::new(),
            checks: checks.clone(),
        };
        self.config(&report).await;
        self.state(&report).await;
        self.descriptors(&report).await;
        self.ports(&report).await;
        self.token(&report).await;
        self.heroku(&report).await;
        self.clock(&report).await;
        let open = self.sessions.watch().borrow().sessions.clone();
        let subjects = match target {
            None => open,
            Some(target) => match self.sessions.find(target.clone()).await {
                Ok(view) => vec![view],
                Err(_) => {
                    let report = report.about(target.to_string());
                    return self.way_to_target(&report, &target).await;
                }
            },
        };
        let ways = subjects.into_iter().map(|view| {
            let doctor = self.clone();
            move |checks| async move {
                let subject = view.name.to_string();
                let report = Report { subject, checks };
                doctor.way_of_session(&report, &view).await;
            }
        });
        side_by_side(ways, &checks).await;
    }
}

// === impl Report ===

impl Report {
    fn about(&self, subject: String) -> Self {
        Self {
            subject,
            checks: self.checks.clone(),
        }
    }

    async fn ok(&self, id: &'static str, found: impl Into<String>) {
        self.tell(id, Outcome::Ok, found.into(), "").await;
    }

    async fn warn(&self, id: &'static str, found: impl Into<String>, hint: &str) {
        self.tell(id, Outcome::Warn, found.into(), hint).await;
    }

    async fn fail(&self, id: &'static str, found: impl Into<String>, hint: &str) {
        self.tell(id, Outcome::Fail, found.into(), hint).await;
    }

    async fn fail_for(&self, id: &'static str, cause: &Cause) {
        let words = cause.words();
        self.fail(id, words.sentence, &words.hint).await;
    }

    /// Nothing can be checked further on.
    async fn skip(&self, ids: &[&'static str], because: &str) {
        for id in ids {
            self.tell(id, Outcome::Skipped, because.to_owned(), "")
                .await;
        }
    }

    async fn tell(&self, id: &'static str, outcome: Outcome, found: String, hint: &str) {
        let check = Check {
            id,
            subject: self.subject.clone(),
            outcome,
            found,
            hint: hint.to_owned(),
        };
        // Who asked may have gone; the stream's end ends the rest.
        let _ = self.checks.send(check).await;
    }
}
