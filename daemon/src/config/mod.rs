//! What the user can set: the config file's values with their defaults and bounds, and
//! where the daemon finds its files. It reads the file, judges every key, and names file,
//! line and accepted values of whatever it refuses. It starts nothing and keeps nothing:
//! a reload is a second [`Config::load`].

mod load;
mod settings;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap, net::SocketAddr, ops::RangeInclusive, path::PathBuf, time::Duration,
};

use crate::model::{Access, Mode, NameError, Role, SessionName, Target};

pub use borealis_proto::settings_file::ConfigError;
pub use settings::{Args, Settings, SettingsError};

/// Everything that `config.toml` can say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where local ports are picked from.
    pub port_range: PortRange,
    /// How long a client's connection is held while the tunnel is away.
    pub connect_timeout: Duration,
    /// What open connections get when the daemon stops.
    pub shutdown_grace: Duration,
    /// TLS to the database, inside the tunnel.
    pub upstream_tls: UpstreamTls,
    /// Authenticated connections kept ready for each session; 0 = none.
    pub warm_connections: u32,
    /// Client connections that a session takes at a time.
    pub max_connections: u32,
    /// A shell command whose output is the Heroku token.
    pub token_command: Option<String>,
    /// Where metrics are served, a loopback address; `None` = nowhere.
    pub metrics_listen: Option<SocketAddr>,
    /// Whether the desktop tells what a session needs its user for.
    pub notify: bool,
    /// When personal credentials are renewed.
    pub rotation: Rotation,
    /// How a dead line is noticed.
    pub keepalive: Keepalive,
    /// The sessions to open when the daemon starts, in the file's order.
    pub sessions: Vec<DeclaredSession>,
}

/// TCP ports from the lower to the upper one, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    low: u16,
    high: u16,
}

/// TLS to the database, with libpq's meaning of the words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpstreamTls {
    /// Where the server offers it; its certificate is not checked.
    Prefer,
    /// Always; its certificate is not checked.
    Require,
    /// Never.
    Disable,
    /// Always, with a certificate issued by one of these authorities.
    VerifyCa {
        /// A PEM file that could be read when the configuration was.
        ca_file: PathBuf,
    },
}

/// When personal credentials are renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// Time from one renewal to the next; `None` = never by timer.
    pub interval: Option<Duration>,
}

/// How a dead line is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// A line that was silent for this long is probed.
    pub interval: Duration,
    /// It is given up when a probe has no answer for this long.
    pub timeout: Duration,
}

/// A session that the config file asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredSession {
    /// What to reach.
    pub target: Target,
    /// What its database user may do.
    pub access: Access,
    /// Whose database user it logs in as.
    pub role: Role,
    /// Who logs in to the database.
    pub mode: Mode,
    /// Its name, where it isn't to be derived from the target.
    pub name: Option<SessionName>,
    /// Its local port, where it isn't to be picked from the range.
    pub port: Option<u16>,
}

// === impl DeclaredSession ===

impl DeclaredSession {
    /// What the session is called.
    ///
    /// # Errors
    /// Where it has no name of its own, and its target makes none.
    pub fn session_name(&self) -> Result<SessionName, NameError> {
        match &self.name {
            Some(name) => Ok(name.clone()),
            None => SessionName::provisional(&self.target, self.role, self.access),
        }
    }
}

// === impl Config ===

impl Config {
    /// The declared sessions by name; each has one of its own, or the file is refused.
    pub fn declared(&self) -> BTreeMap<SessionName, DeclaredSession> {
        let named =
            |session: &DeclaredSession| Some((session.session_name().ok()?, session.clone()));
        self.sessions.iter().filter_map(named).collect()
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            port_range: PortRange::DEFAULT,
            connect_timeout: Duration::from_secs(30),
            shutdown_grace: Duration::from_secs(5),
            upstream_tls: UpstreamTls::Prefer,
            warm_connections: 1,
            max_connections: 200,
            token_command: None,
            metrics_listen: None,
            notify: true,
            rotation: Rotation {
                interval: Some(Duration::from_secs(8 * 3600)),
            },
            keepalive: Keepalive {
                interval: Duration::from_secs(5),
                timeout: Duration::from_secs(5),
            },
            sessions: Vec::new(),
        }
    }
}

// === impl PortRange ===

impl PortRange {
    /// A hundred ports that neither PostgreSQL nor its usual neighbours take, below
    /// the range that Linux and macOS take outgoing connections' ports from.
    pub const DEFAULT: Self = Self {
        low: 15432,
        high: 15531,
    };

    /// The lowest port that every user may listen on.
    pub const LOWEST: u16 = 1024;

    /// `None` where the range is empty or has ports below [`Self::LOWEST`].
    pub fn new(low: u16, high: u16) -> Option<Self> {
        (Self::LOWEST <= low && low <= high).then_some(Self { low, high })
    }

    /// Its ports, the lowest first.
    pub fn ports(self) -> RangeInclusive<u16> {
        self.low..=self.high
    }
}

impl std::fmt::Display for PortRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.low, self.high)
    }
}
