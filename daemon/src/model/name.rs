//! Names of sessions: `[a-z0-9][a-z0-9._-]*`.

use std::fmt;

use super::{Access, Role, Target};

/// A session's name. It is also the user that a client logs in as, and a directory's
/// name, so its form and length are checked once, here.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionName(String);

/// Why a text is no session name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Empty, or a character outside the allowed set.
    #[error(
        "session names are made of a-z, 0-9, '.', '_' and '-' and begin with a letter or digit, and {0:?} isn't"
    )]
    Form(String),
    /// Longer than [`SessionName::MAX_LENGTH`].
    #[error("session names have at most {max} characters, and {0:?} has more", max = SessionName::MAX_LENGTH)]
    Length(String),
}

// === impl SessionName ===

impl SessionName {
    /// PostgreSQL cuts user names at 63 bytes, and libpq's clients show the name as a user.
    pub const MAX_LENGTH: usize = 63;

    /// Checks a name that somebody typed.
    ///
    /// # Errors
    /// When the form or the length is wrong.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let mut bytes = text.bytes();
        let starts = bytes
            .next()
            .is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let goes_on = bytes.all(|b| {
            b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-')
        });
        if !starts || !goes_on {
            return Err(NameError::Form(text.to_owned()));
        }
        if text.len() > Self::MAX_LENGTH {
            return Err(NameError::Length(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }

    /// The name a session gets where the user gives none: the app, the attachment where
    /// the app has several add-ons of ours, `-app` for the app's role, `-rw` for write access.
    ///
    /// # Errors
    /// When the parts make no valid name, which Heroku's own naming rules exclude but for
    /// the length.
    pub fn derive(
        app: &str,
        attachment: Option<&str>,
        role: Role,
        access: Access,
    ) -> Result<Self, NameError> {
        let mut name = app.to_lowercase();
        if let Some(attachment) = attachment {
            name.push('.');
            name.push_str(&attachment.to_lowercase());
        }
        if role == Role::App {
            name.push_str("-app");
        }
        if access == Access::ReadWrite {
            name.push_str("-rw");
        }
        Self::parse(&name)
    }

    /// The same for a target that was not looked up yet.
    ///
    /// # Errors
    /// As [`SessionName::derive`]; what names an add-on by its id may be in a wrong form.
    pub fn provisional(target: &Target, role: Role, access: Access) -> Result<Self, NameError> {
        let (app, attachment) = match target {
            Target::App(word) | Target::Addon(word) | Target::Word(word) => (word, None),
            Target::AppAddon { app, addon } => (app, Some(addon.as_str())),
        };
        Self::derive(app, attachment, role, access)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SessionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_names_follow_the_contract() {
        let derive = |attachment, role, access| {
            SessionName::derive("sushi", attachment, role, access).map(|n| n.to_string())
        };
        let name = |text: &str| Ok(text.to_owned());
        assert_eq!(
            derive(None, Role::Personal, Access::ReadOnly),
            name("sushi")
        );
        assert_eq!(
            derive(None, Role::Personal, Access::ReadWrite),
            name("sushi-rw")
        );
        assert_eq!(
            derive(None, Role::App, Access::ReadWrite),
            name("sushi-app-rw")
        );
        assert_eq!(
            derive(Some("BOREALIS_PG_MAROON"), Role::Personal, Access::ReadOnly),
            name("sushi.borealis_pg_maroon")
        );
    }

    #[test]
    fn names_that_could_leave_their_directory_are_refused() {
        for bad in [
            "", ".", "..", "../x", "a/b", "-a", "_a", "A", "a b", "a\0b", "é",
        ] {
            assert!(SessionName::parse(bad).is_err(), "{bad:?}");
        }
        assert!(SessionName::parse(&"a".repeat(63)).is_ok());
        assert!(SessionName::parse(&"a".repeat(64)).is_err());
    }
}
