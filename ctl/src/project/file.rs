//! What `borealis.toml` says: the sessions of a project.

use std::path::Path;

use borealis_proto::{
    settings_file::{ConfigError, Section, Source},
    v1::{self, Access, Role},
};

/// A session that the project lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// What to reach, as a user would type it.
    pub(crate) target: String,
    /// Its name, where it isn't to be derived.
    pub(crate) name: Option<String>,
    /// What it may do.
    pub(crate) access: Access,
    /// Whose database user.
    pub(crate) role: Role,
    /// Its local port, where it isn't to be picked.
    pub(crate) port: Option<u16>,
    /// What commands mean that name nothing.
    pub(crate) is_default: bool,
    /// Where it stands in the file, counted from 1.
    pub(crate) line: usize,
}

const KEYS: [&str; 6] = ["target", "default", "name", "access", "role", "port"];
/// Keys of the format that need what this version doesn't have.
const LATER: [&str; 4] = ["lazy", "idle_timeout", "guard", "listen"];

/// As many characters as the daemon takes.
const LONGEST_NAME: usize = 63;

// === impl Entry ===

impl Entry {
    /// What to ask the daemon for.
    pub(crate) fn as_target(&self) -> v1::Target {
        v1::Target {
            name: self.target.clone(),
            ..v1::Target::default()
        }
    }

    /// What the session is called, as far as that is known before its target is looked up.
    pub(crate) fn session_name(&self) -> String {
        let parts = self.target.split_once("::");
        let (app, attachment) = match parts {
            Some((app, attachment)) => (app, Some(attachment)),
            None => (self.target.as_str(), None),
        };
        self.name
            .clone()
            .unwrap_or_else(|| self.derived(app, attachment))
    }

    /// The one of these that is this session: what was opened for it, or would be. A session of
    /// the same name that is something else isn't.
    pub(crate) fn among<'a>(&self, sessions: &'a [v1::Session]) -> Option<&'a v1::Session> {
        sessions.iter().find(|session| {
            self.has_name_of(session)
                && self.leads_to(session)
                && session.access() == self.access
                && session.role() == self.role
                && session.mode() == v1::Mode::Managed
        })
    }

    /// Whether a session has the name that this one has, or would get.
    pub(crate) fn has_name_of(&self, session: &v1::Session) -> bool {
        if session.name == self.session_name() {
            return true;
        }
        let attachment = Some(session.attachment.as_str());
        self.name.is_none()
            && self.leads_to(session)
            && [None, attachment]
                .iter()
                .any(|attachment| session.name == self.derived(&session.app, *attachment))
    }

    /// Whether a session is open for this target. One whose target was never looked up has
    /// nothing but its name.
    fn leads_to(&self, session: &v1::Session) -> bool {
        let is_addon =
            |word: &str| word == session.addon || word.eq_ignore_ascii_case(&session.attachment);
        match self.target.split_once("::") {
            _ if session.app.is_empty() => true,
            Some((app, addon)) => app == session.app && (is_addon(addon) || is_id(addon)),
            None => self.target == session.app || is_addon(&self.target) || is_id(&self.target),
        }
    }

    fn derived(&self, app: &str, attachment: Option<&str>) -> String {
        let mut name = app.to_lowercase();
        if let Some(attachment) = attachment {
            name.push('.');
            name.push_str(&attachment.to_lowercase());
        }
        if self.role == Role::App {
            name.push_str("-app");
        }
        if self.access == Access::ReadWrite {
            name.push_str("-rw");
        }
        name
    }
}

/// Whether a word is an add-on's id, a UUID, which the API doesn't show.
fn is_id(word: &str) -> bool {
    word.len() == 36
        && word
            .bytes()
            .all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
}

/// The sessions of a project file's text.
///
/// # Errors
/// Which key or value isn't accepted, where it stands, and what is.
pub(super) fn parse(file: &Path, text: &str) -> Result<Vec<Entry>, ConfigError> {
    let source = Source { file, text };
    let table = source.parse()?;
    let top = source.root(&table);
    top.only(&["session"])?;
    let sections = top.require("session", "tables headed [[session]]")?;
    let mut entries: Vec<Entry> = Vec::new();
    for section in sections.sections("session.")? {
        let entry = entry(&section)?;
        refuse_twice(&section, &entry, &entries)?;
        entries.push(entry);
    }
    Ok(entries)
}

