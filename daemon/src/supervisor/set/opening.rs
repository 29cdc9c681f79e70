//! Opening sessions, and finding the one that an `open` means.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::{
    Action, Actual, Entry, Keeping, PORT_PATIENCE, SessionId, Set, Ticket, Wanted, entry::Then,
};
use crate::{
    model::{Access, Cause, Expiry, Mode, Resolved, Role, SessionName, Target},
    session::Spec,
};

/// What is chosen of a session; `None` where the choice was left open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Choices {
    /// Whose database user.
    pub role: Option<Role>,
    /// What it may do.
    pub access: Option<Access>,
    /// Who logs in.
    pub mode: Option<Mode>,
}

/// What an `open` wants, once it is known what its target is.
#[derive(Debug, Clone)]
pub(in crate::supervisor) struct Wish {
    pub(in crate::supervisor) target: Target,
    pub(in crate::supervisor) role: Role,
    pub(in crate::supervisor) access: Access,
    pub(in crate::supervisor) mode: Mode,
    pub(in crate::supervisor) port: Option<u16>,
    pub(in crate::supervisor) expiry: Option<Expiry>,
    /// Whether it stays when its caller has gone.
    pub(in crate::supervisor) is_kept: bool,
}

/// What the words of an `open` mean, before the provider is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::supervisor) enum Named {
    /// This open session.
    Session(SessionId),
    /// What this session, which is ending, was: it is opened again.
    Ending(SessionId),
    /// What the session leads to, with other choices.
    Beside(Target, Choices),
    /// A session that is something else.
    Differs(Cause),
    /// No open session.
    Nothing,
}

// === impl Choices ===

impl Choices {
    /// With everything that was left open decided.
    pub(in crate::supervisor) fn or(
        self,
        role: Role,
        access: Access,
        mode: Mode,
    ) -> (Role, Access, Mode) {
        (
            self.role.unwrap_or(role),
            self.access.unwrap_or(access),
            self.mode.unwrap_or(mode),
        )
    }

    /// As a session is opened where nothing is chosen.
    pub(in crate::supervisor) fn or_default(self) -> (Role, Access, Mode) {
        self.or(Role::Personal, Access::ReadOnly, Mode::Managed)
    }

    /// Those of a session that is known.
    pub(in crate::supervisor) fn of(role: Role, access: Access, mode: Mode) -> Self {
        Self {
            role: Some(role),
            access: Some(access),
            mode: Some(mode),
        }
    }
}

// === impl Set ===

impl Set {
    /// Which session a target means by its name. What is left open is the named session's,
    /// unless the name is an app's: an app's name alone means read-only access.
    pub(in crate::supervisor) fn named(&self, target: &Target, choices: Choices) -> Named {
        let Target::Word(word) = target else {
            return Named::Nothing;
        };
        let of_name = |entry: &&Entry| entry.spec.name.as_str() == word;
        let Some(entry) = self.entries.values().find(of_name) else {
            return Named::Nothing;
        };
        let spec = &entry.spec;
        let its = (spec.role, spec.access, spec.mode);
        let is_app = match &spec.resolved {
            Some(resolved) => resolved.app == *word,
            None => matches!(&spec.target, Target::App(app) | Target::Word(app) if app == word),
        };
        let wanted = if is_app {
            choices.or_default()
        } else {
            choices.or(its.0, its.1, its.2)
        };
        if wanted == its {
            return if entry.is_closing() {
                Named::Ending(entry.id)
            } else {
                Named::Session(entry.id)
            };
        }
        if is_app {
            return Named::Nothing;
        }
        if is_derived(spec) {
            let (role, access, mode) = wanted;
            return Named::Beside(spec.target.clone(), Choices::of(role, access, mode));
        }
        Named::Differs(differs(spec))
    }

    /// Opens a session, or joins the one that is open.
    pub(in crate::supervisor) fn open(
        &mut self,
        ticket: Ticket,
        name: &SessionName,
        wish: Wish,
        resolved: Option<Resolved>,
        now: Timestamp,
    ) -> Vec<Action> {
        let Some(entry) = self.by_name(name) else {
            return self.create(ticket, name, wish, resolved, now);
        };
        let id = entry.id;
        if entry.is_closing() {
            return self.follow(id, ticket);
        }
        let spec = &entry.spec;
        let leads_elsewhere = match (&spec.resolved, &resolved) {
            (Some(is), Some(wanted)) => (&is.addon, &is.app) != (&wanted.addon, &wanted.app),
            _ => false,
        };
        // The same target that leads elsewhere by now: the session follows it.
        if leads_elsewhere && spec.target != wish.target {
            let cause = Cause::NameTaken {
                name: name.clone(),
                by: described(spec),
            };
            return vec![Action::Refused(ticket, cause)];
        }
        if (spec.role, spec.access, spec.mode) != (wish.role, wish.access, wish.mode) {
            return vec![Action::Refused(ticket, differs(spec))];
        }
        self.join(id, ticket, &wish, now)
    }

