//! The provider's state: who may ask, what was issued, which apps and add-ons there are.
//! Pure bookkeeping behind one lock that nobody holds for long; PostgreSQL and the bastion
//! are brought in line with it by `provider`.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::{
    SandboxError,
    catalog::{AddonState, AppSpec, Catalog, ConfigVariable, Content, ServiceSpec},
    database::{Access, AddonDatabase, Login},
    issue,
};

/// The service's name in Heroku's catalogue.
pub(crate) const SERVICE: &str = "borealis-pg";
const PLAN: &str = "borealis-pg:x9-basic";

/// Everything that the two APIs answer from.
pub(crate) struct World {
    pub(crate) users: Vec<User>,
    pub(crate) grants: Grants,
    pub(crate) apps: Vec<App>,
    pub(crate) addons: Vec<Addon>,
    pub(crate) attachments: Vec<Attachment>,
    /// Which add-on each restore token stands for.
    pub(crate) restore_tokens: HashMap<String, String>,
    pub(crate) secrets: Vec<Secret>,
}

/// A Heroku account.
#[derive(Clone)]
pub(crate) struct User {
    pub(crate) id: String,
    pub(crate) email: String,
    pub(crate) token: String,
    pub(crate) token_works: bool,
}

/// The short-lived authorizations.
#[derive(Default)]
pub(crate) struct Grants {
    pub(crate) created: u64,
    pub(crate) removed: u64,
    alive: HashMap<String, Grant>,
}

/// One of them.
#[derive(Clone)]
pub(crate) struct Grant {
    pub(crate) id: String,
    pub(crate) token: String,
    pub(crate) user: String,
    expires: Instant,
}

/// An app.
#[derive(Debug, Clone)]
pub(crate) struct App {
    pub(crate) id: String,
    pub(crate) name: String,
}

/// An add-on's binding to an app.
#[derive(Debug, Clone)]
pub(crate) struct Attachment {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) app: String,
    pub(crate) addon: String,
}

/// An add-on of any service.
#[derive(Clone)]
pub(crate) struct Addon {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) app: String,
    pub(crate) service: String,
    pub(crate) plan: String,
    pub(crate) created_at: Timestamp,
    /// Only the service's own have one.
    pub(crate) borealis: Option<Box<Borealis>>,
}

/// What there is more to a Borealis add-on.
#[derive(Clone)]
pub(crate) struct Borealis {
    pub(crate) state: AddonState,
    pub(crate) database: Arc<AddonDatabase>,
    pub(crate) config_variable: ConfigVariable,
    pub(crate) app_users: AppUsers,
    pub(crate) app_ssh: AppSsh,
    /// By e-mail.
    pub(crate) personal: BTreeMap<String, Personal>,
    pub(crate) integrations: Vec<Integration>,
    pub(crate) restored_from: Option<String>,
    pub(crate) personal_passwords_issued: u64,
    pub(crate) personal_keys_issued: u64,
    pub(crate) resets: u64,
}

/// The app's own two database users.
#[derive(Clone)]
pub(crate) struct AppUsers {
    pub(crate) read_only: Login,
    pub(crate) read_write: Login,
}

/// The app's own SSH user; its key is made when it is first asked for.
#[derive(Clone)]
pub(crate) struct AppSsh {
    pub(crate) username: String,
    pub(crate) private_key: Option<String>,
    pub(crate) jwt: String,
}

/// Names that a user keeps on an add-on.
#[derive(Debug, Clone)]
pub(crate) struct Personal {
    pub(crate) read_only: String,
    pub(crate) read_write: String,
    pub(crate) ssh: String,
}

/// A data integration.
#[derive(Debug, Clone)]
pub(crate) struct Integration {
    pub(crate) name: String,
    pub(crate) db_username: String,
    pub(crate) ssh_username: String,
    pub(crate) access: Access,
    pub(crate) created_at: Timestamp,
}

/// Something that must not be found anywhere that others can read.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Secret {
    /// What it is.
    pub kind: String,
    /// The text to search for.
    pub value: String,
}

/// Whose a bearer token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Bearer {
    /// A user's own.
    User(String),
    /// A short-lived authorization's.
    Grant(String),
}

// Full of secrets, and a part of things that are shown.
impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").finish_non_exhaustive()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret")
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

// === impl World ===

impl World {
    pub(crate) fn new(catalog: &Catalog) -> Self {
        let mut world = Self {
            users: Vec::new(),
            grants: Grants::default(),
            apps: Vec::new(),
            addons: Vec::new(),
            attachments: Vec::new(),
            restore_tokens: HashMap::new(),
            secrets: Vec::new(),
        };
        world.add_user("chef@example.com");
        for app in &catalog.apps {
            world.add_app(app);
        }
        for app in &catalog.apps {
            for shared in &app.shared {
                world.attach(&app.name, &shared.addon, &shared.attachment);
            }
        }
        world
    }

