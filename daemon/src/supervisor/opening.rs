//! Opening sessions: by an `open`, or for as long as somebody uses them.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{
    Lifetime, OpenRequest, Opened, Reply, SessionSnapshot,
    actor::{Actor, Event, LookedUp, OpenPlan},
    closing::closing,
    entry::{Entry, Keeping, OnClosed, Running},
    find,
};
use crate::{
    credential::Grant,
    journal::Kind,
    model::{Cause, Resolved, SessionName},
    proxy::{self, LocalLogin, PortWish},
    session::{self, EarlyDial, Spec},
    state::Passwords,
};

impl Actor {
    pub(super) fn open(&mut self, request: OpenRequest, reply: Reply<Opened>) {
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
            let name = view.name.clone();
            if self.is_closing(&name) {
                return self.open_afterwards(&name, request, reply);
            }
            let answer = self.join(&name, &request);
            if let (Ok(opened), Lifetime::Transient(token)) = (&answer, &request.lifetime) {
                self.hold(&opened.view.name, token.clone());
            }
            let _ = reply.send(answer);
            return;
        }
        let broker = Arc::clone(&self.environment.broker);
        let pools = Arc::clone(&self.environment.pools);
        let passwords = Arc::clone(&self.passwords);
        let events = self.events.clone();
        self.tasks.spawn(async move {
            let look_up = async {
                let early_dial = EarlyDial::begin(
                    &broker,
                    &pools,
                    &request.target,
                    request.role,
                    request.access,
                );
                // Without credentials the session will need a grant, whatever the look-up
                // finds; why there is none is said by who needs it.
                let grant = async {
                    match early_dial {
                        Some(_) => Ok(None),
                        None => Ok(broker.grant_ahead().await.ok()),
                    }
                };
                let (resolved, grant) = tokio::try_join!(broker.resolve(&request.target), grant)?;
                let name = name_for(&request, &resolved)?;
                let login = login_of(&passwords, &name).await?;
                Ok(OpenPlan {
                    name,
                    resolved,
                    login,
                    grant,
                    early_dial,
                })
            };
            let outcome = look_up.await;
            let looked_up = Box::new(LookedUp {
                request,
                reply,
                outcome,
            });
            let _ = events.send(Event::LookedUp(looked_up)).await;
        });
    }

    pub(super) fn go_on_opening(&mut self, looked_up: LookedUp) {
        let LookedUp {
            request,
            reply,
            outcome,
        } = looked_up;
        if let Ok(known) = &outcome
            && self.is_closing(&known.name)
        {
            return self.open_afterwards(&known.name, request, reply);
        }
        let answer = outcome.and_then(|known| self.create_or_join(&request, known));
        if let Err(cause) = &answer {
            self.journal().failure(None, Kind::RequestRefused, cause);
        }
        if let (Ok(opened), Lifetime::Transient(token)) = (&answer, &request.lifetime) {
            self.hold(&opened.view.name, token.clone());
        }
        // Who asked looks for the session in the snapshot.
        self.publish();
        // Who asked may have gone; the session stays, as `open` says.
        let _ = reply.send(answer);
    }

    fn is_closing(&self, name: &SessionName) -> bool {
        self.entries.get(name).is_some_and(Entry::is_closing)
    }

    /// One command after the other: the session of the first has its end before the second's
    /// begins.
    fn open_afterwards(&mut self, name: &SessionName, request: OpenRequest, reply: Reply<Opened>) {
        if let Some(entry) = self.entries.get_mut(name) {
            entry.on_closed.opens.push((request, reply));
        }
    }

    pub(super) fn create_or_join(
        &mut self,
        request: &OpenRequest,
        known: OpenPlan,
    ) -> Result<Opened, Cause> {
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
            // The session follows where its own target leads.
            let same_addon = same_addon || spec.target == request.target;
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
            expiry: request.expiry,
            database: self
                .remembered
                .get(&known.name)
                .and_then(|saved| saved.database.clone()),
        };
        let endpoint = proxy::bind(&mut self.inherited, &self.runtime_dir, &known.name, &wish)?;
        let keeping = match request.lifetime {
            Lifetime::Kept => Keeping::Kept,
            Lifetime::Transient(_) => Keeping::Transient(0),
        };
        if let Some(grant) = known.grant {
            self.spend(grant, &spec);
        }
        let view = self.insert(
            spec,
            endpoint,
            known.login,
            keeping,
            false,
            known.early_dial,
        );
        Ok(Opened {
            view,
            created: true,
        })
    }

    /// Asks for what the new session will ask for in a moment, so that the grant outlives no
    /// call and serves all.
    fn spend(&self, grant: Grant, spec: &Spec) {
        let Some(resolved) = spec.resolved.clone() else {
            return;
        };
        let key = session::database_key(spec, &resolved);
        let broker = Arc::clone(&self.environment.broker);
        self.tasks.spawn(async move {
            // Who needs them is told why there are none.
            let _ = tokio::join!(
                broker.ssh(&resolved.addon, None),
                broker.database(&key, None)
            );
            drop(grant);
        });
    }

    /// Answers with the session that is open; makes a transient one stay where that is asked.
    pub(super) fn join(
        &mut self,
        name: &SessionName,
        request: &OpenRequest,
    ) -> Result<Opened, Cause> {
        let Some(entry) = self.entries.get_mut(name) else {
            return Err(Cause::SessionClosing);
        };
        if request.port.is_some_and(|port| port != entry.port) {
            let by = format!("{} on port {}", entry.spec.target, entry.port);
            return Err(Cause::NameTaken {
                name: name.clone(),
                by,
            });
        }
        if matches!(request.lifetime, Lifetime::Kept) {
            entry.keeping = Keeping::Kept;
            if request.expiry.is_some() {
                entry.spec.expiry = request.expiry;
            }
        }
        Ok(Opened {
            view: entry.view(&self.runtime_dir, &self.environment.broker),
            created: false,
        })
    }

    pub(super) fn insert(
        &mut self,
        spec: Spec,
        endpoint: proxy::Endpoint,
        login: LocalLogin,
        keeping: Keeping,
        declared: bool,
        early_dial: Option<EarlyDial>,
    ) -> SessionSnapshot {
        let name = spec.name.clone();
        let port = endpoint.address().port;
        let until = spec
            .expiry
            .map(|expiry| format!(", until {:.0}", expiry.at));
        let until = until.unwrap_or_default();
        let detail = format!("for {}, at port {port}{until}", spec.target);
        self.journal()
            .of_session(&name, Kind::SessionOpened, detail);
        let running = Running::Bound(self.start(&spec, endpoint, &login, early_dial));
        let entry = Entry {
            spec,
            port,
            declared,
            keeping,
            login,
            running,
            on_closed: OnClosed::default(),
            closing: Vec::new(),
        };
        let view = entry.view(&self.runtime_dir, &self.environment.broker);
        self.remembered.remove(&name);
        self.entries.insert(name, entry);
        view
    }

    pub(super) fn start(
        &self,
        spec: &Spec,
        endpoint: proxy::Endpoint,
        login: &LocalLogin,
        early_dial: Option<EarlyDial>,
    ) -> session::Session {
        let environment = self.environment.clone();
        let session = session::spawn(spec.clone(), endpoint, login, environment, early_dial);
        let mut status = session.status.clone();
        let (events, name) = (self.events.clone(), spec.name.clone());
        self.tasks.spawn(async move {
            while status.changed().await.is_ok() {
                if events.send(Event::Changed).await.is_err() {
                    return;
                }
            }
            let _ = events.send(Event::Ended(name)).await;
        });
        session
    }

    pub(super) fn port_wish(&self, name: &SessionName, port: Option<u16>) -> PortWish {
        match port {
            Some(port) => PortWish::Exactly(port),
            None => PortWish::Pick {
                preferred: self.remembered.get(name).map(|saved| saved.port),
                range: self.config.port_range.ports(),
                reserved: self.reserved_ports(name),
            },
        }
    }

    pub(super) fn reserved_ports(&self, but: &SessionName) -> BTreeSet<u16> {
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

    /// Counts a user until its token is cancelled.
    pub(super) fn hold(&mut self, name: &SessionName, token: CancellationToken) {
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
            let _ = events.send(Event::Released(name)).await;
        });
    }

    pub(super) fn release(&mut self, name: &SessionName) {
        let Some(entry) = self.entries.get_mut(name) else {
            return;
        };
        let Keeping::Transient(users) = &mut entry.keeping else {
            return;
        };
        *users = users.saturating_sub(1);
        if *users == 0 {
            self.begin_close(&name.clone(), closing(Duration::ZERO), None);
        }
    }
}

pub(super) async fn login_of(
    passwords: &Passwords,
    name: &SessionName,
) -> Result<LocalLogin, Cause> {
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