fn entry(section: &Section<'_>) -> Result<Entry, ConfigError> {
    const TARGETS: &str = r#"an app, an add-on or both, such as "sushi", "borealis-pg-hex-12345" or "sushi::BOREALIS_PG_MAROON""#;
    if let Some(later) = LATER.iter().find(|key| section.get(key).is_some()) {
        return Err(section.error_at_key(
            later,
            format!("session.{later} is not known to this version of borealisctl yet; leave it out, or install a later version"),
        ));
    }
    section.only(&KEYS)?;
    let mut entry = Entry {
        target: section
            .require("target", TARGETS)?
            .text(TARGETS)?
            .to_owned(),
        name: None,
        access: Access::ReadOnly,
        role: Role::Personal,
        port: None,
        is_default: false,
        line: section.line(),
    };
    if let Some(value) = section.get("access") {
        entry.access = value.word(&[
            ("read-only", Access::ReadOnly),
            ("read-write", Access::ReadWrite),
        ])?;
    }
    if let Some(value) = section.get("role") {
        entry.role = value.word(&[("personal", Role::Personal), ("app", Role::App)])?;
    }
    if let Some(value) = section.get("port") {
        entry.port = Some(value.number(1..=u16::MAX)?);
    }
    if let Some(value) = section.get("default") {
        entry.is_default = value.flag()?;
    }
    if let Some(value) = section.get("name") {
        let accepted = format!(
            "a name of a-z, 0-9, '.', '_' and '-' that begins with a letter or digit, at most {LONGEST_NAME} characters"
        );
        let name = value.text(&accepted)?;
        if !is_name(name) {
            return Err(value.refuse(accepted));
        }
        entry.name = Some(name.to_owned());
    }
    if entry.name.is_none() && entry.target.split("::").any(is_id) {
        return Err(section.error_at(
            "target",
            "an add-on's id makes no name; accepted: a name of its own beside it, or the add-on's name",
        ));
    }
    Ok(entry)
}

/// Refuses what only one session of a file can have.
fn refuse_twice(
    section: &Section<'_>,
    entry: &Entry,
    earlier: &[Entry],
) -> Result<(), ConfigError> {
    let name = entry.session_name();
    if let Some(other) = earlier.iter().find(|other| other.session_name() == name) {
        let key = if entry.name.is_some() {
            "name"
        } else {
            "target"
        };
        return Err(section.error_at(
            key,
            format!(
                "this [[session]] is called \"{name}\", as the one for {} above; accepted: a name of its own for each",
                other.target
            ),
        ));
    }
    if let Some(port) = entry.port
        && let Some(other) = earlier.iter().find(|other| other.port == Some(port))
    {
        return Err(section.error_at(
            "port",
            format!(
                "session.port = {port} is the port of the [[session]] for {} already; accepted: a port of its own for each, or none to have one picked",
                other.target
            ),
        ));
    }
    if entry.is_default && earlier.iter().any(|other| other.is_default) {
        return Err(section.error_at(
            "default",
            "another [[session]] above is the default already; accepted: default = true in one of them",
        ));
    }
    Ok(())
}

