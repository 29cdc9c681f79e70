//! The supervisor's loop.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Command, Handle, LiveSettings, OpenRequest, Opened, Reply, Selection, SessionSnapshot,
    Snapshot, entry::Entry, find,
};
use crate::{
    config::Config,
    credential::Grant,
    journal::Journal,
    model::{Cause, Resolved, SessionName},
    proxy::{self, LocalLogin},
    service_manager::activation::Inherited,
    session::{self, EarlyDial, Environment},
    state::{ClientEntry, ClientFiles, Passwords, SavedSession, SessionStore},
};

/// What the supervisor works with.
pub struct Setup {
    /// The config at start.
    pub config: Config,
    /// What sessions are built with, limits apart.
    pub environment: Environment,
    /// What the config sets for running sessions, theirs to read in `environment`.
    pub live: LiveSettings,
    /// What was saved.
    pub saved: Vec<SavedSession>,
    /// Where changes are saved.
    pub store: SessionStore,
    /// The sessions' passwords.
    pub passwords: Passwords,
    /// The files for libpq.
    pub client_files: ClientFiles,
    /// Where sockets go.
    pub runtime_dir: PathBuf,
    /// Listeners that sessions had under the daemon before.
    pub inherited: Inherited,
}

/// Opens what is remembered and declared, and starts the loop. Answers once the listeners
/// are bound.
pub async fn spawn(setup: Setup) -> Handle {
    let (commands, inbox) = mpsc::channel(64);
    let (snapshot, watching) = watch::channel(Snapshot::default());
    let (events, happened) = mpsc::channel(256);
    let mut actor = Actor {
        config: setup.config,
        environment: setup.environment,
        live: setup.live,
        store: setup.store,
        passwords: Arc::new(setup.passwords),
        client_files: setup.client_files,
        runtime_dir: setup.runtime_dir,
        inherited: setup.inherited,
        entries: BTreeMap::new(),
        remembered: BTreeMap::new(),
        snapshot,
        events,
        tasks: TaskTracker::new(),
        last_saved: Vec::new(),
    };
    actor.restore(setup.saved).await;
    let sessions = proxy::sockets(&actor.runtime_dir);
    actor.inherited.give_back_rest(&sessions);
    actor.publish();
    tokio::spawn(actor.run(inbox, happened));
    Handle {
        commands,
        snapshot: watching,
    }
}

/// What comes back from work that the loop started.
pub(super) enum Event {
    /// An `open` knows what its target is.
    LookedUp(Box<LookedUp>),
    /// A session has something new to show.
    Changed,
    /// A session's driver has ended.
    Ended(SessionName),
    /// A user of a transient session has gone.
    Released(SessionName),
}

/// An `open` whose look-up has ended.
pub(super) struct LookedUp {
    pub(super) request: OpenRequest,
    pub(super) reply: Reply<Opened>,
    pub(super) outcome: Result<OpenPlan, Cause>,
}

/// What an `open` needs before the session can be made.
pub(super) struct OpenPlan {
    pub(super) name: SessionName,
    pub(super) resolved: Resolved,
    pub(super) login: LocalLogin,
    /// For the session's first calls, if there is one.
    pub(super) grant: Option<Grant>,
    /// For its first attempt.
    pub(super) early_dial: Option<EarlyDial>,
}

pub(super) struct Actor {
    pub(super) config: Config,
    pub(super) environment: Environment,
    pub(super) live: LiveSettings,
    pub(super) store: SessionStore,
    pub(super) passwords: Arc<Passwords>,
    pub(super) client_files: ClientFiles,
    pub(super) runtime_dir: PathBuf,
    pub(super) inherited: Inherited,
    pub(super) entries: BTreeMap<SessionName, Entry>,
    /// Closed sessions, whose port and password are kept for their next opening.
    pub(super) remembered: BTreeMap<SessionName, SavedSession>,
    pub(super) snapshot: watch::Sender<Snapshot>,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) tasks: TaskTracker,
    pub(super) last_saved: Vec<SavedSession>,
}

// === impl Actor ===

