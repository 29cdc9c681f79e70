//! What the user typed, and what it became.

/// What the user wants reached.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// An app that has one add-on of ours (`-a`).
    App(String),
    /// An add-on's or attachment's name or id, looked for in one app (`-a -o`, `APP::ADDON`).
    AppAddon {
        /// The app's name.
        app: String,
        /// The add-on's or attachment's name or id.
        addon: String,
    },
    /// An add-on's or attachment's name or id (`-o`).
    Addon(String),
    /// One word that may be an app or an add-on: an app where there is one of that name.
    Word(String),
}

/// A target after the provider was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// Heroku's id of the add-on.
    pub addon_id: String,
    /// The add-on's name, which the provider's paths are made of.
    pub addon: String,
    /// The app it was found through.
    pub app: String,
    /// The attachment's name in that app.
    pub attachment: String,
    /// Whether the app has several add-ons of ours, so that the attachment belongs into
    /// the session's name.
    pub ambiguous_in_app: bool,
}

// === impl Target ===

impl Target {
    /// From what a user can type: a word, `APP::ADDON`, an app and an add-on apart. `None`
    /// where nothing was named.
    pub fn from_parts(name: &str, app: &str, addon: &str) -> Option<Self> {
        let owned = str::to_owned;
        match (name.trim(), app.trim(), addon.trim()) {
            ("", "", "") => None,
            ("", app, "") => Some(Self::App(owned(app))),
            ("", "", addon) => Some(Self::Addon(owned(addon))),
            ("", app, addon) => Some(Self::AppAddon {
                app: owned(app),
                addon: owned(addon),
            }),
            (name, app, addon) => Some(match (name.split_once("::"), app, addon) {
                (Some((app, addon)), _, _) if !app.is_empty() && !addon.is_empty() => {
                    Self::AppAddon {
                        app: owned(app),
                        addon: owned(addon),
                    }
                }
                (_, "", "") => Self::Word(owned(name)),
                // A word beside -o is the app, beside -a the add-on.
                (_, "", addon) => Self::AppAddon {
                    app: owned(name),
                    addon: owned(addon),
                },
                (_, app, _) => Self::AppAddon {
                    app: owned(app),
                    addon: owned(name),
                },
            }),
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::App(word) | Self::Addon(word) | Self::Word(word) => f.write_str(word),
            Self::AppAddon { app, addon } => write!(f, "{app}::{addon}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_target() {
        let app_addon = || {
            Some(Target::AppAddon {
                app: "ramen".into(),
                addon: "MAROON".into(),
            })
        };
        assert_eq!(Target::from_parts("", "", ""), None);
        assert_eq!(
            Target::from_parts("sushi", "", ""),
            Some(Target::Word("sushi".into()))
        );
        assert_eq!(
            Target::from_parts("", "sushi", ""),
            Some(Target::App("sushi".into()))
        );
        assert_eq!(
            Target::from_parts("", "", "MAROON"),
            Some(Target::Addon("MAROON".into()))
        );
        assert_eq!(Target::from_parts("ramen::MAROON", "", ""), app_addon());
        assert_eq!(Target::from_parts("", "ramen", "MAROON"), app_addon());
        assert_eq!(Target::from_parts("ramen", "", "MAROON"), app_addon());
        assert_eq!(Target::from_parts("MAROON", "ramen", ""), app_addon());
    }
}
