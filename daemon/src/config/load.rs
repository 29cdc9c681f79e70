//! The keys of `config.toml`: what each means, its bounds, and which go together.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use borealis_proto::settings_file::{Entry, Section, Source};

use super::{Config, ConfigError, DeclaredSession, PortRange, UpstreamTls};
use crate::{
    model::{Access, Mode, Role, SessionName, Target},
    platform::file,
};

/// More than any config has.
const LONGEST: u64 = 1 << 20;

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86400);

/// The keys at the top, in the order of the documentation.
const KEYS: &[&str] = &[
    "port_range",
    "connect_timeout",
    "shutdown_grace",
    "upstream_tls",
    "upstream_ca",
    "warm_connections",
    "max_connections",
    "token_command",
    "metrics_listen",
    "notify",
    "rotation",
    "keepalive",
    "session",
];

impl Config {
    /// Reads a config file. One that doesn't exist means the defaults. Blocks on the disk.
    ///
    /// # Errors
    /// When the file can't be read, could have been written by another user, is no TOML, or has
    /// a key or value that isn't accepted.
    /// Of several errors the first that is met is reported.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let unusable = |problem: String| ConfigError {
            file: file.to_path_buf(),
            position: None,
            problem,
        };
        let found = file::read(file, LONGEST).map_err(|refused| unusable(refused.to_string()))?;
        let Some(contents) = found else {
            return Ok(Self::default());
        };
        match std::str::from_utf8(&contents.bytes) {
            Ok(text) => Self::parse(file, text),
            Err(error) => {
                let valid = String::from_utf8_lossy(&contents.bytes[..error.valid_up_to()]);
                let source = Source { file, text: &valid };
                Err(source.error(valid.len()..valid.len(), "this is not UTF-8 text"))
            }
        }
    }

    fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        let source = Source { file, text };
        let table = source.parse()?;
        let top = source.root(&table);
        top.only(KEYS)?;

        let mut config = Self::default();
        if let Some(entry) = top.get("port_range") {
            config.port_range = port_range(&entry)?;
        }
        if let Some(entry) = top.get("connect_timeout") {
            config.connect_timeout = entry.duration(100 * MILLISECOND..=HOUR)?;
        }
        if let Some(entry) = top.get("shutdown_grace") {
            config.shutdown_grace = entry.duration(Duration::ZERO..=10 * MINUTE)?;
        }
        config.upstream_tls = upstream_tls(file, &top)?;
        if let Some(entry) = top.get("warm_connections") {
            config.warm_connections = entry.number(0..=32)?;
        }
        if let Some(entry) = top.get("max_connections") {
            config.max_connections = entry.number(1..=65_535)?;
        }
        if let Some(entry) = top.get("token_command") {
            let command = entry.text(r#"a shell command, such as "heroku auth:token""#)?;
            config.token_command = Some(command.to_owned());
        }
        if let Some(entry) = top.get("metrics_listen") {
            config.metrics_listen = Some(entry.loopback()?);
        }
        if let Some(entry) = top.get("notify") {
            config.notify = entry.flag()?;
        }
        if let Some(entry) = top.get("rotation") {
            let section = entry.section("rotation.")?;
            section.only(&["interval"])?;
            if let Some(entry) = section.get("interval") {
                config.rotation.interval = entry.duration_or_off(SECOND..=365 * DAY)?;
            }
        }
        if let Some(entry) = top.get("keepalive") {
            let section = entry.section("keepalive.")?;
            section.only(&["interval", "timeout"])?;
            let bounds = || 100 * MILLISECOND..=HOUR;
            if let Some(entry) = section.get("interval") {
                config.keepalive.interval = entry.duration(bounds())?;
            }
            if let Some(entry) = section.get("timeout") {
                config.keepalive.timeout = entry.duration(bounds())?;
            }
        }
        if let Some(entry) = top.get("session") {
            config.sessions = sessions(&entry)?;
        }
        Ok(config)
    }
}

fn port_range(entry: &Entry<'_>) -> Result<PortRange, ConfigError> {
    let accepted = format!(
        r#"two ports from {} to {}, the lower first, such as "{}""#,
        PortRange::LOWEST,
        u16::MAX,
        PortRange::DEFAULT
    );
    let (low, high) = entry
        .text(&accepted)?
        .split_once('-')
        .ok_or_else(|| entry.refuse(&accepted))?;
    match (low.trim().parse(), high.trim().parse()) {
        (Ok(low), Ok(high)) => PortRange::new(low, high),
        _ => None,
    }
    .ok_or_else(|| entry.refuse(&accepted))
}

