//! Opening sessions: what an `open` asks is looked up beside the loop, and what that came to
//! goes to the set.

use super::{
    Lifetime, OpenRequest, Opened, Reply,
    actor::Actor,
    event::{Event, LookedUp},
    parts::Parts,
    pending::PendingOpen,
    prepare::{Prepared, prepare},
    set::{Action, Choices, Named, Ticket, Wish},
};
use crate::{
    model::{Cause, Resolved, SessionName},
    platform::clock,
};

impl Actor {
    pub(super) fn open(&mut self, mut request: OpenRequest, reply: Reply<Opened>) {
        let ticket = self.ticket();
        let named = match &request.name {
            None => self.set.named(&request.target, request.choices),
            Some(_) => Named::Nothing,
        };
        let now = clock::timestamp();
        let actions = match named {
            Named::Session(id) => {
                let wish = wish(&request);
                self.opens.insert(ticket, PendingOpen { request, reply });
                self.set.join(id, ticket, &wish, now)
            }
            Named::Ending(id) => {
                if let Some(entry) = self.set.get(id) {
                    // Its name may be no target once it has ended.
                    let spec = &entry.spec;
                    request.target = spec.target.clone();
                    request.name = Some(spec.name.clone());
                    request.choices = Choices::of(spec.role, spec.access, spec.mode);
                }
                self.opens.insert(ticket, PendingOpen { request, reply });
                self.set.follow(id, ticket)
            }
            Named::Differs(cause) => {
                self.opens.insert(ticket, PendingOpen { request, reply });
                vec![Action::Refused(ticket, cause)]
            }
            Named::Beside(target, choices) => {
                (request.target, request.choices) = (target, choices);
                self.look_up(ticket, request, reply);
                Vec::new()
            }
            Named::Nothing => {
                self.look_up(ticket, request, reply);
                Vec::new()
            }
        };
        self.perform(actions);
    }

    fn look_up(&mut self, ticket: Ticket, request: OpenRequest, reply: Reply<Opened>) {
        let (environment, events) = (self.environment.clone(), self.events.clone());
        let target = request.target.clone();
        let (role, access, _) = request.choices.or_default();
        self.opens.insert(ticket, PendingOpen { request, reply });
        self.tasks.spawn(async move {
            let outcome = prepare(&environment, &target, role, access).await;
            let looked_up = Box::new(LookedUp { ticket, outcome });
            let _ = events.send(Event::LookedUp(looked_up)).await;
        });
    }

    pub(super) fn go_on_opening(&mut self, looked_up: LookedUp) -> Vec<Action> {
        let LookedUp { ticket, outcome } = looked_up;
        let Some(PendingOpen { request, .. }) = self.opens.get(&ticket) else {
            return Vec::new();
        };
        let known = outcome.and_then(|prepared| {
            let name = name_for(request, &prepared.resolved)?;
            Ok((name, prepared))
        });
        let (name, Prepared { resolved, ahead }) = match known {
            Ok(known) => known,
            Err(cause) => return vec![Action::Refused(ticket, cause)],
        };
        let wish = wish(request);
        let now = clock::timestamp();
        let actions = self.set.open(ticket, &name, wish, Some(resolved), now);
        let is_new = |action: &Action| match action {
            Action::Bind { id, .. } if !self.parts.contains_key(id) => Some(*id),
            _ => None,
        };
        if let Some(id) = actions.iter().find_map(is_new) {
            let parts = Parts {
                ahead,
                ..Parts::default()
            };
            self.parts.insert(id, parts);
        }
        actions
    }
}

fn wish(request: &OpenRequest) -> Wish {
    let (role, access, mode) = request.choices.or_default();
    Wish {
        target: request.target.clone(),
        role,
        access,
        mode,
        port: request.port,
        expiry: request.expiry,
        is_kept: matches!(request.lifetime, Lifetime::Kept),
    }
}

fn name_for(request: &OpenRequest, resolved: &Resolved) -> Result<SessionName, Cause> {
    if let Some(name) = &request.name {
        return Ok(name.clone());
    }
    let (role, access, _) = request.choices.or_default();
    let attachment = resolved.ambiguous_in_app;
    let attachment = attachment.then_some(resolved.attachment.as_str());
    SessionName::derive(&resolved.app, attachment, role, access).map_err(|error| {
        Cause::InvalidRequest {
            problem: error.to_string(),
        }
    })
}
