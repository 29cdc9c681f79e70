//! Which open session a command means.

use super::SessionSnapshot;
use crate::model::{Cause, Target};

/// The one session that a target means: by its name, else by what it leads to.
///
/// # Errors
/// `NoSuchSession`, or `SeveralSessions` with their names.
pub(super) fn find<'a>(
    views: &'a [SessionSnapshot],
    target: &Target,
) -> Result<&'a SessionSnapshot, Cause> {
    if let Target::Word(word) = target
        && let Some(view) = views.iter().find(|view| view.name.as_str() == word)
    {
        return Ok(view);
    }
    let fitting: Vec<_> = views.iter().filter(|view| leads_to(view, target)).collect();
    match fitting.as_slice() {
        [view] => Ok(view),
        [] => Err(Cause::NoSuchSession {
            name: target.to_string(),
            open: views.iter().map(|view| view.name.to_string()).collect(),
        }),
        several => Err(Cause::SeveralSessions {
            target: target.to_string(),
            names: several.iter().map(|view| view.name.to_string()).collect(),
        }),
    }
}

/// Whether a session serves what the target names.
fn leads_to(view: &SessionSnapshot, target: &Target) -> bool {
    if view.target == *target {
        return true;
    }
    let Some(resolved) = &view.status.resolved else {
        return false;
    };
    let is_addon = |addon: &str| {
        addon == resolved.addon
            || addon == resolved.addon_id
            || addon.eq_ignore_ascii_case(&resolved.attachment)
    };
    match target {
        Target::App(app) => *app == resolved.app,
        Target::Addon(addon) => is_addon(addon),
        Target::AppAddon { app, addon } => *app == resolved.app && is_addon(addon),
        Target::Word(word) => *word == resolved.app || is_addon(word),
    }
}
