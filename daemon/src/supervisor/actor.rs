//! The supervisor's loop.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Command, Handle, Lifetime, OpenRequest, Opened, Picture, Reloaded, Reply, Selection, View,
    entry::{Entry, Keeping, Running},
    find,
};
use crate::{
    config::{Config, DeclaredSession},
    machine::Nudge,
    model::{Cause, Resolved, SessionName},
    session::{self, Environment, Limits, LocalLogin, PortWish, Spec},
    ssh::Keepalive,
    state::{ClientEntry, ClientFiles, Openness, Passwords, SavedSession, SessionStore},
};

/// What the supervisor works with.
pub struct Setup {
    /// The config at start.
    pub config: Config,
    /// What sessions are built with, limits apart.
    pub environment: Environment,
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
}

/// How often a port that is somebody else's is tried again.
const REBIND_PAUSE: Duration = Duration::from_secs(2);
/// The longest sleep between looks at the clock.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

/// Opens what is remembered and declared, and starts the loop. Answers once the listeners
/// are bound.
pub async fn spawn(setup: Setup) -> Handle {
    let (commands, inbox) = mpsc::channel(64);
    let (picture, watching) = watch::channel(Picture::default());
    let (events, happened) = mpsc::channel(256);
    let mut actor = Actor {
        config: setup.config,
        environment: setup.environment,
        store: setup.store,
        passwords: Arc::new(setup.passwords),
        client_files: setup.client_files,
        runtime_dir: setup.runtime_dir,
        entries: BTreeMap::new(),
        remembered: BTreeMap::new(),
        picture,
        events,
        tasks: TaskTracker::new(),
        last_saved: Vec::new(),
    };
    actor.restore(setup.saved).await;
    actor.publish();
    tokio::spawn(actor.run(inbox, happened));
    Handle {
        commands,
        picture: watching,
    }
}

/// What comes back from work that the loop started.
enum Happened {
    /// An `open` knows what its target is.
    LookedUp {
        request: OpenRequest,
        reply: Reply<Opened>,
        outcome: Result<Known, Cause>,
    },
    /// A session has something new to show.
    Changed,
    /// A session's driver has ended.
    Ended(SessionName),
    /// A user of a transient session has gone.
    Released(SessionName),
}

/// What an `open` needs before the session can be made.
struct Known {
    name: SessionName,
    resolved: Resolved,
    login: LocalLogin,
}

struct Actor {
    config: Config,
    environment: Environment,
    store: SessionStore,
    passwords: Arc<Passwords>,
    client_files: ClientFiles,
    runtime_dir: PathBuf,
    entries: BTreeMap<SessionName, Entry>,
    /// Closed sessions, whose port and password are kept for their next opening.
    remembered: BTreeMap<SessionName, SavedSession>,
    picture: watch::Sender<Picture>,
    events: mpsc::Sender<Happened>,
    tasks: TaskTracker,
    last_saved: Vec<SavedSession>,
}

// === impl Actor ===

