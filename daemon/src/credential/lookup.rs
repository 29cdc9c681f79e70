//! From what the user typed to an add-on, by Heroku's look-ups.

use futures_util::future::join_all;

use super::token::Token;
use crate::{
    model::{Cause, Resolved, Target},
    provider::{
        Api, Failure, Heroku, Provider, Waiting,
        wire::{Addon, AppRef, Attachment},
    },
};

/// Asks the Heroku API what `target` is. What it was when it was last looked up is `known`: a
/// session's name is made of it, and stays where the API doesn't say.
///
/// # Errors
/// That there is no such thing, that several fit, or what the API answers otherwise.
/// Dropping the future leaves nothing behind.
pub(super) async fn resolve(
    provider: &Provider,
    token: &Token,
    target: &Target,
    known: Option<&Resolved>,
) -> Result<Resolved, Cause> {
    let lookup = Lookup {
        heroku: provider.heroku(&token.value, Waiting::Somebody),
        source: &token.source,
        service: provider.endpoints().service(),
        known,
    };
    match target {
        Target::App(app) => lookup.app(app).await,
        Target::AppAddon { app, addon } => lookup.addon(addon, Some(app)).await,
        Target::Addon(addon) => lookup.addon(addon, None).await,
        Target::Word(word) => lookup.word(word).await,
    }
}

/// Asks the Heroku API whether `target` still leads where it did, by one call where it does;
/// answers where it leads now. An app that has got a second add-on leads to the first one still.
///
/// # Errors
/// As [`resolve`].
pub(super) async fn look_again(
    provider: &Provider,
    token: &Token,
    target: &Target,
    known: &Resolved,
) -> Result<Resolved, Cause> {
    let lookup = Lookup {
        heroku: provider.heroku(&token.value, Waiting::Somebody),
        source: &token.source,
        service: provider.endpoints().service(),
        known: Some(known),
    };
    let stays = match target {
        Target::App(app) => lookup.app_still_has(app, known).await,
        Target::AppAddon { app, addon } => lookup.still_leads(addon, Some(app), known).await,
        Target::Addon(addon) => lookup.still_leads(addon, None, known).await,
        Target::Word(word) if *word == known.app => lookup.app_still_has(word, known).await,
        Target::Word(word) => lookup.still_leads(word, None, known).await,
    };
    if stays? {
        return Ok(known.clone());
    }
    resolve(provider, token, target, Some(known)).await
}

struct Lookup<'a> {
    heroku: Heroku<'a>,
    source: &'a str,
    service: &'a str,
    known: Option<&'a Resolved>,
}

// === impl Lookup ===

