//! The supervisor's loop.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::Timestamp;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Command, Handle, LiveSettings, Reloaded, Reply, Selection, SessionId, SessionSnapshot,
    Snapshot,
    event::Event,
    find,
    parts::Parts,
    pending::{PendingClose, PendingOpen},
    set::{RETRY_PAUSE, Set, Ticket, closing, order},
};
use crate::{
    config::Config,
    journal::Journal,
    model::Cause,
    platform::clock,
    proxy,
    service_manager::activation::Inherited,
    session::{self, Environment, Session},
    state::{ClientEntry, ClientFiles, Passwords, SavedSession, SessionStore},
};

/// What the supervisor works with.
pub struct Setup {
    /// The config at start.
    pub config: Config,
    /// What sessions are built with.
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

/// The longest sleep between looks at the clock: the runtime's timers don't count suspend.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

/// Events that are taken in before the outcome is shown.
const MOST_AT_ONCE: usize = 64;

/// Opens what is remembered and declared, and starts the loop. Answers once each session has
/// its listeners, or can't have them now.
pub async fn spawn(setup: Setup) -> Handle {
    let (commands, inbox) = mpsc::channel(64);
    let (snapshot, watching) = watch::channel(Snapshot::default());
    let (events, mut happened) = mpsc::channel(256);
    let uid = rustix::process::geteuid().as_raw();
    let range = setup.config.port_range;
    let mut actor = Actor {
        uid,
        set: Set::new(range, order(range, uid)),
        environment: setup.environment,
        live: setup.live,
        store: setup.store,
        passwords: setup.passwords,
        client_files: setup.client_files,
        runtime_dir: setup.runtime_dir,
        inherited: Arc::new(Mutex::new(setup.inherited)),
        parts: BTreeMap::new(),
        next_ticket: 0,
        opens: BTreeMap::new(),
        closes: BTreeMap::new(),
        snapshot,
        events,
        tasks: TaskTracker::new(),
        last_saved: Vec::new(),
        last_client_entries: Vec::new(),
        client_files_written: already(),
    };
    let declared = setup.config.declared();
    let actions = actor.set.restore(setup.saved, declared, clock::timestamp());
    actor.perform(actions);
    while actor.set.is_binding()
        && let Some(event) = happened.recv().await
    {
        actor.learn(event);
        actor.settle();
    }
    actor.give_back_inherited();
    actor.settle();
    tokio::spawn(actor.run(inbox, happened));
    Handle {
        commands,
        snapshot: watching,
    }
}

pub(super) struct Actor {
    pub(super) uid: u32,
    pub(super) set: Set,
    pub(super) environment: Environment,
    pub(super) live: LiveSettings,
    pub(super) store: SessionStore,
    pub(super) passwords: Passwords,
    pub(super) client_files: ClientFiles,
    pub(super) runtime_dir: PathBuf,
    pub(super) inherited: Arc<Mutex<Inherited>>,
    pub(super) parts: BTreeMap<SessionId, Parts>,
    pub(super) next_ticket: u64,
    pub(super) opens: BTreeMap<Ticket, PendingOpen>,
    pub(super) closes: BTreeMap<Ticket, PendingClose>,
    pub(super) snapshot: watch::Sender<Snapshot>,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) tasks: TaskTracker,
    pub(super) last_saved: Vec<SavedSession>,
    pub(super) last_client_entries: Vec<ClientEntry>,
    /// Cancelled once libpq's files have those, or the disk has refused them.
    pub(super) client_files_written: CancellationToken,
}

fn already() -> CancellationToken {
    let token = CancellationToken::new();
    token.cancel();
    token
}

// === impl Actor ===