    /// An `open` of a session that is ending goes on after its end.
    pub(in crate::supervisor) fn follow(&mut self, id: SessionId, ticket: Ticket) -> Vec<Action> {
        match self.entries.get_mut(&id) {
            Some(entry) => {
                entry.then.opens.push(ticket);
                Vec::new()
            }
            None => vec![Action::Reopen(ticket)],
        }
    }

    /// Answers with a session that is open, once it has its listeners; makes it stay where
    /// that is asked, and gives it another port where it can't have its own.
    pub(in crate::supervisor) fn join(
        &mut self,
        id: SessionId,
        ticket: Ticket,
        wish: &Wish,
        now: Timestamp,
    ) -> Vec<Action> {
        let Some(entry) = self.entries.get_mut(&id) else {
            return vec![Action::Reopen(ticket)];
        };
        let at = match entry.actual {
            Actual::Running => entry.port,
            Actual::Binding(_) | Actual::Unbound(..) => entry.only_port(),
        };
        match (wish.port, at) {
            (None, _) => {}
            (Some(port), Some(at)) if port == at => {}
            (Some(port), _) if entry.unbound().is_some() && wish.is_kept => {
                entry.fixed_port = Some(port);
            }
            (Some(_), Some(port)) => {
                let name = entry.spec.name.clone();
                return vec![Action::Refused(ticket, Cause::PortDiffers { name, port })];
            }
            // It is not known yet which it gets.
            (Some(_), None) => return vec![Action::Reopen(ticket)],
        }
        if wish.is_kept {
            entry.keeping = Keeping::Kept;
            entry.own_port = wish.port.or(entry.own_port);
            if wish.expiry.is_some() {
                entry.spec.expiry = wish.expiry;
            }
        } else if let Keeping::Transient(users) = &mut entry.keeping {
            users.insert(ticket);
        }
        let mut actions = Vec::new();
        match entry.actual {
            Actual::Running => actions.push(Action::Opened(ticket, id, false)),
            Actual::Binding(_) => entry.opening.push((ticket, false)),
            Actual::Unbound(..) => {
                entry.opening.push((ticket, false));
                actions.extend(self.bind(id, PORT_PATIENCE, now));
            }
        }
        actions.extend(self.take_over(id));
        actions
    }

    fn create(
        &mut self,
        ticket: Ticket,
        name: &SessionName,
        wish: Wish,
        resolved: Option<Resolved>,
        now: Timestamp,
    ) -> Vec<Action> {
        let remembered = self.remembered(name);
        let own_port = remembered.map(|saved| saved.port);
        // One that ends with its user leaves no trace in what is remembered.
        let own_port = wish.port.filter(|_| wish.is_kept).or(own_port);
        let spec = Spec {
            name: name.clone(),
            target: wish.target,
            resolved,
            role: wish.role,
            access: wish.access,
            mode: wish.mode,
            expiry: wish.expiry,
            database: remembered.and_then(|saved| saved.database.clone()),
        };
        let keeping = if wish.is_kept {
            Keeping::Kept
        } else {
            Keeping::Transient(BTreeSet::from([ticket]))
        };
        let entry = Entry {
            own_port,
            fixed_port: wish.port,
            keeping,
            is_tried: true,
            opening: vec![(ticket, true)],
            ..self.blank(spec, now)
        };
        let id = self.insert(entry);
        self.bind(id, PORT_PATIENCE, now)
    }

    /// A session that is to be, and nothing else yet.
    pub(super) fn blank(&mut self, spec: Spec, now: Timestamp) -> Entry {
        let id = SessionId(self.next);
        self.next += 1;
        Entry {
            id,
            spec,
            own_port: None,
            fixed_port: None,
            port: None,
            declared: false,
            keeping: Keeping::Kept,
            began: now,
            wanted: Wanted::Open,
            actual: Actual::Binding(None),
            is_tried: false,
            opening: Vec::new(),
            closing: Vec::new(),
            then: Then::default(),
        }
    }

    pub(super) fn insert(&mut self, entry: Entry) -> SessionId {
        let id = entry.id;
        self.entries.insert(id, entry);
        id
    }
}

/// Whether a session's name is the one that it would get without `--name`.
fn is_derived(spec: &Spec) -> bool {
    let provisional = SessionName::provisional(&spec.target, spec.role, spec.access);
    let of_app = spec.resolved.iter().flat_map(|resolved| {
        let attachment = Some(resolved.attachment.as_str());
        [None, attachment].map(|attachment| {
            SessionName::derive(&resolved.app, attachment, spec.role, spec.access)
        })
    });
    of_app
        .chain([provisional])
        .flatten()
        .any(|name| name == spec.name)
}

fn differs(spec: &Spec) -> Cause {
    Cause::SessionDiffers {
        name: spec.name.clone(),
        is: described(spec),
    }
}

/// What a session is, for whom it is in the way of.
fn described(spec: &Spec) -> String {
    format!(
        "{} ({} role, {}, {})",
        spec.target,
        spec.role.as_str(),
        spec.access.as_str(),
        spec.mode.as_str()
    )
}
