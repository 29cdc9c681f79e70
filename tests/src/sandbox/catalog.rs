//! The apps and add-ons that a sandbox begins with, as plain data.

use serde::{Deserialize, Serialize};

/// Everything that a fresh sandbox's Heroku account can see.
#[derive(Debug, Clone)]
pub struct Catalog {
    /// The account's apps.
    pub apps: Vec<AppSpec>,
}

/// An app.
#[derive(Debug, Clone)]
pub struct AppSpec {
    /// Its name.
    pub name: String,
    /// The add-ons that were made for it.
    pub addons: Vec<AddonSpec>,
    /// Add-ons of other apps that are attached to it too.
    pub shared: Vec<SharedSpec>,
}

/// An add-on and its attachment to the app that it was made for.
#[derive(Debug, Clone)]
pub struct AddonSpec {
    /// The add-on's name.
    pub name: String,
    /// The attachment's name.
    pub attachment: String,
    /// Whose add-on it is.
    pub service: ServiceSpec,
}

/// Whose add-on it is.
#[derive(Debug, Clone)]
pub enum ServiceSpec {
    /// A Borealis Isolated Postgres add-on.
    Borealis {
        /// The database's name.
        database: String,
        /// What it is doing at the start.
        state: AddonState,
        /// What is in the database.
        content: Content,
        /// Which name its config variable has.
        config_variable: ConfigVariable,
    },
    /// Any other service's.
    Other {
        /// The service's name.
        service: String,
        /// The plan's name.
        plan: String,
    },
}

/// What is in a new database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Nothing.
    Empty,
    /// A restaurant's tables, and a view for bulk reads.
    Restaurant,
}

/// The two names that the app's connection variable has had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigVariable {
    /// `<ATTACHMENT>_TUNNEL_BPG_CONN_INFO`
    Current,
    /// `<ATTACHMENT>_SSH_TUNNEL_BPG_CONNECTION_INFO`
    Older,
}

/// What an add-on is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum AddonState {
    /// Everything works.
    Available,
    /// Not there yet: 422.
    Provisioning,
    /// A new PostgreSQL major version is being put in: 423.
    Upgrading,
    /// Personal users are locked out, for storage: 403.
    Revoked,
    /// Users can't be reset, versions can't be upgraded: 400 and 409.
    Maintenance,
}

/// An attachment to an app that the add-on wasn't made for.
#[derive(Debug, Clone)]
pub struct SharedSpec {
    /// The add-on's name.
    pub addon: String,
    /// The attachment's name in this app.
    pub attachment: String,
}

// === impl Catalog ===

impl Default for Catalog {
    fn default() -> Self {
        use AddonState as S;
        Self {
            apps: vec![
                AppSpec::new("sushi")
                    .addon(
                        AddonSpec::borealis("borealis-pg-hex-12345", "DATABASE", "d4f0")
                            .content(Content::Restaurant),
                    )
                    .addon(AddonSpec::other(
                        "redis-cubic-10293",
                        "REDIS",
                        "heroku-redis",
                        "heroku-redis:mini",
                    )),
                AppSpec::new("ramen")
                    .addon(AddonSpec::borealis(
                        "borealis-pg-oval-23456",
                        "BOREALIS_PG_MAROON",
                        "d7a1",
                    ))
                    .addon(
                        AddonSpec::borealis("borealis-pg-cube-34567", "BOREALIS_PG_NAVY", "d2c9")
                            .config_variable(ConfigVariable::Older),
                    ),
                AppSpec::new("udon"),
                AppSpec::new("soba").addon(AddonSpec::other(
                    "papertrail-flat-48151",
                    "PAPERTRAIL",
                    "papertrail",
                    "papertrail:choklad",
                )),
                AppSpec::new("tempura").addon(
                    AddonSpec::borealis("borealis-pg-cone-45678", "DATABASE", "d9b3")
                        .state(S::Provisioning),
                ),
                AppSpec::new("miso").addon(
                    AddonSpec::borealis("borealis-pg-ring-56789", "DATABASE", "d1e8")
                        .state(S::Upgrading),
                ),
                AppSpec::new("wasabi").addon(
                    AddonSpec::borealis("borealis-pg-star-67890", "DATABASE", "d6f5")
                        .state(S::Revoked),
                ),
            ],
        }
    }
}

impl Catalog {
    /// The same with one more app.
    #[must_use]
    pub fn app(mut self, app: AppSpec) -> Self {
        self.apps.push(app);
        self
    }
}

// === impl AppSpec ===

impl AppSpec {
    /// An app without add-ons.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            addons: Vec::new(),
            shared: Vec::new(),
        }
    }

    /// The same with one more add-on.
    #[must_use]
    pub fn addon(mut self, addon: AddonSpec) -> Self {
        self.addons.push(addon);
        self
    }

    /// The same with another app's add-on attached.
    #[must_use]
    pub fn shares(mut self, addon: &str, attachment: &str) -> Self {
        self.shared.push(SharedSpec {
            addon: addon.to_owned(),
            attachment: attachment.to_owned(),
        });
        self
    }
}

// === impl AddonSpec ===

impl AddonSpec {
    /// An available, empty add-on of ours.
    pub fn borealis(name: &str, attachment: &str, database: &str) -> Self {
        Self {
            name: name.to_owned(),
            attachment: attachment.to_owned(),
            service: ServiceSpec::Borealis {
                database: database.to_owned(),
                state: AddonState::Available,
                content: Content::Empty,
                config_variable: ConfigVariable::Current,
            },
        }
    }

    /// Another service's add-on.
    pub fn other(name: &str, attachment: &str, service: &str, plan: &str) -> Self {
        Self {
            name: name.to_owned(),
            attachment: attachment.to_owned(),
            service: ServiceSpec::Other {
                service: service.to_owned(),
                plan: plan.to_owned(),
            },
        }
    }

    /// The same in another state. No effect on another service's add-on.
    #[must_use]
    pub fn state(mut self, to: AddonState) -> Self {
        if let ServiceSpec::Borealis { state, .. } = &mut self.service {
            *state = to;
        }
        self
    }

    /// The same with other content. No effect on another service's add-on.
    #[must_use]
    pub fn content(mut self, to: Content) -> Self {
        if let ServiceSpec::Borealis { content, .. } = &mut self.service {
            *content = to;
        }
        self
    }

    /// The same with the other config variable. No effect on another service's add-on.
    #[must_use]
    pub fn config_variable(mut self, to: ConfigVariable) -> Self {
        if let ServiceSpec::Borealis {
            config_variable, ..
        } = &mut self.service
        {
            *config_variable = to;
        }
        self
    }
}

// === impl ConfigVariable ===

impl ConfigVariable {
    /// The variable's name for an attachment.
    pub fn name(self, attachment: &str) -> String {
        match self {
            Self::Current => format!("{attachment}_TUNNEL_BPG_CONN_INFO"),
            Self::Older => format!("{attachment}_SSH_TUNNEL_BPG_CONNECTION_INFO"),
        }
    }
}
