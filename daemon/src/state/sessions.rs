//! `state.json`: the sessions that are known by name, open or closed. The structs of the
//! file are private to this module, so that the file's form and the model can change
//! apart. A new field is optional; a change of meaning raises [`VERSION`], gets a reader
//! for the old form and keeps an old file as a test.

use std::{collections::BTreeSet, path::Path, sync::Arc, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    Lock, Problem,
    disk::{self, Found},
    writer::Writer,
};
use crate::model::{Access, Cause, Expiry, Mode, Resolved, Role, SessionName, Target};

const VERSION: u32 = 1;
const FILE: &str = "state.json";

/// A session as it survives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedSession {
    /// Its name, which no other has.
    pub name: SessionName,
    /// What the user asked for.
    pub target: Target,
    /// What that was when the provider was last asked; `None` if it never could be.
    pub resolved: Option<Resolved>,
    /// Whose database user it logs in as.
    pub role: Role,
    /// What that may do.
    pub access: Access,
    /// Who logs in.
    pub mode: Mode,
    /// Its local TCP port, kept while it is closed.
    pub port: u16,
    /// The database's name, once known.
    pub database: Option<String>,
    /// Whether it is to be up.
    pub openness: Openness,
    /// Who wants it.
    pub origin: Origin,
    /// When it closes by itself.
    pub expiry: Option<Expiry>,
}

/// Whether the user wants a session up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Openness {
    /// It is opened again when the daemon starts.
    Open,
    /// Only its port and password are remembered, for when it is opened again.
    Closed {
        /// Since when.
        at: Timestamp,
    },
}

/// Who wants a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The config file declares it.
    Declared,
    /// Somebody opened it.
    User,
}

/// What the file holds.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub(super) sessions: Vec<SavedSession>,
    /// Entries that can't be read here: by another version, or damaged. They stay in the file
    /// as they are.
    pub(super) kept_verbatim: Vec<serde_json::Value>,
}

/// Writes the sessions. Holds the lock on the state directory; dropping it waits for the
/// last write.
#[derive(Debug)]
pub struct SessionStore {
    writer: Writer<Vec<SavedSession>>,
    _lock: Arc<Lock>,
}

// === impl SessionStore ===

impl SessionStore {
    pub(super) fn new(dir: &Path, lock: Arc<Lock>, kept_verbatim: Vec<serde_json::Value>) -> Self {
        let path = dir.join(FILE);
        Self {
            writer: Writer::new("state", move |sessions: &Vec<SavedSession>| {
                disk::replace(&path, &encode(&path, sessions, &kept_verbatim)?)
            }),
            _lock: lock,
        }
    }

    /// Replaces what is saved by this set, at once in the order of the calls and without
    /// blocking. The future ends when this set, or a later one, is on the disk; dropping
    /// it takes nothing back. A set that couldn't be saved is tried again by itself.
    ///
    /// # Errors
    /// [`Cause::StateUnwritable`]; the file then still has what it had before.
    pub fn save(
        &self,
        sessions: Vec<SavedSession>,
    ) -> impl Future<Output = Result<(), Cause>> + Send + use<> {
        let written = self.writer.put(sessions);
        async move {
            written.await.unwrap_or_else(|_| {
                Err(Cause::Internal {
                    detail: "the thread that writes the state has ended".to_owned(),
                })
            })
        }
    }

    /// Why the last write failed; `None` once one succeeded.
    pub fn problem(&self) -> Option<Cause> {
        self.writer.problem()
    }
}

