//! Which databases there are, and their sessions: opened when they are needed, held while this
//! process lives, opened again where they ended. Only read-only sessions of the personal role
//! that are managed get through here.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use borealis_proto::v1;
use tokio::sync::{Mutex as Turn, oneshot};

use super::answer::Database;
use crate::{
    client::{Client, Held, Opened},
    commands::{self, Context},
    failure::{Exit, Failure},
    output::{Output, words},
    project::Project,
    query::reader::Place,
};

/// What may be asked.
#[derive(Debug)]
pub(super) struct Databases {
    socket: Option<PathBuf>,
    output: Output,
    /// As they were named on the command line, or in the project's file; none: the open sessions that fit.
    targets: Vec<String>,
    slots: Mutex<BTreeMap<String, Arc<Turn<Option<Session>>>>>,
}

/// A session that is held.
#[derive(Debug)]
struct Session {
    place: Place,
    name: String,
    /// Ends when the daemon gives the session up.
    alive: oneshot::Receiver<()>,
}

/// What a call needs to connect.
#[derive(Debug, Clone)]
pub(super) struct Reached {
    pub(super) place: Place,
    /// The session's name.
    pub(super) name: String,
}

/// How long the daemon waits for a session to be up, at a time.
const UP: Duration = Duration::from_secs(60);

/// What is served: what was named, else the project's read-only sessions of the personal role.
/// None: whatever is open.
///
/// # Errors
/// Why the project's file isn't taken.
pub(super) fn named(targets: Vec<String>) -> Result<Vec<String>, Failure> {
    if !targets.is_empty() {
        return Ok(targets);
    }
    let project = Project::nearest()?.map(Project::believed).transpose()?;
    let sessions = project.into_iter().flat_map(|project| project.sessions);
    let fitting = sessions
        .filter(|entry| entry.access == v1::Access::ReadOnly && entry.role == v1::Role::Personal);
    Ok(fitting.map(|entry| entry.target).collect())
}

// === impl Databases ===

impl Databases {
    pub(super) fn new(context: Context<'_>, targets: Vec<String>) -> Self {
        Self {
            socket: context.socket.map(Into::into),
            output: context.output.clone(),
            targets,
            slots: Mutex::default(),
        }
    }

    /// The daemon, started where that can be done.
    ///
    /// # Errors
    /// When there is none.
    pub(super) async fn daemon(&self) -> Result<Client, Failure> {
        let context = Context {
            socket: self.socket.as_deref(),
            output: &self.output,
        };
        context.daemon().await
    }

    /// Whether a session waits for its user.
    pub(super) async fn has_failed(&self, name: &str) -> bool {
        let Ok(mut daemon) = self.daemon().await else {
            return false;
        };
        let sessions = daemon.list().await.unwrap_or_default();
        let mut sessions = sessions.iter().filter(|session| session.name == name);
        sessions.any(|session| session.state() == v1::State::Failed)
    }

    /// All that may be asked, and how it is.
    ///
    /// # Errors
    /// What the daemon answers instead, where only it knows what is open.
    pub(super) async fn list(&self) -> Result<Vec<Database>, Failure> {
        let sessions = match self.daemon().await {
            Ok(mut daemon) => daemon.list().await?,
            Err(_) if !self.targets.is_empty() => Vec::new(),
            Err(failure) => return Err(failure),
        };
        let fitting = sessions.iter().filter(|session| unfit(session).is_none());
        if self.targets.is_empty() {
            return Ok(fitting
                .map(|session| known(&session.name, session))
                .collect());
        }
        let fitting: Vec<_> = fitting.collect();
        let named = self.targets.iter().map(|target| {
            let is_meant = |session: &&&v1::Session| {
                session.name == *target || session.app == *target || session.addon == *target
            };
            match fitting.iter().find(is_meant) {
                Some(session) => known(target, session),
                None => Database {
                    database: target.clone(),
                    app: None,
                    addon: None,
                    state: "closed".into(),
                },
            }
        });
        Ok(named.collect())
    }

    /// Refuses targets that are open sessions of another kind, as far as a daemon can be asked.
    ///
    /// # Errors
    /// Which one, and what it is.
    pub(super) async fn check(&self) -> Result<(), Failure> {
        let Ok(mut daemon) = self.daemon().await else {
            return Ok(());
        };
        let sessions = daemon.list().await.unwrap_or_default();
        let mut targets = self.targets.iter();
        targets.try_for_each(|target| refuse_unfit(&sessions, target))
    }