impl Lookup<'_> {
    /// One word: what it looks like is asked for first, the other if there is none.
    async fn word(&self, word: &str) -> Result<Resolved, Cause> {
        let nothing = || Cause::TargetNotFound {
            word: word.to_owned(),
        };
        if looks_like_addon(word, self.service) {
            match self.addon(word, None).await {
                Err(Cause::AddonNotFound { .. }) => {}
                outcome => return outcome,
            }
            return self.app(word).await.map_err(|cause| match cause {
                Cause::AppNotFound { .. } => nothing(),
                other => other,
            });
        }
        match self.app(word).await {
            Err(Cause::AppNotFound { .. }) => {}
            outcome => return outcome,
        }
        self.addon(word, None).await.map_err(|cause| match cause {
            Cause::AddonNotFound { .. } => nothing(),
            other => other,
        })
    }

    /// The one add-on of ours that an app has.
    async fn app(&self, app: &str) -> Result<Resolved, Cause> {
        let addons = self.heroku.app_addons(app).await;
        let addons = self.ours(addons.map_err(|failure| self.about_app(failure, app))?);
        let addon = match addons.as_slice() {
            [] => {
                return Err(Cause::NoAddon {
                    app: app.to_owned(),
                });
            }
            [addon] => addon,
            several => {
                return Err(Cause::SeveralAddons {
                    app: app.to_owned(),
                    attachments: self.attachments(several, app).await?,
                });
            }
        };
        let attachment = self.attachment(addon, app).await?.ok_or_else(|| {
            unusable(format!(
                "add-on {} has no attachment in app {app}",
                addon.name
            ))
        })?;
        Ok(resolved(addon, attachment, false))
    }

    /// An add-on or attachment, in one app or anywhere.
    async fn addon(&self, addon: &str, app: Option<&str>) -> Result<Resolved, Cause> {
        let not_found = || Cause::AddonNotFound {
            addon: addon.to_owned(),
            app: app.map(str::to_owned),
        };
        // Whether the app has several is known as soon as the rest where the app is named.
        let (found, early) = tokio::join!(
            self.heroku.resolve_attachments(addon, app),
            self.has_several(app),
        );
        let found = found.map_err(|failure| match (failure.status(), app) {
            (Some(404), Some(app)) if names_app(&failure) => Cause::AppNotFound {
                app: app.to_owned(),
            },
            (Some(404), _) => not_found(),
            _ => failure.heroku_cause(self.source),
        })?;
        let attachment = pick(found, app).ok_or_else(not_found)?;
        let late = app.is_none().then_some(attachment.app.name.as_str());
        let (whole, late) = tokio::join!(
            self.heroku.addon(&attachment.addon.id),
            self.has_several(late),
        );
        let whole = whole.map_err(|failure| match failure.status() {
            Some(404) => not_found(),
            _ => failure.heroku_cause(self.source),
        })?;
        if whole.addon_service.name != self.service {
            return Err(Cause::OtherService { addon: whole.name });
        }
        let known = self.known.filter(|known| known.addon_id == whole.id);
        let ambiguous = match (early, late, known) {
            (Ok(early), Ok(late), _) => early || late,
            (_, _, Some(known)) => known.ambiguous_in_app,
            (Err(cause), ..) | (_, Err(cause), _) => return Err(cause),
        };
        Ok(resolved(&whole, attachment, ambiguous))
    }

    /// Whether an app has several add-ons of ours. A session's name depends on it, so it is
    /// never guessed.
    async fn has_several(&self, app: Option<&str>) -> Result<bool, Cause> {
        let Some(app) = app else { return Ok(false) };
        match self.heroku.app_addons(app).await {
            Ok(addons) => Ok(self.ours(addons).len() > 1),
            Err(failure) => Err(self.about_app(failure, app)),
        }
    }

    async fn app_still_has(&self, app: &str, known: &Resolved) -> Result<bool, Cause> {
        match self.heroku.app_addons(app).await {
            Ok(addons) => {
                let mut ours = self.ours(addons).into_iter();
                Ok(ours.any(|addon| addon.id == known.addon_id && addon.name == known.addon))
            }
            // The whole look-up says what is wrong.
            Err(failure) if failure.status() == Some(404) => Ok(false),
            Err(failure) => Err(failure.heroku_cause(self.source)),
        }
    }

    async fn still_leads(
        &self,
        addon: &str,
        app: Option<&str>,
        known: &Resolved,
    ) -> Result<bool, Cause> {
        let is_known = |attachment: &Attachment| {
            let addon = &attachment.addon;
            addon.id == known.addon_id
                && addon.name == known.addon
                && attachment.app.name == known.app
                && attachment.name == known.attachment
        };
        match self.heroku.resolve_attachments(addon, app).await {
            Ok(found) if app.is_none() => Ok(found.iter().any(is_known)),
            Ok(found) => Ok(pick(found, app).as_ref().is_some_and(is_known)),
            Err(failure) if failure.status() == Some(404) => Ok(false),
            Err(failure) => Err(failure.heroku_cause(self.source)),
        }
    }

    async fn attachment(&self, addon: &Addon, app: &str) -> Result<Option<Attachment>, Cause> {
        let attachments = self.heroku.addon_attachments(&addon.id).await;
        let attachments = attachments.map_err(|failure| failure.heroku_cause(self.source))?;
        Ok(attachments.into_iter().find(|a| is_app(&a.app, app)))
    }

    /// The names to choose from; the add-on's own where the app has no attachment of it.
    async fn attachments(&self, addons: &[Addon], app: &str) -> Result<Vec<String>, Cause> {
        let found = join_all(addons.iter().map(|addon| self.attachment(addon, app))).await;
        let mut names = Vec::with_capacity(addons.len());
        for (addon, attachment) in addons.iter().zip(found) {
            names.push(attachment?.map_or_else(|| addon.name.clone(), |a| a.name));
        }
        names.sort();
        Ok(names)
    }

    fn ours(&self, addons: Vec<Addon>) -> Vec<Addon> {
        addons
            .into_iter()
            .filter(|addon| addon.addon_service.name == self.service)
            .collect()
    }

    fn about_app(&self, failure: Failure, app: &str) -> Cause {
        match failure.status() {
            Some(404) => Cause::AppNotFound {
                app: app.to_owned(),
            },
            _ => failure.heroku_cause(self.source),
        }
    }
}

