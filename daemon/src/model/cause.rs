//! Why something can't be done: one closed set, classified once at the edge where it is
//! seen, and spoken in three voices: a gRPC status, a line of borealisctl with its exit
//! code, an ErrorResponse to a Postgres client. A new reason to fail is a variant and its
//! row in [`Cause::row`].

mod refusal;

use std::{fmt, time::Duration};

pub use self::refusal::Refusal;
use super::{HostPort, SessionName};

/// Why something failed. No variant holds a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(
    missing_docs,
    reason = "each variant's sentence in `row` says what it means"
)]
pub enum Cause {
    // The request.
    TargetMissing,
    InvalidRequest {
        problem: String,
    },
    NoSuchSession {
        name: String,
        open: Vec<String>,
    },
    SeveralSessions {
        target: String,
        names: Vec<String>,
    },
    NameTaken {
        name: SessionName,
        by: String,
    },
    PortInUse {
        port: u16,
        holder: Option<String>,
    },
    PortRangeUsedUp {
        range: String,
    },

    // The Heroku account.
    NotLoggedIn,
    /// No place has a token, and some of them can't be read or hold what is none.
    NoUsableToken {
        problems: String,
    },
    TokenRefused {
        source: String,
    },
    TwoFactorRequired,

    // What the target leads to.
    AppNotFound {
        app: String,
    },
    AddonNotFound {
        addon: String,
        app: Option<String>,
    },
    TargetNotFound {
        word: String,
    },
    NoAddon {
        app: String,
    },
    SeveralAddons {
        app: String,
        attachments: Vec<String>,
    },
    OtherService {
        addon: String,
    },
    ConfigVariableInvalid {
        app: String,
        variable: String,
    },

    // The add-on's state.
    AccessRevoked {
        addon: String,
    },
    Provisioning {
        addon: String,
    },
    Upgrading {
        addon: String,
    },

    // The provider's APIs.
    RateLimited {
        retry_after: Option<Duration>,
    },
    ProviderUnavailable {
        api: &'static str,
        detail: String,
    },
    ProviderRefused {
        api: &'static str,
        status: u16,
        message: String,
        request_id: Option<String>,
    },
    /// A call that changes something may have been carried out.
    OutcomeUnknown {
        /// What goes on after "whether".
        doing: String,
        detail: String,
        /// The command that shows it.
        look: Option<String>,
    },
    /// What the owner of an add-on wants of it can't be done.
    Refused(Refusal),

    // The way to the database.
    NoNetwork,
    BastionUnreachable {
        bastion: HostPort,
        detail: String,
    },
    BastionRefusedKey {
        bastion: HostPort,
    },
    HostKeyDiffers {
        bastion: HostPort,
    },
    TunnelLost {
        detail: String,
    },
    DatabaseUnreachable {
        server: HostPort,
        detail: String,
    },
    UpstreamTls {
        server: HostPort,
        detail: String,
    },
    /// The database refused the credential that the provider issued.
    DatabaseRefusedLogin {
        sqlstate: String,
        message: String,
    },
    /// Another machine of the user renews the credentials that this one holds, and so on.
    CredentialsContested {
        addon: String,
        times: usize,
        within: Duration,
    },
    /// Any other refusal by the database at a log-in, in its own words.
    DatabaseRefused {
        sqlstate: String,
        message: String,
    },

    // The session.
    HoldTimeout {
        waited: Duration,
        because: Option<Box<Cause>>,
    },
    TooManyConnections {
        limit: u32,
    },
    SessionClosing,
    SessionExpired,
    DaemonStopping,

    // The machine the daemon runs on.
    ConfigInvalid {
        problem: String,
    },
    StateUnwritable {
        path: String,
        detail: String,
    },
    SocketPathTooLong {
        path: String,
    },
    MetricsUnserved {
        address: String,
        detail: String,
    },
    Internal {
        detail: String,
    },
}

/// What a cause means to the one who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The operation failed: exit code 1.
    Operation,
    /// The request makes no sense: exit code 2.
    Usage,
    /// Not logged in: exit code 4.
    Login,
    /// Nothing, or more than one thing, fits: exit code 5.
    NotFound,
    /// The add-on can't be used now: exit code 6.
    Unavailable,
}

