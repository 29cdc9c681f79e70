//! Which open session is meant.

use super::SessionSnapshot;
use crate::model::{Access, Cause, Mode, Role, SessionName, Target};

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

/// The session that an `open` of this target joins without asking the provider: one of that
/// name whose choices are the same, or whose name can't be an app's.
pub(super) fn joinable<'a>(
    views: &'a [SessionSnapshot],
    target: &Target,
    role: Role,
    access: Access,
    mode: Mode,
) -> Option<&'a SessionSnapshot> {
    let Target::Word(word) = target else {
        return None;
    };
    let view = views.iter().find(|view| view.name.as_str() == word)?;
    let same = (view.role, view.access, view.mode) == (role, access, mode);
    let app = view
        .status
        .resolved
        .as_ref()
        .map(|resolved| resolved.app.as_str());
    let is_only_a_name = app.is_some_and(|app| app != word);
    (same || is_only_a_name).then_some(view)
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

/// Who has a name that somebody else wants.
pub(super) fn taken_by(view: &SessionSnapshot) -> String {
    format!(
        "{} ({} role, {}, {})",
        view.target,
        view.role.as_str(),
        view.access.as_str(),
        view.mode.as_str()
    )
}

/// The name for a target that can't be looked up yet.
pub(super) fn provisional_name(
    target: &Target,
    role: Role,
    access: Access,
) -> Result<SessionName, Cause> {
    let (app, attachment) = match target {
        Target::App(word) | Target::Addon(word) | Target::Word(word) => (word, None),
        Target::AppAddon { app, addon } => (app, Some(addon.as_str())),
    };
    SessionName::derive(app, attachment, role, access).map_err(|error| Cause::InvalidRequest {
        problem: error.to_string(),
    })
}