/// `upstream_ca` beside any other mode is refused rather than ignored: whoever names an
/// authority believes that certificates are checked.
fn upstream_tls(file: &Path, top: &Section<'_>) -> Result<UpstreamTls, ConfigError> {
    #[derive(Clone, Copy)]
    enum Word {
        Prefer,
        Require,
        Disable,
        VerifyCa,
    }
    const CA_EXAMPLE: &str = r#"the path of a PEM file, such as "/path/ca.pem""#;

    let ca = top.get("upstream_ca");
    let word = top.get("upstream_tls").map_or(Ok(Word::Prefer), |entry| {
        entry.word(&[
            ("prefer", Word::Prefer),
            ("require", Word::Require),
            ("disable", Word::Disable),
            ("verify-ca", Word::VerifyCa),
        ])
    })?;
    match (word, ca) {
        (Word::Prefer, None) => Ok(UpstreamTls::Prefer),
        (Word::Require, None) => Ok(UpstreamTls::Require),
        (Word::Disable, None) => Ok(UpstreamTls::Disable),
        (Word::VerifyCa, Some(entry)) => {
            let ca_file = beside(file, entry.text(CA_EXAMPLE)?);
            readable(&ca_file).map_err(|why| {
                entry.error(format!(
                    "{} = {:?} {why}; accepted: {CA_EXAMPLE}",
                    entry.key(),
                    ca_file
                ))
            })?;
            Ok(UpstreamTls::VerifyCa { ca_file })
        }
        (Word::VerifyCa, None) => Err(top.error_at(
            "upstream_tls",
            format!(r#"upstream_tls = "verify-ca" needs upstream_ca beside it; accepted: {CA_EXAMPLE}"#),
        )),
        (_, Some(entry)) => Err(entry.error(
            r#"upstream_ca is used with upstream_tls = "verify-ca" only; set that, or remove upstream_ca"#,
        )),
    }
}

/// A path that a user wrote into the config file: relative to the file, `~/` to the home.
fn beside(file: &Path, written: &str) -> PathBuf {
    match (written.strip_prefix("~/"), std::env::home_dir()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => file.parent().unwrap_or(Path::new("")).join(written),
    }
}

fn readable(file: &Path) -> Result<(), String> {
    match file::read(file, LONGEST) {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err("doesn't exist".into()),
        Err(refused) => Err(refused.to_string()),
    }
}

fn sessions(entry: &Entry<'_>) -> Result<Vec<DeclaredSession>, ConfigError> {
    let mut sessions: Vec<DeclaredSession> = Vec::new();
    for section in entry.sections("session.")? {
        let session = session(&section)?;
        let key = if session.name.is_some() {
            "name"
        } else {
            "target"
        };
        let name = session.session_name().map_err(|error| {
            section.error_at(
                key,
                format!("{error}; accepted: a target that makes a name, or a name of its own"),
            )
        })?;
        let earlier = |same: &dyn Fn(&DeclaredSession) -> bool| sessions.iter().find(|s| same(s));
        let of_name = |other: &DeclaredSession| other.session_name().as_ref() == Ok(&name);
        if let Some(other) = earlier(&of_name) {
            return Err(section.error_at(
                key,
                format!(
                    "this [[session]] is called \"{name}\", as the one for {} above; accepted: a name of its own for each",
                    other.target
                ),
            ));
        }
        if let (Some(port), Some(entry)) = (session.port, section.get("port"))
            && let Some(other) = earlier(&|other| other.port == Some(port))
        {
            return Err(entry.error(format!(
                "session.port = {port} is the port of the [[session]] for {} already; accepted: a port of its own for each, or none to have one picked",
                other.target
            )));
        }
        sessions.push(session);
    }
    Ok(sessions)
}

fn session(section: &Section<'_>) -> Result<DeclaredSession, ConfigError> {
    const TARGETS: &str = r#"an app, an add-on or both, such as "sushi", "borealis-pg-hex-12345" or "sushi::BOREALIS_PG_MAROON""#;
    section.only(&["target", "access", "name", "port", "role", "mode"])?;
    let target = section.require("target", TARGETS)?;
    let target =
        Target::from_parts(target.text(TARGETS)?, "", "").ok_or_else(|| target.refuse(TARGETS))?;
    let mut session = DeclaredSession {
        target,
        access: Access::ReadOnly,
        role: Role::Personal,
        mode: Mode::Managed,
        name: None,
        port: None,
    };
    if let Some(entry) = section.get("access") {
        session.access =
            entry.word(&[Access::ReadOnly, Access::ReadWrite].map(|a| (a.as_str(), a)))?;
    }
    if let Some(entry) = section.get("role") {
        session.role = entry.word(&[Role::Personal, Role::App].map(|r| (r.as_str(), r)))?;
    }
    if let Some(entry) = section.get("mode") {
        session.mode = entry.word(&[Mode::Managed, Mode::Passthrough].map(|m| (m.as_str(), m)))?;
    }
    if let Some(entry) = section.get("name") {
        let accepted = format!(
            "a name of a-z, 0-9, '.', '_' and '-' that begins with a letter or digit, at most {} characters",
            SessionName::MAX_LENGTH
        );
        let name = entry.text(&accepted)?;
        session.name = Some(SessionName::parse(name).map_err(|_| entry.refuse(&accepted))?);
    }
    if let Some(entry) = section.get("port") {
        session.port = Some(entry.number(1..=u16::MAX)?);
    }
    Ok(session)
}