impl Actor {
    async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut happened: mpsc::Receiver<Event>,
    ) {
        let mut due = Instant::now() + LONGEST_SLEEP;
        loop {
            // What happens meanwhile brings the next look at the clock forward, never back.
            due = due.min(Instant::now() + self.pause());
            tokio::select! {
                command = commands.recv() => match command {
                    Some(Command::Stop { deadline, reply }) => {
                        // Who still asks is told at once.
                        commands.close();
                        while commands.try_recv().is_ok() {}
                        self.stop(deadline, &mut happened).await;
                        // Who asked waits for it, or has gone.
                        let _ = reply.send(());
                        return;
                    }
                    Some(command) => self.take(command),
                    None => return,
                },
                Some(event) = happened.recv() => {
                    self.learn(event);
                    // What has happened at once is shown at once.
                    for _ in 0..MOST_AT_ONCE {
                        let Ok(event) = happened.try_recv() else { break };
                        self.learn(event);
                    }
                }
                () = sleep_until(due) => {
                    self.look_at_the_clock();
                    due = Instant::now() + LONGEST_SLEEP;
                }
            }
            self.settle();
        }
    }

    fn take(&mut self, command: Command) {
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
            Command::Refresh { id, reply } => {
                self.tell(id, session::Command::Refresh(reply));
            }
            Command::Reload { config, reply } => {
                let reloaded = self.reload(&config);
                let _ = reply.send(Ok(reloaded));
            }
            Command::Ping { reply } => {
                let _ = reply.send(Ok(()));
            }
            Command::Flush { reply } => self.answer_later(reply, ()),
            Command::Stop { .. } => {}
        }
    }

    fn learn(&mut self, event: Event) {
        let now = clock::timestamp();
        let actions = match event {
            Event::LookedUp(looked_up) => self.go_on_opening(*looked_up),
            Event::Bound(id, bound) => self.bound(id, *bound),
            Event::Changed(id) => {
                self.learn_status(id);
                Vec::new()
            }
            Event::Ended(id) => self.set.ended(id, now),
            Event::Left(id, user) => self.set.left(id, user, now),
            Event::Rotated(outcomes, reply) => {
                let rotated = self.rotated(outcomes);
                self.publish();
                self.answer_later(reply, rotated);
                Vec::new()
            }
            Event::NotSaved => Vec::new(),
        };
        self.perform(actions);
    }

    /// Keeps what a session found out about its target, to be saved.
    fn learn_status(&mut self, id: SessionId) {
        let Some(session) = self.session(id) else {
            return;
        };
        let status = session.status.borrow().clone();
        self.set
            .learn(id, status.resolved.as_ref(), status.database.as_deref());
    }

    fn close(
        &mut self,
        selection: &Selection,
        grace: Duration,
        reply: Reply<Vec<SessionSnapshot>>,
    ) {
        let views = match self.select(selection) {
            Ok(views) => views,
            Err(cause) => {
                let _ = reply.send(Err(cause));
                return;
            }
        };
        let ids: Vec<_> = views.iter().map(|view| view.id).collect();
        if ids.is_empty() {
            let _ = reply.send(Ok(views));
            return;
        }
        let ticket = self.ticket();
        let left = ids.len();
        self.closes
            .insert(ticket, PendingClose { left, views, reply });
        let now = clock::timestamp();
        for id in ids {
            let actions = self.set.close(id, closing(grace), Some(ticket), now);
            self.perform(actions);
        }
    }

    fn reload(&mut self, config: &Config) -> Reloaded {
        self.live.set(config);
        let range = config.port_range;
        self.set.set_ports(range, order(range, self.uid));
        let (difference, actions) = self.set.redeclare(config.declared(), clock::timestamp());
        self.perform(actions);
        let names = |names: Vec<_>| names.iter().map(ToString::to_string).collect();
        Reloaded {
            opened: names(difference.opened),
            closed: names(difference.closed),
            changed: names(difference.changed),
            later: Vec::new(),
        }
    }

    fn look_at_the_clock(&mut self) {
        let now = clock::timestamp();
        let mut actions = self.set.expire(now);
        actions.extend(self.set.retry(now));
        self.perform(actions);
    }

    /// The longest that the clock need not be looked at.
    fn pause(&self) -> Duration {
        let until = |at: Timestamp| {
            Duration::try_from(at.duration_since(clock::timestamp())).unwrap_or_default()
        };
        let next_end = self.set.next_expiry().map(until);
        let retry = self.set.has_unbound() || self.store.problem().is_some();
        let retry = retry.then_some(RETRY_PAUSE);
        [next_end, retry]
            .into_iter()
            .flatten()
            .fold(LONGEST_SLEEP, Duration::min)
    }

    pub(super) fn ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        Ticket(self.next_ticket)
    }

    pub(super) fn select(&self, selection: &Selection) -> Result<Vec<SessionSnapshot>, Cause> {
        let views = self.views();
        match selection {
            Selection::All => Ok(views),
            Selection::Session(id) => Ok(views.into_iter().filter(|view| view.id == *id).collect()),
            Selection::Targets(targets) => {
                let mut ids = BTreeSet::new();
                for target in targets {
                    ids.insert(find::find(&views, target)?.id);
                }
                let chosen = views.into_iter().filter(|view| ids.contains(&view.id));
                Ok(chosen.collect())
            }
        }
    }

    pub(super) fn journal(&self) -> &Journal {
        &self.environment.journal
    }

    pub(super) fn session(&self, id: SessionId) -> Option<&Session> {
        self.parts.get(&id)?.session.as_ref()
    }

    /// Tells a session's driver something, where it has one. A full queue means that it has
    /// plenty to do already.
    pub(super) fn tell(&self, id: SessionId, command: session::Command) {
        if let Some(session) = self.session(id) {
            let _ = session.commands.try_send(command);
        }
    }

    fn give_back_inherited(&self) {
        let sessions = proxy::sockets(&self.runtime_dir);
        let mut inherited = proxy::locked(&self.inherited);
        inherited.give_back_rest(&sessions);
    }

    /// Ends every driver; what is saved says what was wanted. Who waits for an answer is told
    /// that the daemon stops.
    async fn stop(&mut self, deadline: Instant, happened: &mut mpsc::Receiver<Event>) {
        self.save();
        self.snapshot.send_modify(|snapshot| {
            snapshot.revision += 1;
            snapshot.is_stopping = true;
        });
        self.opens.clear();
        self.closes.clear();
        let ending = TaskTracker::new();
        for parts in std::mem::take(&mut self.parts).into_values() {
            let Some(session) = parts.session else {
                continue;
            };
            let request = session::CloseRequest {
                cause: Cause::DaemonStopping,
                deadline,
            };
            ending.spawn(async move {
                let close = session::Command::Close(request);
                let _ = session.commands.send(close).await;
                session.ended().await;
            });
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