fn is_name(text: &str) -> bool {
    let is_first = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    text.len() <= LONGEST_NAME
        && text.bytes().next().is_some_and(is_first)
        && text
            .bytes()
            .all(|byte| is_first(byte) || matches!(byte, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Entry>, String> {
        parse(Path::new("/p/borealis.toml"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn the_contracts_example() {
        let text = "[[session]]\ntarget = \"sushi\"\ndefault = true\n\n[[session]]\n\
                    target = \"ramen::BOREALIS_PG_MAROON\"\naccess = \"read-write\"\nport = 15499\nrole = \"app\"\n";
        let entries = read(text).unwrap();
        let sushi = Entry {
            target: "sushi".into(),
            name: None,
            access: Access::ReadOnly,
            role: Role::Personal,
            port: None,
            is_default: true,
            line: 1,
        };
        let ramen = Entry {
            target: "ramen::BOREALIS_PG_MAROON".into(),
            access: Access::ReadWrite,
            role: Role::App,
            port: Some(15499),
            is_default: false,
            line: 5,
            ..sushi.clone()
        };
        assert_eq!(entries, [sushi, ramen]);
        assert_eq!(entries[1].session_name(), "ramen.borealis_pg_maroon-app-rw");
    }

    #[test]
    fn what_is_not_accepted_is_told_with_its_place_and_what_is() {
        let one = |line: &str| format!("[[session]]\ntarget = \"sushi\"\n{line}\n");
        for (text, told) in [
            (
                one("acces = \"read-only\""),
                ":3:1: there is no key session.acces (did you mean access?); accepted in [session]: target, default, name, access, role, port",
            ),
            (
                one("access = \"rw\""),
                ":3:10: session.access = \"rw\" is not accepted; accepted: \"read-only\", \"read-write\"",
            ),
            (
                one("default = 1"),
                ":3:11: session.default = 1 is not accepted; accepted: true, false",
            ),
            (
                one("port = 70000"),
                ":3:8: session.port = 70000 is not accepted; accepted: a whole number from 1 to 65535",
            ),
            (
                one("name = \"A\""),
                ":3:8: session.name = \"A\" is not accepted; accepted: a name of",
            ),
            (
                one("password = \"x\""),
                ":3:1: there is no key session.password",
            ),
            (
                one("mode = \"passthrough\""),
                ":3:1: there is no key session.mode",
            ),
            (
                "[[session]]\n".into(),
                ":1:1: session.target is missing; accepted: an app",
            ),
            ("target = 1\n".into(), ":1:1: there is no key target"),
            (
                String::new(),
                "session is missing; accepted: tables headed [[session]]",
            ),
            ("[[session]\n".into(), "this is not valid TOML"),
            (
                one("default = true\n[[session]]\ntarget = \"ramen\"\ndefault = true"),
                ":6:11: another [[session]] above is the default already",
            ),
            (
                one("[[session]]\ntarget = \"sushi\""),
                ":4:10: this [[session]] is called \"sushi\"",
            ),
            (
                one("port = 1\n[[session]]\ntarget = \"ramen\"\nport = 1"),
                ":6:8: session.port = 1 is the port of",
            ),
        ] {
            let found = read(&text).unwrap_err();
            assert!(
                found.starts_with("/p/borealis.toml") && found.contains(told),
                "{text}: {found}"
            );
        }
    }

    #[test]
    fn keys_of_a_later_version_are_told_as_such() {
        for line in [
            "lazy = true",
            "idle_timeout = \"30m\"",
            "guard = { lock_timeout = \"1s\" }",
            "listen = \"172.17.0.1\"",
        ] {
            let key = line.split(' ').next().unwrap();
            let found = read(&format!("[[session]]\ntarget = \"sushi\"\n{line}\n")).unwrap_err();
            let told = format!(
                ":3:1: session.{key} is not known to this version of borealisctl yet; leave it out"
            );
            assert!(found.contains(&told), "{found}");
        }
    }

    #[test]
    fn only_a_session_that_is_the_same_is_the_projects() {
        let open = v1::Session {
            name: "ramen-rw".into(),
            app: "ramen".into(),
            addon: "borealis-pg-hex-1".into(),
            attachment: "BOREALIS_PG_MAROON".into(),
            access: Access::ReadWrite.into(),
            role: Role::Personal.into(),
            mode: v1::Mode::Managed.into(),
            ..v1::Session::default()
        };
        let entry = |text: &str| read(&format!("[[session]]\n{text}")).unwrap().remove(0);
        let is_meant = |text: &str| entry(text).among(std::slice::from_ref(&open)).is_some();
        let rw = "access = \"read-write\"\n";
        for target in ["ramen", "ramen::BOREALIS_PG_MAROON", "borealis-pg-hex-1"] {
            assert!(is_meant(&format!("{rw}target = \"{target}\"")), "{target}");
            assert!(!is_meant(&format!("target = \"{target}\"")), "{target}");
        }
        assert!(is_meant(&format!(
            "{rw}target = \"ramen\"\nname = \"ramen-rw\""
        )));
        assert!(!is_meant(&format!(
            "{rw}target = \"ramen\"\nname = \"other\""
        )));
        // Another project's, which only has the name.
        assert!(!is_meant(&format!(
            "{rw}target = \"udon\"\nname = \"ramen-rw\""
        )));
        assert!(!is_meant(&format!("{rw}target = \"ramen::OTHER\"")));
        assert!(!is_meant(&format!(
            "{rw}role = \"app\"\ntarget = \"ramen\""
        )));
    }
}