/// The attachment of the app that was named, else the first. Where the named app isn't
/// among them the first is what Heroku took it for.
fn pick(found: Vec<Attachment>, app: Option<&str>) -> Option<Attachment> {
    let of_app = app.and_then(|app| found.iter().position(|a| is_app(&a.app, app)));
    found.into_iter().nth(of_app.unwrap_or(0))
}

/// Heroku takes an app's id wherever it takes its name.
fn is_app(app: &AppRef, typed: &str) -> bool {
    app.name == typed || app.id.as_deref() == Some(typed)
}

/// Whether a 404 is about the app and not about the add-on in it.
fn names_app(failure: &Failure) -> bool {
    failure.text("resource") == Some("app")
}

fn resolved(addon: &Addon, attachment: Attachment, ambiguous_in_app: bool) -> Resolved {
    Resolved {
        addon_id: addon.id.clone(),
        addon: addon.name.clone(),
        app: attachment.app.name,
        attachment: attachment.name,
        ambiguous_in_app,
    }
}

fn unusable(detail: String) -> Cause {
    Cause::ProviderUnavailable {
        api: Api::Heroku.as_str(),
        detail,
    }
}

/// Whether a word can't be an app's name, or is made as the service's add-ons are.
fn looks_like_addon(word: &str, service: &str) -> bool {
    let of_service = word
        .strip_prefix(service)
        .is_some_and(|rest| rest.starts_with('-'));
    of_service || !is_app_name(word) || is_uuid(word)
}

/// Heroku's rule: 3 to 30 of a-z, 0-9 and dashes, a letter first, no dash last.
fn is_app_name(word: &str) -> bool {
    (3..=30).contains(&word.len())
        && word.starts_with(|c: char| c.is_ascii_lowercase())
        && !word.ends_with('-')
        && word
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn is_uuid(word: &str) -> bool {
    word.len() == 36
        && word.bytes().enumerate().all(|(at, b)| match at {
            8 | 13 | 18 | 23 => b == b'-',
            _ => b.is_ascii_hexdigit(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_word_looks_like() {
        for app in [
            "sushi",
            "borealis-pg",
            "borealis-pgx",
            "a-1",
            "b0realis-pg-hex-1",
        ] {
            assert!(!looks_like_addon(app, "borealis-pg"), "{app}");
        }
        for addon in [
            "borealis-pg-hex-12345",
            "BOREALIS_PG_MAROON",
            "maroon_x",
            "ab",
            "1abc",
            "abc-",
            "01234567-89ab-cdef-0123-456789abcdef",
            "a1234567-89ab-cdef-0123-456789abcdef",
        ] {
            assert!(looks_like_addon(addon, "borealis-pg"), "{addon}");
        }
    }
}