impl Actor {
    async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut happened: mpsc::Receiver<Happened>,
    ) {
        loop {
            let pause = self.pause();
            tokio::select! {
                command = commands.recv() => match command {
                    Some(Command::Stop { grace, reply }) => {
                        self.stop(grace, &mut happened).await;
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
            Command::Nudge { name } => {
                if let Some(entry) = self.entries.get(&name) {
                    entry.tell(session::Command::Nudge(Nudge::User));
                }
            }
            Command::Reload { config, reply } => {
                let reloaded = self.reload(*config).await;
                let _ = reply.send(Ok(reloaded));
            }
            Command::Stop { .. } => {}
        }
    }

    async fn learn(&mut self, event: Happened) {
        match event {
            Happened::LookedUp {
                request,
                reply,
                outcome,
            } => {
                let answer = outcome.and_then(|known| self.create_or_join(&request, known));
                if let (Ok(opened), Lifetime::Transient(token)) = (&answer, &request.lifetime) {
                    self.hold(&opened.view.name, token.clone());
                }
                // Who asked may have gone; the session stays, as `open` says.
                let _ = reply.send(answer);
            }
            Happened::Changed => {}
            Happened::Ended(name) => self.forget(&name),
            Happened::Released(name) => self.release(&name),
        }
    }

    // --- opening ---

    fn open(&mut self, request: OpenRequest, reply: Reply<Opened>) {
        let views = self.views();
        if request.name.is_none()
            && let Some(view) = find::joinable(
                &views,
                &request.target,
                request.role,
                request.access,
                request.mode,
            )
        {
            let answer = self.join(&view.name.clone(), &request);
            if let (Ok(opened), Lifetime::Transient(token)) = (&answer, &request.lifetime) {
                self.hold(&opened.view.name, token.clone());
            }
            let _ = reply.send(answer);
            return;
        }
        let broker = Arc::clone(&self.environment.broker);
        let passwords = Arc::clone(&self.passwords);
        let events = self.events.clone();
        self.tasks.spawn(async move {
            let look_up = async {
                let resolved = broker.resolve(&request.target).await?;
                let name = name_for(&request, &resolved)?;
                let login = login_of(&passwords, &name).await?;
                Ok(Known {
                    name,
                    resolved,
                    login,
                })
            };
            let outcome = look_up.await;
            let _ = events
                .send(Happened::LookedUp {
                    request,
                    reply,
                    outcome,
                })
                .await;
        });
    }

    fn create_or_join(&mut self, request: &OpenRequest, known: Known) -> Result<Opened, Cause> {
        if let Some(entry) = self.entries.get(&known.name) {
            let same_addon = entry
                .view(&self.runtime_dir, &self.environment.broker)
                .status
                .resolved
                .is_none_or(|resolved| {
                    (&resolved.addon, &resolved.app) == (&known.resolved.addon, &known.resolved.app)
                });
            let spec = &entry.spec;
            let same_choices =
                (spec.role, spec.access, spec.mode) == (request.role, request.access, request.mode);
            if !same_addon || !same_choices {
                let by = find::taken_by(&entry.view(&self.runtime_dir, &self.environment.broker));
                return Err(Cause::NameTaken {
                    name: known.name,
                    by,
                });
            }
            return self.join(&known.name, request);
        }
        let wish = self.port_wish(&known.name, request.port);
        let spec = Spec {
            name: known.name.clone(),
            target: request.target.clone(),
            resolved: Some(known.resolved),
            role: request.role,
            access: request.access,
            mode: request.mode,
            expires_at: request.expires_at,
            database: self
                .remembered
                .get(&known.name)
                .and_then(|saved| saved.database.clone()),
        };
        let endpoint = session::bind(&self.runtime_dir, &known.name, &wish)?;
        let keeping = match request.lifetime {
            Lifetime::Kept => Keeping::Kept,
            Lifetime::Transient(_) => Keeping::Transient(0),
        };
        let view = self.insert(spec, endpoint, known.login, keeping, false);
        Ok(Opened {
            view,
            created: true,
        })
    }

    /// Answers with the session that is open; makes a transient one stay where that is asked.
    fn join(&mut self, name: &SessionName, request: &OpenRequest) -> Result<Opened, Cause> {
        let Some(entry) = self.entries.get_mut(name) else {
            return Err(Cause::SessionClosing);
        };
        if !entry.closing.is_empty() {
            return Err(Cause::SessionClosing);
        }
        if request.port.is_some_and(|port| port != entry.port) {
            let by = format!("{} on port {}", entry.spec.target, entry.port);
            return Err(Cause::NameTaken {
                name: name.clone(),
                by,
            });
        }
        if matches!(request.lifetime, Lifetime::Kept) {
            entry.keeping = Keeping::Kept;
            if request.expires_at.is_some() {
                entry.spec.expires_at = request.expires_at;
            }
        }
        Ok(Opened {
            view: entry.view(&self.runtime_dir, &self.environment.broker),
            created: false,
        })
    }

    fn insert(
        &mut self,
        spec: Spec,
        endpoint: session::Endpoint,
        login: LocalLogin,
        keeping: Keeping,
        declared: bool,
    ) -> View {
        let name = spec.name.clone();
        let port = endpoint.address().port;
        let running = Running::Bound(self.start(&spec, endpoint, &login));
        let entry = Entry {
            spec,
            port,
            declared,
            keeping,
            login,
            running,
            closing: Vec::new(),
        };
        let view = entry.view(&self.runtime_dir, &self.environment.broker);
        self.remembered.remove(&name);
        self.entries.insert(name, entry);
        view
    }

    fn start(
        &self,
        spec: &Spec,
        endpoint: session::Endpoint,
        login: &LocalLogin,
    ) -> session::Session {
        let session = session::spawn(spec.clone(), endpoint, login, self.environment.clone());
        let mut status = session.status.clone();
        let (events, name) = (self.events.clone(), spec.name.clone());
        self.tasks.spawn(async move {
            while status.changed().await.is_ok() {
                if events.send(Happened::Changed).await.is_err() {
                    return;
                }
            }
            let _ = events.send(Happened::Ended(name)).await;
        });
        session
    }

    fn port_wish(&self, name: &SessionName, port: Option<u16>) -> PortWish {
        match port {
            Some(port) => PortWish::Exactly(port),
            None => PortWish::Pick {
                preferred: self.remembered.get(name).map(|saved| saved.port),
                range: self.config.port_range.ports(),
                reserved: self.reserved_ports(name),
            },
        }
    }

    fn reserved_ports(&self, but: &SessionName) -> BTreeSet<u16> {
        let open = self.entries.iter().map(|(name, entry)| (name, entry.port));
        let closed = self
            .remembered
            .iter()
            .map(|(name, saved)| (name, saved.port));
        let declared = self
            .config
            .sessions
            .iter()
            .filter_map(|declared| declared.port);
        open.chain(closed)
            .filter(|(name, _)| *name != but)
            .map(|(_, port)| port)
            .chain(declared)
            .collect()
    }

    // --- transient sessions ---

    /// Counts a user until its token is cancelled.
    fn hold(&mut self, name: &SessionName, token: CancellationToken) {
        let Some(entry) = self.entries.get_mut(name) else {
            return;
        };
        // A kept session needs no holding, also if it is closed meanwhile.
        let Keeping::Transient(users) = &mut entry.keeping else {
            return;
        };
        *users += 1;
        let (events, name) = (self.events.clone(), name.clone());
        self.tasks.spawn(async move {
            token.cancelled().await;
            let _ = events.send(Happened::Released(name)).await;
        });
    }

    fn release(&mut self, name: &SessionName) {
        let Some(entry) = self.entries.get_mut(name) else {
            return;
        };
        let Keeping::Transient(users) = &mut entry.keeping else {
            return;
        };
        *users = users.saturating_sub(1);
        if *users == 0 {
            self.begin_close(&name.clone(), Duration::ZERO, None);
        }
    }

    // --- closing ---

    fn close(&mut self, selection: &Selection, grace: Duration, reply: Reply<Vec<View>>) {
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
                self.begin_close(name, grace, Some(token.clone()));
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
    fn begin_close(
        &mut self,
        name: &SessionName,
        grace: Duration,
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
                    let _ = commands.send(session::Command::Close(grace)).await;
                });
            }
            Running::Unbound { .. } => self.forget(&name.clone()),
        }
    }

    /// Takes a session that has ended out of the set; its port and password stay remembered.
    fn forget(&mut self, name: &SessionName) {
        let Some(entry) = self.entries.remove(name) else {
            return;
        };
        if let Some(saved) = entry.remembered(Timestamp::now()) {
            self.remembered.insert(name.clone(), saved);
        }
        for waiting in entry.closing {
            waiting.cancel();
        }
    }

    // --- rotation ---

    fn rotate(&mut self, selection: &Selection, reply: Reply<Vec<SessionName>>) {
        let names = match self.select(selection) {
            Ok(names) => names,
            Err(cause) => {
                let _ = reply.send(Err(cause));
                return;
            }
        };
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
                let _ = commands.send(session::Command::Rotate(done)).await;
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

    // --- config, start and stop ---

    /// Opens what was open, and what is declared.
    async fn restore(&mut self, saved: Vec<SavedSession>) {
        let now = Timestamp::now();
        let mut declared: BTreeMap<_, _> = self.declared_by_name();
        for saved in saved {
            let expired = saved.expires_at.is_some_and(|at| at <= now);
            let still_declared = declared.get(&saved.name).is_some_and(|d| same(d, &saved));
            let wanted = match saved.openness {
                Openness::Open => saved.origin == crate::state::Origin::User || still_declared,
                Openness::Closed { .. } => still_declared,
            };
            if wanted && !expired {
                let declaration = still_declared
                    .then(|| declared.remove(&saved.name))
                    .flatten();
                self.reopen(saved, declaration.as_ref()).await;
            } else {
                self.remembered.insert(saved.name.clone(), saved);
            }
        }
        for (name, declaration) in declared {
            self.declare(name, &declaration).await;
        }
    }

    async fn reopen(&mut self, saved: SavedSession, declaration: Option<&DeclaredSession>) {
        let port = declaration
            .and_then(|declared| declared.port)
            .unwrap_or(saved.port);
        let spec = Spec {
            name: saved.name,
            target: saved.target,
            resolved: saved.resolved,
            role: saved.role,
            access: saved.access,
            mode: saved.mode,
            expires_at: saved.expires_at,
            database: saved.database,
        };
        self.bring_back(spec, PortWish::Exactly(port), declaration.is_some())
            .await;
    }

    async fn declare(&mut self, name: SessionName, declared: &DeclaredSession) {
        if let Some(entry) = self.entries.get_mut(&name) {
            entry.declared = true;
            entry.keeping = Keeping::Kept;
            return;
        }
        let remembered = self
            .remembered
            .get(&name)
            .filter(|saved| same(declared, saved));
        let spec = Spec {
            name: name.clone(),
            target: declared.target.clone(),
            resolved: remembered.and_then(|saved| saved.resolved.clone()),
            role: declared.role,
            access: declared.access,
            mode: declared.mode,
            expires_at: None,
            database: remembered.and_then(|saved| saved.database.clone()),
        };
        let wish = self.port_wish(&name, declared.port);
        self.bring_back(spec, wish, true).await;
    }

    /// Opens a session that must exist, whether or not its port is free.
    async fn bring_back(&mut self, spec: Spec, wish: PortWish, declared: bool) {
        let login = match login_of(&self.passwords, &spec.name).await {
            Ok(login) => login,
            Err(cause) => {
                tracing::error!(session = %spec.name, %cause, "session can't be opened");
                return;
            }
        };
        match session::bind(&self.runtime_dir, &spec.name, &wish) {
            Ok(endpoint) => {
                self.insert(spec, endpoint, login, Keeping::Kept, declared);
            }
            Err(cause) => {
                tracing::warn!(session = %spec.name, %cause, "session has no listener yet");
                let port = match &wish {
                    PortWish::Exactly(port) => *port,
                    PortWish::Pick {
                        preferred, range, ..
                    } => preferred.unwrap_or(*range.start()),
                };
                let running = Running::Unbound {
                    cause,
                    since: Timestamp::now(),
                    counters: Arc::default(),
                };
                let entry = Entry {
                    spec,
                    port,
                    declared,
                    keeping: Keeping::Kept,
                    login,
                    running,
                    closing: Vec::new(),
                };
                self.remembered.remove(&entry.spec.name);
                self.entries.insert(entry.spec.name.clone(), entry);
            }
        }
    }

    async fn reload(&mut self, config: Config) -> Reloaded {
        let before = self.declared_by_name();
        self.config = config;
        self.environment.limits = limits(&self.config);
        let after = self.declared_by_name();
        let mut reloaded = Reloaded::default();
        for (name, declared) in &before {
            match after.get(name) {
                Some(now) if now == declared => continue,
                Some(_) => reloaded.changed.push(name.to_string()),
                None => reloaded.closed.push(name.to_string()),
            }
            self.begin_close(name, Duration::ZERO, None);
        }
        for (name, declared) in after {
            if before.get(&name) == Some(&declared) {
                continue;
            }
            if !before.contains_key(&name) {
                reloaded.opened.push(name.to_string());
            }
            if self
                .entries
                .get(&name)
                .is_none_or(|entry| entry.closing.is_empty())
            {
                self.declare(name, &declared).await;
            }
        }
        reloaded
    }

    fn declared_by_name(&self) -> BTreeMap<SessionName, DeclaredSession> {
        self.config
            .sessions
            .iter()
            .filter_map(|declared| {
                let name = match &declared.name {
                    Some(name) => name.clone(),
                    None => find::provisional_name(
                        &declared.target,
                        declared.role,
                        declared.access,
                    )
                    .inspect_err(
                        |cause| tracing::error!(%cause, "a declared session has no valid name"),
                    )
                    .ok()?,
                };
                Some((name, declared.clone()))
            })
            .collect()
    }

    /// Ends every driver; what is saved says that they are open.
    async fn stop(&mut self, grace: Duration, happened: &mut mpsc::Receiver<Happened>) {
        self.save();
        let entries = std::mem::take(&mut self.entries);
        let ending = TaskTracker::new();
        for entry in entries.into_values() {
            if let Running::Bound(session) = entry.running {
                ending.spawn(async move {
                    let _ = session.commands.send(session::Command::Close(grace)).await;
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

    // --- time ---

    fn pause(&self) -> Duration {
        let unbound = self
            .entries
            .values()
            .any(|entry| matches!(entry.running, Running::Unbound { .. }));
        let next_end = self
            .entries
            .values()
            .filter_map(|entry| entry.spec.expires_at)
            .map(|at| Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or_default())
            .min();
        let longest = if unbound { REBIND_PAUSE } else { LONGEST_SLEEP };
        next_end.map_or(longest, |left| left.min(longest))
    }

    fn look_at_the_clock(&mut self) {
        let now = Timestamp::now();
        let expired: Vec<_> = self
            .entries
            .values()
            .filter(|entry| entry.closing.is_empty())
            .filter(|entry| entry.spec.expires_at.is_some_and(|at| at <= now))
            .map(|entry| entry.spec.name.clone())
            .collect();
        for name in expired {
            tracing::info!(session = %name, "the time that the session was opened for is over");
            self.begin_close(&name, Duration::ZERO, None);
        }
        self.rebind();
    }

    /// Tries again for the ports of sessions that have none.
    fn rebind(&mut self) {
        let unbound: Vec<_> = self
            .entries
            .values()
            .filter(|entry| matches!(entry.running, Running::Unbound { .. }))
            .map(|entry| (entry.spec.name.clone(), entry.port))
            .collect();
        for (name, port) in unbound {
            let bound = session::bind(&self.runtime_dir, &name, &PortWish::Exactly(port));
            let Some(entry) = self.entries.get(&name) else {
                continue;
            };
            let (spec, login) = (entry.spec.clone(), entry.login.clone());
            let next = bound.map(|endpoint| self.start(&spec, endpoint, &login));
            let Some(entry) = self.entries.get_mut(&name) else {
                continue;
            };
            match (next, &mut entry.running) {
                (Ok(session), running) => {
                    tracing::info!(session = %name, port, "session has its port again");
                    *running = Running::Bound(session);
                }
                (Err(now), Running::Unbound { cause, .. }) => *cause = now,
                (Err(_), Running::Bound(_)) => {}
            }
        }
    }

    // --- showing and saving ---

    fn select(&self, selection: &Selection) -> Result<Vec<SessionName>, Cause> {
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

    fn views(&self) -> Vec<View> {
        self.entries
            .values()
            .map(|entry| entry.view(&self.runtime_dir, &self.environment.broker))
            .collect()
    }

    fn publish(&mut self) {
        self.save();
        let sessions = self.views();
        let problem = self.store.problem();
        self.picture.send_modify(|picture| {
            picture.revision += 1;
            picture.sessions = sessions;
            picture.problems = problem.into_iter().collect();
        });
    }

    /// Saves the set, and writes it for libpq, where it differs from what was saved last.
    fn save(&mut self) {
        let open = self.entries.values().filter_map(Entry::saved);
        let set: Vec<_> = open.chain(self.remembered.values().cloned()).collect();
        if set == self.last_saved {
            return;
        }
        self.last_saved.clone_from(&set);
        // Both writers go on by themselves and keep their last problem.
        drop(self.store.save(set));
        drop(
            self.client_files
                .write(self.views().iter().map(client_entry).collect()),
        );
    }
}

/// The limits of every session, from the config.
pub(crate) fn limits(config: &Config) -> Limits {
    Limits {
        connect_timeout: config.connect_timeout,
        max_connections: config.max_connections,
        keepalive: Keepalive {
            interval: config.keepalive.interval,
            timeout: config.keepalive.timeout,
        },
    }
}

async fn login_of(passwords: &Passwords, name: &SessionName) -> Result<LocalLogin, Cause> {
    LocalLogin::new(passwords.of(name).await?)
}

fn name_for(request: &OpenRequest, resolved: &Resolved) -> Result<SessionName, Cause> {
    match &request.name {
        Some(name) => Ok(name.clone()),
        None => {
            let attachment = resolved
                .ambiguous_in_app
                .then_some(resolved.attachment.as_str());
            SessionName::derive(&resolved.app, attachment, request.role, request.access).map_err(
                |error| Cause::InvalidRequest {
                    problem: error.to_string(),
                },
            )
        }
    }
}

/// Whether a saved session is what the config declares.
fn same(declared: &DeclaredSession, saved: &SavedSession) -> bool {
    (
        &declared.target,
        declared.role,
        declared.access,
        declared.mode,
    ) == (&saved.target, saved.role, saved.access, saved.mode)
}

fn client_entry(view: &View) -> ClientEntry {
    ClientEntry {
        name: view.name.clone(),
        host: "127.0.0.1".into(),
        port: view.port,
        database: view.status.database.clone(),
        user: view.user().map(str::to_owned),
        password: view.password.clone(),
    }
}
