//! Does what the set says; and after each turn, saves and shows what became of it.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{
    SessionId, SessionSnapshot,
    actor::Actor,
    binding::{self, Bound},
    client_entries::client_entries,
    event::Event,
    pending::{PendingClose, PendingOpen},
    set::{Action, CloseTerms, Ticket},
    snapshot::{self, Sources},
};
use crate::{
    journal::Kind,
    model::{Cause, SessionName},
    platform::clock,
    session,
};

/// How long the end of a session, and the answer to who closed it, wait for the disk to have
/// that it is closed: one that hangs keeps none open.
const SAVE_LIMIT: Duration = Duration::from_secs(2);

impl Actor {
    pub(super) fn perform(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Bind { id, wish, patience } => self.bind(id, wish, patience),
                Action::End(id, request) => self.end(id, request),
                Action::Discard(id) => drop(self.parts.remove(&id)),
                Action::Opened(ticket, id, created) => self.opened(ticket, id, created),
                Action::Refused(ticket, cause) => self.refuse(ticket, cause),
                Action::Reopen(ticket) => {
                    if let Some(PendingOpen { request, reply }) = self.opens.remove(&ticket) {
                        self.open(request, reply);
                    }
                }
                Action::Closed(ticket) => self.closed(ticket),
                Action::Tell(name, kind, what) => self.say(&name, kind, what),
            }
        }
    }

    fn bind(&mut self, id: SessionId, wish: crate::proxy::PortWish, patience: Duration) {
        let Some(entry) = self.set.get(id) else {
            return;
        };
        let parts = self.parts.entry(id).or_default();
        let work = binding::Work {
            name: entry.spec.name.clone(),
            wish,
            patience,
            login: parts.login.clone(),
            passwords: self.passwords.clone(),
            runtime_dir: self.runtime_dir.clone(),
            inherited: Arc::clone(&self.inherited),
        };
        let events = self.events.clone();
        self.tasks.spawn(async move {
            let bound = Box::new(work.run().await);
            // Without its loop nobody wants it: the listeners go with it.
            let _ = events.send(Event::Bound(id, bound)).await;
        });
    }

    /// Starts the driver of a session that has its listeners.
    pub(super) fn bound(&mut self, id: SessionId, bound: Bound) -> Vec<Action> {
        let now = clock::timestamp();
        let Bound { login, outcome } = bound;
        let Some(parts) = self.parts.get_mut(&id) else {
            return Vec::new();
        };
        if login.is_some() {
            parts.login = login;
        }
        let endpoint = match outcome {
            Ok(endpoint) if self.set.accepts(id, endpoint.address().port) => endpoint,
            outcome => {
                let port = outcome.map(|endpoint| endpoint.address().port);
                return self.set.bound(id, port, now);
            }
        };
        let port = endpoint.address().port;
        self.start(id, endpoint);
        self.set.bound(id, Ok(port), now)
    }

    fn start(&mut self, id: SessionId, endpoint: crate::proxy::Endpoint) {
        let (Some(entry), Some(parts)) = (self.set.get(id), self.parts.get_mut(&id)) else {
            return;
        };
        let Some(login) = &parts.login else {
            return;
        };
        let ahead = std::mem::take(&mut parts.ahead);
        let early_dial = ahead.spend(&self.environment.broker, &entry.spec, &self.tasks);
        let environment = self.environment.clone();
        let spec = entry.spec.clone();
        let session = session::spawn(spec, endpoint, login, environment, early_dial);
        let mut status = session.status.clone();
        let events = self.events.clone();
        self.tasks.spawn(async move {
            while status.changed().await.is_ok() {
                if events.send(Event::Changed(id)).await.is_err() {
                    return;
                }
            }
            let _ = events.send(Event::Ended(id)).await;
        });
        parts.session = Some(session);
    }

    /// Tells a driver to end, once the disk has that this is wanted.
    fn end(&mut self, id: SessionId, terms: CloseTerms) {
        let request = session::CloseRequest::within(terms.grace, terms.cause);
        let saved = self.save();
        let Some(session) = self.session(id) else {
            return;
        };
        let commands = session.commands.clone();
        self.tasks.spawn(async move {
            if let Some(saved) = saved {
                let _ = timeout(SAVE_LIMIT, saved).await;
            }
            // An error means that it has ended already.
            let _ = commands.send(session::Command::Close(request)).await;
        });
    }

    fn opened(&mut self, ticket: Ticket, id: SessionId, created: bool) {
        let Some(PendingOpen { request, reply }) = self.opens.remove(&ticket) else {
            return;
        };
        if let super::Lifetime::Transient(token) = request.lifetime {
            let events = self.events.clone();
            self.tasks.spawn(async move {
                token.cancelled().await;
                let _ = events.send(Event::Left(id, ticket)).await;
            });
        }
        // Who asked looks for the session in the snapshot.
        self.publish();
        if let Some(view) = self.view(id) {
            // Who asked may have gone; the session stays, as `open` says.
            let _ = reply.send(Ok(super::Opened { view, created }));
        }
    }

    pub(super) fn refuse(&mut self, ticket: Ticket, cause: Cause) {
        if let Some(PendingOpen { reply, .. }) = self.opens.remove(&ticket) {
            self.journal().failure(None, Kind::RequestRefused, &cause);
            let _ = reply.send(Err(cause));
        }
    }

    fn closed(&mut self, ticket: Ticket) {
        let Some(pending) = self.closes.get_mut(&ticket) else {
            return;
        };
        pending.left = pending.left.saturating_sub(1);
        if pending.left > 0 {
            return;
        }
        let Some(PendingClose { views, reply, .. }) = self.closes.remove(&ticket) else {
            return;
        };
        // Who is told that it is closed must not find it open after a crash.
        self.last_saved = self.set.saved();
        let saved = self.store.save(self.last_saved.clone());
        // And must not see it any more.
        self.publish();
        let written = self.client_files_written.clone();
        self.tasks.spawn(async move {
            let both = async { tokio::join!(saved, written.cancelled()) };
            let _ = timeout(SAVE_LIMIT, both).await;
            let _ = reply.send(Ok(views));
        });
    }

    /// Answers once libpq's files say what was published: who is told finds it there.
    pub(super) fn answer_later<T: Send + 'static>(&self, reply: super::Reply<T>, answer: T) {
        let written = self.client_files_written.clone();
        self.tasks.spawn(async move {
            let _ = timeout(SAVE_LIMIT, written.cancelled()).await;
            let _ = reply.send(Ok(answer));
        });
    }

    fn say(&self, name: &SessionName, kind: Kind, what: Result<String, Cause>) {
        match what {
            Ok(detail) => {
                tracing::info!(session = %name, kind = kind.as_str(), %detail, "told");
                self.journal().of_session(name, kind, detail);
            }
            Err(cause) => {
                tracing::warn!(session = %name, kind = kind.as_str(), %cause, "told");
                self.journal().failure(Some(name), kind, &cause);
            }
        }
    }

    /// Saves the set where it differs from what was saved last, writes libpq's files where
    /// what they say differs, and publishes what is new.
    pub(super) fn settle(&mut self) {
        drop(self.save());
        self.publish();
    }

    /// The future ends when the set is on disk, or the disk has refused it; `None` where it is
    /// what was handed to the disk last.
    pub(super) fn save(&mut self) -> Option<impl Future<Output = ()> + Send + use<>> {
        let set = self.set.saved();
        if set == self.last_saved {
            return None;
        }
        self.last_saved.clone_from(&set);
        // The writer goes on by itself and keeps its last problem.
        let (saved, events) = (self.store.save(set), self.events.clone());
        let (done, is_done) = tokio::sync::oneshot::channel::<()>();
        self.tasks.spawn(async move {
            let saved = saved.await;
            drop(done);
            if saved.is_err() {
                // At the end nobody listens any more.
                let _ = events.send(Event::NotSaved).await;
            }
        });
        Some(async move { drop(is_done.await) })
    }

    pub(super) fn publish(&mut self) {
        let sessions = self.views();
        let entries = client_entries(&sessions);
        if entries != self.last_client_entries {
            self.last_client_entries.clone_from(&entries);
            // It goes on by itself, and tries again.
            let writing = self.client_files.write(entries);
            let written = CancellationToken::new();
            self.client_files_written = written.clone();
            self.tasks.spawn(async move {
                let _ = writing.await;
                written.cancel();
            });
        }
        let mut problems: Vec<_> = self.store.problem().into_iter().collect();
        problems.extend(self.environment.broker.contested());
        self.snapshot.send_if_modified(|snapshot| {
            if snapshot.sessions == sessions && snapshot.problems == problems {
                return false;
            }
            snapshot.revision += 1;
            snapshot.sessions = sessions;
            snapshot.problems = problems;
            true
        });
    }

    pub(super) fn views(&self) -> Vec<SessionSnapshot> {
        let sources = self.sources();
        let views = self.set.entries().map(|entry| {
            let parts = self.parts.get(&entry.id);
            snapshot::view(entry, parts, &sources)
        });
        views.collect()
    }

    fn view(&self, id: SessionId) -> Option<SessionSnapshot> {
        let parts = self.parts.get(&id);
        Some(snapshot::view(self.set.get(id)?, parts, &self.sources()))
    }

    fn sources(&self) -> Sources<'_> {
        Sources {
            runtime_dir: &self.runtime_dir,
            broker: &self.environment.broker,
        }
    }
}