/// Reads the sessions. An entry that can't be read is left where it is, and there is none; a
/// file that can't be is set aside.
pub(super) fn load(
    dir: &Path,
    now: Timestamp,
    problems: &mut Vec<Problem>,
) -> Result<Loaded, Cause> {
    let path = dir.join(FILE);
    let decoded = match disk::read_private(&path) {
        Found::Nothing => return Ok(Loaded::default()),
        Found::Contents(bytes) => decode(&bytes),
        Found::Unreadable(why) => Err(why),
    };
    match decoded {
        Ok((loaded, faults)) => {
            problems.extend(faults.into_iter().map(|fault| Problem {
                code: "session-not-read",
                sentence: format!("a session in {} can't be read: {fault}", path.display()),
                hint: "it is kept there as it is, for the borealisd that wrote it; to have it again, open it again".into(),
            }));
            Ok(loaded)
        }
        Err(why) => {
            disk::set_aside(&path, &why, now, problems)?;
            Ok(Loaded::default())
        }
    }
}

// === the file's form ===

#[derive(Deserialize)]
struct VersionOnly {
    version: u32,
}

#[derive(Serialize, Deserialize)]
struct Document {
    version: u32,
    /// Each is read for itself.
    sessions: Vec<serde_json::Value>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    name: String,
    target: TargetForm,
    #[serde(default)]
    resolved: Option<ResolvedForm>,
    role: RoleForm,
    access: AccessForm,
    mode: ModeForm,
    port: u16,
    #[serde(default)]
    database: Option<String>,
    /// `null` while it is open.
    #[serde(default)]
    closed_at: Option<Timestamp>,
    origin: OriginForm,
    #[serde(default)]
    expires_at: Option<Timestamp>,
    #[serde(default)]
    expiry_grace_ms: Option<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum TargetForm {
    App(String),
    AppAddon { app: String, addon: String },
    Addon(String),
    Word(String),
}

#[derive(Serialize, Deserialize)]
struct ResolvedForm {
    addon_id: String,
    addon: String,
    app: String,
    attachment: String,
    ambiguous_in_app: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RoleForm {
    Personal,
    App,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum AccessForm {
    ReadOnly,
    ReadWrite,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ModeForm {
    Managed,
    Passthrough,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum OriginForm {
    Declared,
    User,
}

fn encode(
    path: &Path,
    sessions: &[SavedSession],
    kept_verbatim: &[serde_json::Value],
) -> Result<Vec<u8>, Cause> {
    let failed = |error: serde_json::Error| disk::unwritable(path, &error.into());
    let entries = sessions.iter().map(Entry::from);
    let entries = entries.map(|entry| serde_json::to_value(&entry));
    // One that has been opened again since takes its place.
    let is_replaced = |value: &&serde_json::Value| {
        let name = value.get("name").and_then(serde_json::Value::as_str);
        sessions
            .iter()
            .any(|session| Some(session.name.as_str()) == name)
    };
    let verbatim = kept_verbatim.iter().filter(|value| !is_replaced(value));
    let document = Document {
        version: VERSION,
        sessions: entries
            .chain(verbatim.cloned().map(Ok))
            .collect::<Result<_, _>>()
            .map_err(failed)?,
    };
    let mut bytes = serde_json::to_vec_pretty(&document).map_err(failed)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// The sessions by name, and what is wrong with those that can't be read; or why the bytes are
/// no state at all.
fn decode(bytes: &[u8]) -> Result<(Loaded, Vec<String>), String> {
    let VersionOnly { version } =
        serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if version != VERSION {
        return Err(format!(
            "it has version {version}, and this borealisd knows version {VERSION}"
        ));
    }
    let document: Document = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let mut loaded = Loaded::default();
    let mut faults = Vec::new();
    let mut names = BTreeSet::new();
    for value in document.sessions {
        let read = Entry::deserialize(&value)
            .map_err(|error| error.to_string())
            .and_then(SavedSession::try_from)
            .and_then(|session| {
                if !names.insert(session.name.clone()) {
                    return Err(format!("there is another one named {}", session.name));
                }
                Ok(session)
            });
        match read {
            Ok(session) => loaded.sessions.push(session),
            Err(fault) => {
                let name = value.get("name").and_then(serde_json::Value::as_str);
                let name = name.map(|name| format!("{name:?}: ")).unwrap_or_default();
                faults.push(format!("{name}{fault}"));
                loaded.kept_verbatim.push(value);
            }
        }
    }
    loaded.sessions.sort_by(|a, b| a.name.cmp(&b.name));
    Ok((loaded, faults))
}

impl From<&SavedSession> for Entry {
    fn from(session: &SavedSession) -> Self {
        Self {
            name: session.name.to_string(),
            target: match session.target.clone() {
                Target::App(app) => TargetForm::App(app),
                Target::AppAddon { app, addon } => TargetForm::AppAddon { app, addon },
                Target::Addon(addon) => TargetForm::Addon(addon),
                Target::Word(word) => TargetForm::Word(word),
            },
            resolved: session.resolved.clone().map(|resolved| ResolvedForm {
                addon_id: resolved.addon_id,
                addon: resolved.addon,
                app: resolved.app,
                attachment: resolved.attachment,
                ambiguous_in_app: resolved.ambiguous_in_app,
            }),
            role: match session.role {
                Role::Personal => RoleForm::Personal,
                Role::App => RoleForm::App,
            },
            access: match session.access {
                Access::ReadOnly => AccessForm::ReadOnly,
                Access::ReadWrite => AccessForm::ReadWrite,
            },
            mode: match session.mode {
                Mode::Managed => ModeForm::Managed,
                Mode::Passthrough => ModeForm::Passthrough,
            },
            port: session.port,
            database: session.database.clone(),
            closed_at: match session.openness {
                Openness::Open => None,
                Openness::Closed { at } => Some(at),
            },
            origin: match session.origin {
                Origin::Declared => OriginForm::Declared,
                Origin::User => OriginForm::User,
            },
            expires_at: session.expiry.map(|expiry| expiry.at),
            expiry_grace_ms: session
                .expiry
                .map(|expiry| u64::try_from(expiry.grace.as_millis()).unwrap_or(u64::MAX)),
        }
    }
}

impl TryFrom<Entry> for SavedSession {
    type Error = String;

    fn try_from(entry: Entry) -> Result<Self, String> {
        if entry.port == 0 {
            return Err(format!("its session {:?} has no port", entry.name));
        }
        Ok(Self {
            name: SessionName::parse(&entry.name).map_err(|error| error.to_string())?,
            target: match entry.target {
                TargetForm::App(app) => Target::App(app),
                TargetForm::AppAddon { app, addon } => Target::AppAddon { app, addon },
                TargetForm::Addon(addon) => Target::Addon(addon),
                TargetForm::Word(word) => Target::Word(word),
            },
            resolved: entry.resolved.map(|resolved| Resolved {
                addon_id: resolved.addon_id,
                addon: resolved.addon,
                app: resolved.app,
                attachment: resolved.attachment,
                ambiguous_in_app: resolved.ambiguous_in_app,
            }),
            role: match entry.role {
                RoleForm::Personal => Role::Personal,
                RoleForm::App => Role::App,
            },
            access: match entry.access {
                AccessForm::ReadOnly => Access::ReadOnly,
                AccessForm::ReadWrite => Access::ReadWrite,
            },
            mode: match entry.mode {
                ModeForm::Managed => Mode::Managed,
                ModeForm::Passthrough => Mode::Passthrough,
            },
            port: entry.port,
            database: entry.database,
            openness: match entry.closed_at {
                None => Openness::Open,
                Some(at) => Openness::Closed { at },
            },
            origin: match entry.origin {
                OriginForm::Declared => Origin::Declared,
                OriginForm::User => Origin::User,
            },
            expiry: entry.expires_at.map(|at| Expiry {
                at,
                grace: entry
                    .expiry_grace_ms
                    .map_or(Expiry::GRACE, Duration::from_millis),
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    fn sushi() -> SavedSession {
        SavedSession {
            name: SessionName::parse("sushi").unwrap(),
            target: Target::Word("sushi".into()),
            resolved: Some(Resolved {
                addon_id: "01234567-89ab-cdef-0123-456789abcdef".into(),
                addon: "borealis-pg-hex-12345".into(),
                app: "sushi".into(),
                attachment: "DATABASE".into(),
                ambiguous_in_app: false,
            }),
            role: Role::Personal,
            access: Access::ReadOnly,
            mode: Mode::Managed,
            port: 15432,
            database: Some("d4f0".into()),
            openness: Openness::Open,
            origin: Origin::User,
            expiry: None,
        }
    }

    fn ramen() -> SavedSession {
        SavedSession {
            name: SessionName::parse("ramen.maroon-app-rw").unwrap(),
            target: Target::AppAddon {
                app: "ramen".into(),
                addon: "MAROON".into(),
            },
            resolved: None,
            role: Role::App,
            access: Access::ReadWrite,
            mode: Mode::Passthrough,
            port: 15433,
            database: None,
            openness: Openness::Closed {
                at: "2026-11-22T14:15:00Z".parse().unwrap(),
            },
            origin: Origin::Declared,
            expiry: Some(Expiry {
                at: "2026-11-22T15:15:00Z".parse().unwrap(),
                grace: Duration::from_millis(1500),
            }),
        }
    }

    fn load_from(dir: &Path) -> (Vec<SavedSession>, Vec<Problem>) {
        let mut problems = Vec::new();
        let now = "2026-11-22T17:37:57Z".parse().unwrap();
        (load(dir, now, &mut problems).unwrap().sessions, problems)
    }

    fn text(sessions: &[SavedSession]) -> String {
        String::from_utf8(encode(Path::new(""), sessions, &[]).unwrap()).unwrap()
    }

    fn read(bytes: &[u8]) -> Vec<SavedSession> {
        let (loaded, faults) = decode(bytes).unwrap();
        assert_eq!(faults, [""; 0]);
        loaded.sessions
    }

    fn store(dir: &Path) -> SessionStore {
        SessionStore::new(dir, Arc::new(Lock::take(dir).unwrap()), Vec::new())
    }

    #[tokio::test]
    async fn what_is_saved_is_loaded_by_name() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(load_from(dir.path()), (vec![], vec![]));
        let store = store(dir.path());
        store.save(vec![sushi(), ramen()]).await.unwrap();
        assert_eq!(load_from(dir.path()), (vec![ramen(), sushi()], vec![]));
        store.save(vec![]).await.unwrap();
        assert_eq!(load_from(dir.path()), (vec![], vec![]));
    }

    #[tokio::test]
    async fn a_failed_save_keeps_the_old_file_and_is_shown() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        store.save(vec![sushi()]).await.unwrap();
        fs::create_dir(dir.path().join(".state.json.new")).unwrap();
        let cause = store.save(vec![sushi(), ramen()]).await.unwrap_err();
        assert!(
            matches!(&cause, Cause::StateUnwritable { path, .. } if path.ends_with("state.json"))
        );
        assert_eq!(store.problem(), Some(cause));
        assert_eq!(load_from(dir.path()), (vec![sushi()], vec![]));
        fs::remove_dir(dir.path().join(".state.json.new")).unwrap();
        store.save(vec![sushi(), ramen()]).await.unwrap();
        assert_eq!(store.problem(), None);
    }

    /// A file as version 1 wrote it: it must be read for ever.
    #[test]
    fn version_1_is_read() {
        let file = r#"{"version": 1, "sessions": [
            {"name": "sushi", "target": {"word": "sushi"},
             "resolved": {"addon_id": "01234567-89ab-cdef-0123-456789abcdef", "addon": "borealis-pg-hex-12345",
                          "app": "sushi", "attachment": "DATABASE", "ambiguous_in_app": false},
             "role": "personal", "access": "read-only", "mode": "managed", "port": 15432,
             "database": "d4f0", "closed_at": null, "origin": "user", "expires_at": null},
            {"name": "ramen.maroon-app-rw", "target": {"app_addon": {"app": "ramen", "addon": "MAROON"}},
             "role": "app", "access": "read-write", "mode": "passthrough", "port": 15433,
             "closed_at": "2026-11-22T14:15:00Z", "origin": "declared",
             "expires_at": "2026-11-22T15:15:00Z", "a_later_field": 1}]}"#;
        // It knew of no grace.
        let expiry = ramen().expiry.map(|expiry| Expiry {
            grace: Expiry::GRACE,
            ..expiry
        });
        let ramen = SavedSession { expiry, ..ramen() };
        assert_eq!(read(file.as_bytes()), [ramen, sushi()]);
    }

    /// The others are read, and it is in the file after they were saved again.
    #[tokio::test]
    async fn one_bad_entry_is_set_aside_alone_and_kept() {
        let good = text(&[ramen(), sushi()]);
        for (from, to) in [
            ("\"sushi\"", "\"../sushi\""),
            ("15432", "0"),
            ("\"managed\"", "\"a-later-mode\""),
            ("\"sushi\"", "\"ramen.maroon-app-rw\""),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let bad = good.replace(from, to);
            assert_ne!(bad, good);
            fs::write(dir.path().join(FILE), &bad).unwrap();
            let mut problems = Vec::new();
            let now = "2026-11-22T17:37:57Z".parse().unwrap();
            let loaded = load(dir.path(), now, &mut problems).unwrap();
            assert_eq!(loaded.sessions, [ramen()], "{bad}");
            assert_eq!(problems.len(), 1);
            assert_eq!(problems[0].code, "session-not-read");
            let Loaded {
                sessions,
                kept_verbatim,
            } = loaded;
            let store = SessionStore::new(
                dir.path(),
                Arc::new(Lock::take(dir.path()).unwrap()),
                kept_verbatim,
            );
            store.save(sessions).await.unwrap();
            let after = fs::read_to_string(dir.path().join(FILE)).unwrap();
            let is_there = after.contains(to) && after.contains("15432") == (from != "15432");
            // One of a name that is known can't be there twice.
            assert_eq!(is_there, to != "\"ramen.maroon-app-rw\"", "{after}");
            // Opened again, it is as it is now.
            if from == "15432" {
                store.save(vec![sushi()]).await.unwrap();
                assert_eq!(load_from(dir.path()), (vec![sushi()], vec![]));
            }
        }
    }

    #[test]
    fn what_is_no_state_is_set_aside() {
        let good = text(&[sushi()]);
        for bad in [
            String::new(),
            "garbage".to_owned(),
            good[..good.len() / 2].to_owned(),
            good.replace("\"version\": 1", "\"version\": 2"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join(FILE), &bad).unwrap();
            let (sessions, problems) = load_from(dir.path());
            assert_eq!(sessions, [], "{bad}");
            assert_eq!(problems.len(), 1, "{bad}");
            assert_eq!(problems[0].code, "state-unreadable");
            let aside = dir.path().join("state.json.unreadable-20261122T173757Z");
            assert!(problems[0].hint.contains(aside.to_str().unwrap()));
            assert_eq!(fs::read_to_string(aside).unwrap(), bad);
            assert!(!dir.path().join(FILE).exists());
        }
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode(&bytes);
        }

        #[test]
        fn any_session_survives(
            app in ".*", addon in ".*", database in proptest::option::of(".*"),
            port in 1u16.., kind in 0..4u8, odd in any::<bool>(),
        ) {
            let mut session = if odd { ramen() } else { sushi() };
            session.target = match kind {
                0 => Target::App(app),
                1 => Target::AppAddon { app, addon },
                2 => Target::Addon(addon),
                _ => Target::Word(app),
            };
            session.database = database;
            session.port = port;
            let bytes = encode(Path::new(""), std::slice::from_ref(&session), &[]).unwrap();
            prop_assert_eq!(read(&bytes), [session]);
        }
    }
}