    /// Adds an account that sees the same apps; returns its token.
    pub(crate) fn add_user(&mut self, email: &str) -> String {
        let token = issue::user_token();
        self.note_secret("user token", &token);
        self.users.push(User {
            id: issue::id(),
            email: email.to_owned(),
            token: token.clone(),
            token_works: true,
        });
        token
    }

    fn add_app(&mut self, spec: &AppSpec) {
        self.apps.push(App {
            id: issue::id(),
            name: spec.name.clone(),
        });
        for addon in &spec.addons {
            let (service, plan, borealis) = match &addon.service {
                ServiceSpec::Other { service, plan } => (service.clone(), plan.clone(), None),
                ServiceSpec::Borealis {
                    database,
                    state,
                    content,
                    config_variable,
                } => {
                    let made = self.new_borealis(database, *state, *content, *config_variable);
                    (SERVICE.to_owned(), PLAN.to_owned(), Some(made))
                }
            };
            self.addons.push(Addon {
                id: issue::id(),
                name: addon.name.clone(),
                app: spec.name.clone(),
                service,
                plan,
                created_at: issue::now(),
                borealis,
            });
            self.attach(&spec.name, &addon.name, &addon.attachment);
        }
    }

    /// Adds an add-on of ours that is being provisioned; returns it.
    pub(crate) fn add_borealis(
        &mut self,
        app: &str,
        plan: &str,
        attachment: &str,
        restored_from: Option<String>,
    ) -> Addon {
        let mut borealis = self.new_borealis(
            &format!("d{}", issue::hex(8)),
            AddonState::Provisioning,
            Content::Empty,
            ConfigVariable::Current,
        );
        borealis.restored_from = restored_from;
        let addon = Addon {
            id: issue::id(),
            name: format!(
                "borealis-pg-{}-{}",
                issue::hex(5),
                10_000 + self.addons.len()
            ),
            app: app.to_owned(),
            service: SERVICE.to_owned(),
            plan: plan.to_owned(),
            created_at: issue::now(),
            borealis: Some(borealis),
        };
        self.addons.push(addon.clone());
        self.attach(app, &addon.name, attachment);
        addon
    }

    pub(crate) fn remove_addon(&mut self, name: &str) {
        self.addons.retain(|addon| addon.name != name);
        self.attachments
            .retain(|attachment| attachment.addon != name);
    }

    fn new_borealis(
        &mut self,
        database: &str,
        state: AddonState,
        content: Content,
        config_variable: ConfigVariable,
    ) -> Box<Borealis> {
        let jwt = issue::opaque_token();
        self.note_secret("app token", &jwt);
        Box::new(Borealis {
            state,
            database: Arc::new(AddonDatabase::new(database, content)),
            config_variable,
            app_users: self.new_app_users(),
            app_ssh: AppSsh {
                username: issue::role_name(),
                private_key: None,
                jwt,
            },
            personal: BTreeMap::new(),
            integrations: Vec::new(),
            restored_from: None,
            personal_passwords_issued: 0,
            personal_keys_issued: 0,
            resets: 0,
        })
    }

    /// New names and passwords for an app.
    pub(crate) fn new_app_users(&mut self) -> AppUsers {
        let suffix = issue::hex(8);
        let mut login = |short: &str, access| Login {
            username: format!("app_{short}_{suffix}"),
            password: self.new_password("app database password"),
            access,
        };
        AppUsers {
            read_only: login("ro", Access::ReadOnly),
            read_write: login("rw", Access::ReadWrite),
        }
    }

    /// A password that is remembered as a secret.
    pub(crate) fn new_password(&mut self, kind: &str) -> String {
        let password = issue::password();
        self.note_secret(kind, &password);
        password
    }

    fn attach(&mut self, app: &str, addon: &str, name: &str) {
        self.attachments.push(Attachment {
            id: issue::id(),
            name: name.to_owned(),
            app: app.to_owned(),
            addon: addon.to_owned(),
        });
    }

    pub(crate) fn reattach(
        &mut self,
        app: &str,
        name: &str,
        addon: &str,
    ) -> Result<(), SandboxError> {
        let addon = self.find_borealis(addon)?;
        let of_name = |attachment: &Attachment| attachment.app == app && attachment.name == name;
        if !self.attachments.iter().any(of_name) {
            return Err(SandboxError::Unknown {
                what: "attachment",
                name: format!("{app}::{name}"),
            });
        }
        self.attachments.retain(|attachment| !of_name(attachment));
        self.attach(app, &addon, name);
        Ok(())
    }

    pub(crate) fn app(&self, name_or_id: &str) -> Option<&App> {
        self.apps
            .iter()
            .find(|app| app.name == name_or_id || app.id == name_or_id)
    }

    pub(crate) fn addon(&self, name_or_id: &str) -> Option<&Addon> {
        self.addons
            .iter()
            .find(|addon| addon.name == name_or_id || addon.id == name_or_id)
    }

    /// The Borealis part of an add-on, by the add-on's name.
    pub(crate) fn borealis(&self, name: &str) -> Option<&Borealis> {
        self.addons
            .iter()
            .find(|addon| addon.name == name)?
            .borealis
            .as_deref()
    }