    /// Which database is meant.
    ///
    /// # Errors
    /// That it isn't served, or that several are and none was named.
    pub(super) async fn choose(&self, named: Option<&str>) -> Result<String, Failure> {
        if let Some(name) = named
            && self.targets.iter().any(|target| target == name)
        {
            return Ok(name.to_owned());
        }
        if let (None, [only]) = (named, self.targets.as_slice()) {
            return Ok(only.clone());
        }
        let mut names: Vec<_> = self.list().await?;
        let Some(name) = named else {
            return match names.len() {
                1 => Ok(names.remove(0).database),
                0 => Err(nothing_open()),
                _ => Err(
                    Failure::usage("there are several databases, and none was named")
                        .with_hint(format!("pass `database`, one of: {}", listed(&names))),
                ),
            };
        };
        if names.iter().any(|known| known.database == name) {
            return Ok(name.to_owned());
        }
        if self.targets.is_empty()
            && let Ok(sessions) = self.daemon().await?.list().await
        {
            refuse_unfit(&sessions, name)?;
        }
        let failure = Failure::new(
            Exit::NotFound,
            format!("the database {name} is not served here"),
        );
        Err(if names.is_empty() {
            failure.with_hint(nothing_open().hint.unwrap_or_default())
        } else {
            failure.with_hint(format!("pass one of: {}", listed(&names)))
        })
    }

    /// The session of a database, opened where it isn't open.
    ///
    /// # Errors
    /// Why it can't be had, or that it is of another kind.
    pub(super) async fn reach(&self, database: &str) -> Result<Reached, Failure> {
        let slot = self.slot(database);
        let mut slot = slot.lock().await;
        if let Some(session) = slot.as_mut()
            && session.alive.try_recv() == Err(oneshot::error::TryRecvError::Empty)
        {
            return Ok(session.reached());
        }
        *slot = None;
        let mut daemon = self.daemon().await?;
        daemon.check_version().await?;
        refuse_unfit(&daemon.list().await?, database)?;
        let request = v1::UseSessionRequest {
            target: Some(v1::Target {
                name: database.to_owned(),
                ..v1::Target::default()
            }),
            access: v1::Access::ReadOnly.into(),
            role: v1::Role::Personal.into(),
            port: 0,
            wait: Some(commands::duration(UP)?),
        };
        let (opened, held) = daemon.hold(request).await?;
        if let Some(what) = unfit(&opened.session) {
            return Err(refusal(&opened.session.name, what));
        }
        let session = Session::of(&opened, held);
        let reached = session.reached();
        *slot = Some(session);
        Ok(reached)
    }

    fn slot(&self, database: &str) -> Arc<Turn<Option<Session>>> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(database.to_owned()).or_default())
    }
}

// === impl Session ===

impl Session {
    fn of(opened: &Opened, mut held: Held) -> Self {
        let session = &opened.session;
        let (ended, alive) = oneshot::channel();
        tokio::spawn(async move {
            let mut ended = ended;
            tokio::select! {
                _ = held.ended() => {}
                () = ended.closed() => {}
            }
        });
        Self {
            place: Place {
                socket: PathBuf::from(&session.socket_dir).join(".s.PGSQL.5432"),
                user: session.user.clone(),
                // To the session that is its own database, whichever it comes to be.
                database: session.user.clone(),
            },
            name: session.name.clone(),
            alive,
        }
    }

    fn reached(&self) -> Reached {
        Reached {
            place: self.place.clone(),
            name: self.name.clone(),
        }
    }
}

fn known(database: &str, session: &v1::Session) -> Database {
    let some = |text: &String| (!text.is_empty()).then(|| text.clone());
    Database {
        database: database.to_owned(),
        app: some(&session.app),
        addon: some(&session.addon),
        state: words::state(session.state())
            .unwrap_or("unknown")
            .to_owned(),
    }
}

fn listed(names: &[Database]) -> String {
    let names: Vec<_> = names.iter().map(|known| known.database.as_str()).collect();
    names.join(", ")
}

fn nothing_open() -> Failure {
    Failure::new(Exit::NotFound, "no read-only session is open").with_hint(
        "ask the user to run `borealisctl open APP`, or to name the app: `borealisctl mcp APP`",
    )
}

/// What a session that isn't up waits for, in words.
pub(super) fn waits_for(session: &v1::Session) -> Option<String> {
    if session.state() == v1::State::Up {
        return None;
    }
    let state = words::state(session.state()).unwrap_or("not up");
    let why = match &session.last_error {
        Some(error) => format!(": {}", error.message),
        None => String::new(),
    };
    Some(format!(
        "waiting for {}, which is {state}{why}",
        session.name
    ))
}

/// What a session is that it must not be.
fn unfit(session: &v1::Session) -> Option<&'static str> {
    if session.access() != v1::Access::ReadOnly {
        Some("a session with write access")
    } else if session.role() != v1::Role::Personal {
        Some("a session of the app's database user")
    } else if session.mode() != v1::Mode::Managed {
        Some("a passthrough session, which needs the database's own password")
    } else {
        None
    }
}

fn refuse_unfit(sessions: &[v1::Session], name: &str) -> Result<(), Failure> {
    let unfit = sessions
        .iter()
        .find(|session| session.name == name)
        .and_then(unfit);
    unfit.map_or(Ok(()), |what| Err(refusal(name, what)))
}

fn refusal(name: &str, what: &str) -> Failure {
    Failure::usage(format!(
        "{name} is {what}: agents get read-only sessions of your personal role only"
    ))
    .with_hint("name the app or add-on instead: a read-only session of it is opened")
}
