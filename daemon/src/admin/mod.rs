//! What an add-on's owner does with it beside connecting: a file for each noun. A request
//! in, an answer out. The provider's statuses become causes here, where it is known what was
//! asked for.
//!
//! Who asks, sessions and the control API are not known here.

pub mod extensions;
pub mod info;
pub mod integrations;
mod plan;
pub mod restore;
pub mod upgrade;
pub mod users;

use crate::{
    credential::{Broker, Grant},
    model::Cause,
    provider::{Borealis, Failure, Waiting},
};

#[cfg(test)]
mod tests;

fn borealis<'a>(broker: &'a Broker, grant: &'a Grant, addon: &'a str) -> Borealis<'a> {
    broker
        .provider()
        .borealis(grant.bearer(), addon, Waiting::Somebody)
}

/// What a call's failure means where its own statuses don't say. `doing` goes on after
/// "it is not known whether"; `look` is the command that shows it.
fn otherwise(failure: Failure, addon: &str, doing: &str, look: &str) -> Cause {
    match failure {
        Failure::Lost { api, detail } => Cause::OutcomeUnknown {
            doing: doing.to_owned(),
            detail: format!("{api}: {detail}"),
            look: Some(format!("{look} {addon}")),
        },
        other => other.addon_cause(addon),
    }
}

/// Whether a 404 is about the add-on and not about what is looked for in it.
fn names_addon(failure: &Failure) -> bool {
    failure.text("resourceType") == Some("addon")
}

/// The provider's own reason for a refusal.
fn reason(failure: &Failure) -> String {
    match failure {
        Failure::Refused(refusal) => refusal.message.to_string(),
        other => other.to_string(),
    }
}