    pub(crate) fn borealis_mut(&mut self, name: &str) -> Option<&mut Borealis> {
        self.addons
            .iter_mut()
            .find(|addon| addon.name == name)?
            .borealis
            .as_deref_mut()
    }

    /// The name of the add-on of ours that a demo or a test names: by the add-on's own
    /// name, by an app that has one only, or as `APP::ATTACHMENT`.
    ///
    /// # Errors
    /// When there is none, or an app has several.
    pub(crate) fn find_borealis(&self, what: &str) -> Result<String, SandboxError> {
        let unknown = || SandboxError::Unknown {
            what: "app or add-on of ours",
            name: what.to_owned(),
        };
        if self.borealis(what).is_some() {
            return Ok(what.to_owned());
        }
        let (app, attachment) = match what.split_once("::") {
            Some((app, attachment)) => (app, Some(attachment)),
            None => (what, None),
        };
        let found: Vec<&Attachment> = self
            .attachments
            .iter()
            .filter(|a| a.app == app && attachment.is_none_or(|name| a.name == name))
            .filter(|a| self.borealis(&a.addon).is_some())
            .collect();
        match found.as_slice() {
            [] => Err(unknown()),
            [one] => Ok(one.addon.clone()),
            several => Err(SandboxError::failed(format!(
                "app {app} has several add-ons of ours; name one: {}",
                several
                    .iter()
                    .map(|a| format!("{app}::{}", a.name))
                    .collect::<Vec<_>>()
                    .join(", ")
            ))),
        }
    }

    /// The user's names on an add-on, made when they are first needed.
    pub(crate) fn personal(&mut self, addon: &str, email: &str) -> Option<Personal> {
        let personal = &mut self.borealis_mut(addon)?.personal;
        Some(
            personal
                .entry(email.to_owned())
                .or_insert_with(|| Personal {
                    read_only: issue::role_name(),
                    read_write: issue::role_name(),
                    ssh: issue::role_name(),
                })
                .clone(),
        )
    }

    /// Whose token it is, if it works.
    pub(crate) fn bearer(&self, token: &str) -> Option<Bearer> {
        if let Some(user) = self.users.iter().find(|u| u.token == token) {
            return user.token_works.then(|| Bearer::User(user.email.clone()));
        }
        self.grants
            .find(token)
            .map(|grant| Bearer::Grant(grant.user.clone()))
    }

    pub(crate) fn user(&self, email: &str) -> Option<&User> {
        self.users.iter().find(|user| user.email == email)
    }

    /// Remembers something to search logs for. A private key is remembered line by line,
    /// as it would be found in a log of any form.
    pub(crate) fn note_secret(&mut self, kind: &str, value: &str) {
        for line in value.lines().filter(|line| {
            // What all OpenSSH keys begin with is no secret, and their ends are too short
            // to be told from anything else.
            !line.starts_with("-----") && !line.starts_with("b3BlbnNzaC1rZXkt") && line.len() >= 20
        }) {
            self.secrets.push(Secret {
                kind: kind.to_owned(),
                value: line.to_owned(),
            });
        }
    }
}

// === impl Borealis ===

impl Borealis {
    /// The app's users as roles.
    pub(crate) fn app_logins(&self) -> [Login; 2] {
        [
            self.app_users.read_only.clone(),
            self.app_users.read_write.clone(),
        ]
    }

    /// Every personal role's name.
    pub(crate) fn personal_roles(&self) -> Vec<String> {
        self.personal
            .values()
            .flat_map(|p| [p.read_only.clone(), p.read_write.clone()])
            .collect()
    }
}

// === impl Personal ===

impl Personal {
    pub(crate) fn role(&self, access: Access) -> &str {
        match access {
            Access::ReadOnly => &self.read_only,
            Access::ReadWrite => &self.read_write,
        }
    }
}

// === impl Grants ===

impl Grants {
    pub(crate) fn add(&mut self, user: &str, lasts: Duration) -> Grant {
        let grant = Grant {
            id: issue::id(),
            token: issue::opaque_token(),
            user: user.to_owned(),
            expires: Instant::now() + lasts,
        };
        self.created += 1;
        self.alive.insert(grant.id.clone(), grant.clone());
        grant
    }

    /// Removes it; whether it was there, and the user's.
    pub(crate) fn remove(&mut self, id: &str, user: &str) -> bool {
        let theirs = self.alive.get(id).is_some_and(|g| g.user == user);
        if theirs {
            self.alive.remove(id);
            self.removed += 1;
        }
        theirs
    }

    /// How many were made and never removed, expired or not.
    pub(crate) fn outstanding(&self) -> usize {
        self.alive.len()
    }

    /// Makes those there are worthless, as after their time.
    pub(crate) fn expire_all(&mut self) {
        let now = Instant::now();
        for grant in self.alive.values_mut() {
            grant.expires = now;
        }
    }

    fn find(&self, token: &str) -> Option<&Grant> {
        let now = Instant::now();
        self.alive
            .values()
            .find(|grant| grant.token == token && grant.expires > now)
    }
}