/// What a session does about a cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Only the user can help.
    Never,
    /// Try again, with growing pauses.
    Backoff,
    /// Try once with a new lease, then as [`Retry::Backoff`].
    NewLease,
    /// Try again every few minutes: the provider's side takes that long.
    Slowly,
    /// Try again when the Heroku token changes.
    WhenTokenChanges,
    /// Try again when there is a network.
    WithNetwork,
}

/// All that is known of a cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Stable and machine readable.
    pub code: &'static str,
    /// What it means to the one who asked.
    pub class: Class,
    /// What a session does about it.
    pub retry: Retry,
    /// What a Postgres client is told.
    pub sqlstate: &'static str,
    /// What failed, and for what, without a full stop.
    pub sentence: String,
    /// What to do next; empty where there is nothing to do.
    pub hint: String,
}

// === impl Cause ===

impl Cause {
    /// The row of this cause. SQLSTATEs are chosen for what drivers do with them: they try
    /// 57P03 and 08xxx again, and give up on 28000.
    pub fn row(&self) -> Row {
        use {Class as C, Retry as R};
        let row = |code, class, retry, sqlstate, sentence: String, hint: &str| Row {
            code,
            class,
            retry,
            sqlstate,
            sentence,
            hint: hint.to_owned(),
        };
        match self {
            Self::TargetMissing => row(
                "target-missing",
                C::Usage,
                R::Never,
                "28000",
                "no app and no add-on was named".into(),
                "name an app (`sushi` or --app sushi) or an add-on (`sushi::ATTACHMENT` or --addon NAME)",
            ),
            Self::InvalidRequest { problem } => row(
                "invalid-request",
                C::Usage,
                R::Never,
                "28000",
                problem.clone(),
                "",
            ),
            Self::NoSuchSession { name, open } => row(
                "no-such-session",
                C::NotFound,
                R::Never,
                "28000",
                format!("no session is open for {name}"),
                &if open.is_empty() {
                    format!("open one with `borealisctl open {name}`")
                } else {
                    format!(
                        "open ones are: {}; another is opened with `borealisctl open`",
                        open.join(", ")
                    )
                },
            ),
            Self::SeveralSessions { target, names } => row(
                "several-sessions",
                C::NotFound,
                R::Never,
                "28000",
                format!("several sessions are open for {target}"),
                &format!("name one of them: {}", names.join(", ")),
            ),
            Self::NameTaken { name, by } => row(
                "name-taken",
                C::Operation,
                R::Never,
                "28000",
                format!("a session named {name} is open already, for {by}"),
                &format!("give another name with --name, or `borealisctl close {name}` first"),
            ),
            Self::PortInUse { port, holder } => row(
                "port-in-use",
                C::Operation,
                R::Never,
                "28000",
                match holder {
                    Some(holder) => format!("port {port} is in use by {holder}"),
                    None => format!("port {port} is in use"),
                },
                "choose another with --port, or leave it out to get a free one",
            ),
            Self::PortRangeUsedUp { range } => row(
                "port-range-used-up",
                C::Operation,
                R::Never,
                "28000",
                format!("every port of port_range {range} is in use"),
                "widen port_range in config.toml, or choose a port with --port",
            ),

            Self::NotLoggedIn => row(
                "not-logged-in",
                C::Login,
                R::WhenTokenChanges,
                "28000",
                "not logged in to Heroku: no API token was found".into(),
                "run `borealisctl login`, or `heroku login`, or start borealisd with HEROKU_API_KEY set",
            ),
            Self::NoUsableToken { problems } => row(
                "not-logged-in",
                C::Login,
                R::WhenTokenChanges,
                "28000",
                format!("not logged in to Heroku: no API token was found ({problems})"),
                "mend that, or run `borealisctl login`; `borealisctl whoami` shows every place that was looked at",
            ),
            Self::TokenRefused { source } => row(
                "token-refused",
                C::Login,
                R::WhenTokenChanges,
                "28000",
                format!(
                    "Heroku refused the API token from {source} (it may have expired or been revoked)"
                ),
                match source.as_str() {
                    // A login would not be looked at while the variable is there.
                    "HEROKU_API_KEY" => {
                        "put a valid token into the daemon's HEROKU_API_KEY, or take it out and sign in with `borealisctl login`; then start borealisd again"
                    }
                    "token_command" => {
                        "see what the token_command of config.toml prints; `borealisctl login` with a valid token wins over it"
                    }
                    _ => {
                        "sign in again with `borealisctl login` or `heroku login`; `borealisctl whoami` shows the places that a token is taken from"
                    }
                },
            ),
            Self::TwoFactorRequired => row(
                "two-factor-required",
                C::Login,
                R::WhenTokenChanges,
                "28000",
                "Heroku wants a two-factor code for this account's token".into(),
                "sign in with `heroku login`, which asks for the code in the browser; or make a token in the Heroku dashboard (Account settings, Applications, Authorizations) and give it to `borealisctl login`",
            ),

            Self::AppNotFound { app } => row(
                "app-not-found",
                C::NotFound,
                R::Never,
                "28000",
                format!("there is no app {app} that this Heroku account can see"),
                "check the name with `heroku apps`, and the account with `borealisctl whoami`",
            ),
            Self::AddonNotFound {
                addon,
                app: Some(app),
            } => row(
                "addon-not-found",
                C::NotFound,
                R::Never,
                "28000",
                format!("app {app} has no add-on or attachment {addon}"),
                &format!("see `heroku addons --app {app}`"),
            ),
            Self::AddonNotFound { addon, app: None } => row(
                "addon-not-found",
                C::NotFound,
                R::Never,
                "28000",
                format!("there is no add-on {addon} that this Heroku account can see"),
                "an attachment's name is looked for in one app only: try again with --app",
            ),
            Self::TargetNotFound { word } => row(
                "target-not-found",
                C::NotFound,
                R::Never,
                "28000",
                format!(
                    "there is neither an app nor an add-on {word} that this Heroku account can see"
                ),
                "check the name with `heroku apps` and `heroku addons --all`; an attachment is named APP::ATTACHMENT",
            ),
            Self::NoAddon { app } => row(
                "no-addon",
                C::NotFound,
                R::Never,
                "28000",
                format!("app {app} has no Borealis Isolated Postgres add-on attachments"),
                &format!(
                    "name another app, or see what this one has with `heroku addons --app {app}`"
                ),
            ),
            Self::SeveralAddons { app, attachments } => row(
                "several-addons",
                C::NotFound,
                R::Never,
                "28000",
                format!("app {app} has multiple Borealis Isolated Postgres add-ons"),
                &format!(
                    "name one of them (or use --addon): {}",
                    attachments
                        .iter()
                        .map(|a| format!("{app}::{a}"))
                        .collect::<Vec<_>>()
                        .join(", ")
                ),
            ),
            Self::OtherService { addon } => row(
                "other-service",
                C::NotFound,
                R::Never,
                "28000",
                format!("add-on {addon} is not a Borealis Isolated Postgres add-on"),
                "name an add-on of the service borealis-pg",
            ),
            Self::ConfigVariableInvalid { app, variable } => row(
                "config-variable-invalid",
                C::Operation,
                R::Slowly,
                "57P03",
                format!(
                    "the {variable} config variable value for {app} is invalid; this may indicate that the config variable was manually edited"
                ),
                "use your personal database user (leave out --role app, or add --personal-user)",
            ),

            Self::AccessRevoked { addon } => row(
                "access-revoked",
                C::Unavailable,
                R::Slowly,
                "57P03",
                format!(
                    "access to the database of add-on {addon} has been temporarily revoked for personal users; generally this indicates that the database has persistently exceeded its storage limit"
                ),
                "try upgrading to a new add-on plan to restore access",
            ),
            Self::Provisioning { addon } => row(
                "provisioning",
                C::Unavailable,
                R::Slowly,
                "57P03",
                format!("add-on {addon} is not finished provisioning"),
                "try again in a few minutes",
            ),
            Self::Upgrading { addon } => row(
                "upgrading",
                C::Unavailable,
                R::Slowly,
                "57P03",
                format!("add-on {addon} is undergoing a PostgreSQL major version upgrade"),
                &format!(
                    "try again later, or run `borealisctl upgrade cancel {addon}` to cancel the upgrade process"
                ),
            ),

            Self::RateLimited { retry_after } => row(
                "rate-limited",
                C::Operation,
                R::Backoff,
                "57P03",
                match retry_after {
                    Some(wait) => format!(
                        "Heroku's rate limit is reached; it asks to wait {} s",
                        wait.as_secs()
                    ),
                    None => "Heroku's rate limit is reached".into(),
                },
                "borealisd tries again by itself",
            ),
            Self::ProviderUnavailable { api, detail } => row(
                "provider-unavailable",
                C::Operation,
                R::Backoff,
                "57P03",
                format!("the {api} is temporarily unavailable: {detail}"),
                "try again later; see https://status.heroku.com if it lasts",
            ),
            Self::ProviderRefused {
                api,
                status,
                message,
                request_id,
            } => row(
                "provider-refused",
                C::Operation,
                R::Slowly,
                "57P03",
                match request_id {
                    Some(id) => format!("the {api} answered {status}: {message} (request {id})"),
                    None => format!("the {api} answered {status}: {message}"),
                },
                "",
            ),
            Self::OutcomeUnknown {
                doing,
                detail,
                look,
            } => row(
                "outcome-unknown",
                C::Operation,
                R::Never,
                "57P03",
                format!("it is not known whether {doing}: {detail}"),
                &match look {
                    Some(command) => format!("see `borealisctl {command}` before asking again"),
                    None => "look before asking again".to_owned(),
                },
            ),
            Self::Refused(refusal) => refusal.row(),

            Self::NoNetwork => row(
                "no-network",
                C::Operation,
                R::WithNetwork,
                "08001",
                "this machine has no network".into(),
                "the session comes back by itself with the network",
            ),
            Self::BastionUnreachable { bastion, detail } => row(
                "bastion-unreachable",
                C::Operation,
                R::Backoff,
                "08001",
                format!("can't reach the SSH server {bastion}: {detail}"),
                "check the network, and whether a firewall lets SSH out",
            ),
            Self::BastionRefusedKey { bastion } => row(
                "ssh-login-refused",
                C::Operation,
                R::NewLease,
                "08001",
                format!("the SSH server {bastion} refused the personal SSH key"),
                "`borealisctl rotate` asks for a new one",
            ),
            Self::HostKeyDiffers { bastion } => row(
                "host-key-differs",
                C::Operation,
                R::Never,
                "28000",
                format!(
                    "the host key of the SSH server {bastion} is not the one that the add-on's API gave; someone may be intercepting the connection"
                ),
                "nothing was sent to that server; try from another network, and tell Borealis support if it stays so",
            ),
            Self::TunnelLost { detail } => row(
                "tunnel-lost",
                C::Operation,
                R::Backoff,
                "08006",
                format!("the SSH connection was lost: {detail}"),
                "the session reconnects by itself",
            ),
            Self::DatabaseUnreachable { server, detail } => row(
                "database-unreachable",
                C::Operation,
                R::Backoff,
                "57P03",
                format!("the SSH server can't reach the database server {server}: {detail}"),
                "the database may be restarting; the session tries again by itself",
            ),
            Self::UpstreamTls { server, detail } => row(
                "upstream-tls",
                C::Operation,
                R::Backoff,
                "08001",
                format!("TLS with the database server {server} failed: {detail}"),
                "see upstream_tls and upstream_ca in config.toml",
            ),
            Self::DatabaseRefusedLogin { sqlstate, message } => row(
                "database-refused-login",
                C::Operation,
                R::NewLease,
                "57P03",
                format!(
                    "the database refused the credentials that the provider issued ({sqlstate}: {message})"
                ),
                "another machine of yours may be renewing them too; the session tries again by itself",
            ),
            Self::CredentialsContested {
                addon,
                times,
                within,
            } => row(
                "credentials-contested",
                C::Operation,
                R::Backoff,
                "57P03",
                format!(
                    "the personal credentials of add-on {addon} were replaced from elsewhere {times} times within {} minutes; another machine of yours seems to use it too, and each takes the other's password away",
                    within.as_secs() / 60
                ),
                "both go on working, but log-ins wait for each other; close the session on one of them, or open it with `--role app`, whose password they share",
            ),
            Self::DatabaseRefused { sqlstate, message } => row(
                "database-refused",
                C::Operation,
                R::Backoff,
                "57P03",
                format!("the database refused the connection ({sqlstate}: {message})"),
                "",
            ),

            Self::HoldTimeout { waited, because } => row(
                "hold-timeout",
                C::Operation,
                R::Backoff,
                "57P03",
                match because {
                    Some(cause) => format!(
                        "the session did not come up within {} s: {}",
                        waited.as_secs_f64().round(),
                        cause.row().sentence
                    ),
                    None => format!(
                        "the session did not come up within {} s",
                        waited.as_secs_f64().round()
                    ),
                },
                &because.as_ref().map_or_else(
                    || "it goes on trying; see `borealisctl list`".to_owned(),
                    |cause| cause.row().hint,
                ),
            ),
            Self::TooManyConnections { limit } => row(
                "too-many-connections",
                C::Operation,
                R::Never,
                "53300",
                format!("the session has its {limit} connections already"),
                "close some, or raise max_connections in config.toml",
            ),
            Self::SessionClosing => row(
                "session-closing",
                C::Operation,
                R::Never,
                "57P01",
                "the session is being closed".into(),
                "open it again with `borealisctl open`",
            ),
            Self::SessionExpired => row(
                "session-expired",
                C::Operation,
                R::Never,
                "57P01",
                "the time that the session was opened for is over".into(),
                "open it again with `borealisctl open`",
            ),
            Self::DaemonStopping => row(
                "daemon-stopping",
                C::Operation,
                R::Never,
                "57P01",
                "borealisd is stopping".into(),
                "start it again with `systemctl --user start borealisd`",
            ),

            Self::ConfigInvalid { problem } => row(
                "config-invalid",
                C::Operation,
                R::Never,
                "58030",
                problem.clone(),
                "mend the file, then `borealisctl reload`; until then the settings before stay in force",
            ),
            Self::StateUnwritable { path, detail } => row(
                "state-unwritable",
                C::Operation,
                R::Never,
                "58030",
                format!("can't write {path}: {detail}"),
                "the file there before is untouched; free some space or mend its rights",
            ),
            Self::SocketPathTooLong { path } => row(
                "socket-path-too-long",
                C::Operation,
                R::Never,
                "58030",
                format!(
                    "the path of the session's Unix socket has more than the 107 bytes that the system allows: {path}"
                ),
                "choose a shorter name with --name, or a shorter runtime directory with XDG_RUNTIME_DIR",
            ),
            Self::MetricsUnserved { address, detail } => row(
                "metrics-unserved",
                C::Operation,
                R::Backoff,
                "58030",
                format!("metrics can't be served at {address}: {detail}"),
                "choose another metrics_listen in config.toml, then `borealisctl reload`",
            ),
            Self::Internal { detail } => row(
                "internal",
                C::Operation,
                R::Backoff,
                "XX000",
                format!("borealisd failed at something that should not fail: {detail}"),
                "please report it with the daemon's log",
            ),
        }
    }

    /// What a session does about it.
    pub fn retry(&self) -> Retry {
        self.row().retry
    }

    /// Whether waiting can't help, so that an `open` that meets it leaves nothing behind.
    pub fn is_for_good(&self) -> bool {
        let row = self.row();
        matches!(
            row.class,
            Class::Usage | Class::Login | Class::NotFound | Class::Unavailable
        ) || row.retry == Retry::Never
            || matches!(self, Self::ConfigVariableInvalid { .. })
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.row().sentence)
    }
}

impl std::error::Error for Cause {}