impl Actor {
    async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut happened: mpsc::Receiver<Event>,
    ) {
        loop {
            let pause = self.pause();
            tokio::select! {
                command = commands.recv() => match command {
                    Some(Command::Stop { deadline, reply }) => {
                        self.stop(deadline, &mut happened).await;
                        // Who asked waits for it, or has gone.
                        let _ = reply.send(());
                        return;
                    }
                    Some(command) => self.take(command).await,
                    None => return,
                },
                Some(event) = happened.recv() => self.learn(event).await,
                () = sleep(pause) => self.look_at_the_clock(),
            }
            self.publish();
        }
    }

    async fn take(&mut self, command: Command) {
        match command {
            Command::Open { request, reply } => self.open(request, reply),
            Command::Close {
                selection,
                grace,
                reply,
            } => self.close(&selection, grace, reply),
            Command::Rotate { selection, reply } => self.rotate(&selection, reply),
            Command::Find { target, reply } => {
                let found = find::find(&self.views(), &target).cloned();
                let _ = reply.send(found);
            }
            Command::Refresh { name, reply } => {
                if let Some(entry) = self.entries.get(&name) {
                    entry.tell(session::Command::Refresh(reply));
                }
            }
            Command::Reload { config, reply } => {
                let reloaded = self.reload(*config).await;
                let _ = reply.send(Ok(reloaded));
            }
            Command::Ping { reply } => {
                let _ = reply.send(Ok(()));
            }
            Command::Stop { .. } => {}
        }
    }

    async fn learn(&mut self, event: Event) {
        match event {
            Event::LookedUp(looked_up) => self.go_on_opening(*looked_up),
            Event::Changed => {}
            Event::Ended(name) => {
                let on_closed = self.forget(&name);
                if let Some(declared) = on_closed.declared {
                    self.declare(name, &declared).await;
                }
                for (request, reply) in on_closed.opens {
                    self.open(request, reply);
                }
            }
            Event::Released(name) => self.release(&name),
        }
    }

    pub(super) fn select(&self, selection: &Selection) -> Result<Vec<SessionName>, Cause> {
        match selection {
            Selection::All => Ok(self.entries.keys().cloned().collect()),
            Selection::Targets(targets) => {
                let views = self.views();
                let mut names = BTreeSet::new();
                for target in targets {
                    names.insert(find::find(&views, target)?.name.clone());
                }
                Ok(names.into_iter().collect())
            }
        }
    }

    pub(super) fn journal(&self) -> &Journal {
        &self.environment.journal
    }

    pub(super) fn views(&self) -> Vec<SessionSnapshot> {
        self.entries
            .values()
            .map(|entry| entry.view(&self.runtime_dir, &self.environment.broker))
            .collect()
    }

    pub(super) fn publish(&mut self) {
        self.save();
        let sessions = self.views();
        let mut problems: Vec<_> = self.store.problem().into_iter().collect();
        problems.extend(self.environment.broker.contested());
        self.snapshot.send_modify(|snapshot| {
            snapshot.revision += 1;
            snapshot.sessions = sessions;
            snapshot.problems = problems;
        });
    }

    /// Saves the set, and writes it for libpq, where it differs from what was saved last.
    pub(super) fn save(&mut self) {
        self.save_then(Vec::new());
    }

    /// The same, and tells who waits for it to be on disk, or for the disk to refuse it.
    pub(super) fn save_then(&mut self, waiting: Vec<CancellationToken>) {
        let tell = |waiting: Vec<CancellationToken>| {
            for token in waiting {
                token.cancel();
            }
        };
        let open = self.entries.values().filter_map(Entry::saved);
        let set: Vec<_> = open.chain(self.remembered.values().cloned()).collect();
        if set == self.last_saved {
            return tell(waiting);
        }
        self.last_saved.clone_from(&set);
        // Both writers go on by themselves and keep their last problem.
        let (saved, events) = (self.store.save(set), self.events.clone());
        self.tasks.spawn(async move {
            let saved = saved.await;
            tell(waiting);
            if saved.is_err() {
                // At the end nobody listens any more.
                let _ = events.send(Event::Changed).await;
            }
        });
        drop(
            self.client_files
                .write(self.views().iter().map(client_entry).collect()),
        );
    }
}

fn client_entry(view: &SessionSnapshot) -> ClientEntry {
    ClientEntry {
        name: view.name.clone(),
        host: "127.0.0.1".into(),
        port: view.port,
        database: view.status.database.clone(),
        user: view.user().map(str::to_owned),
        password: view.password.clone(),
    }
}
