//! Why something can't be done: one closed set, classified once at the edge where it is
//! seen, and spoken in three voices: a gRPC status, a line of borealisctl with its exit
//! code, an ErrorResponse to a Postgres client. A new reason to fail is a variant, its line
//! in [`Cause::kind`] and its words in the file of its topic.

mod account;
mod addon;
mod class;
mod connection;
mod kind;
mod machine;
mod provider;
mod refusal;
mod request;
mod session;
mod tls;
mod way;
mod words;

use std::{fmt, time::Duration};

pub use self::{
    class::{Class, Kind, Retry},
    refusal::Refusal,
    tls::TlsProblem,
    words::Words,
};
use super::{Foreign, HostPort, SessionName, text::Escaped};

/// The characters of a sentence or hint that are shown: far more than any of ours has.
const LONGEST: usize = 4000;

/// Why something failed. No variant holds a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(
    missing_docs,
    reason = "each variant's sentence in `words` says what it means"
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
    /// Something of that name is open, and isn't what was asked for.
    SessionDiffers {
        name: SessionName,
        is: String,
    },
    PortDiffers {
        name: SessionName,
        port: u16,
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
    SsoRequired {
        source: String,
    },

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
    /// It led to another add-on when the session went there.
    TargetMoved {
        target: String,
        from: String,
        to: String,
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
    /// Something on the way to an API answered instead of it.
    Intercepted {
        api: &'static str,
        detail: String,
    },
    ProviderTls {
        api: &'static str,
        host: String,
        problem: TlsProblem,
    },
    ProviderRefused {
        api: &'static str,
        status: u16,
        message: Foreign,
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
    /// It was reached, and closed the connection before SSH began.
    BastionBusy {
        bastion: HostPort,
        /// Its own words.
        said: Option<String>,
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
        message: Foreign,
    },
    /// It refused several in a row that nobody had let in before.
    FreshCredentialsRefused {
        sqlstate: String,
        message: Foreign,
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
        message: Foreign,
    },

    // The session.
    /// New credentials were asked for and are not in use.
    RotationTimedOut {
        waited: Duration,
        /// What it was at.
        step: String,
    },
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

    // One of its connections.
    NoSuchConnection {
        id: u64,
    },
    /// Somebody ended it.
    ConnectionEnded {
        by: Foreign,
    },
    /// Nothing is known by which a query of its could be cancelled.
    NoCancelKey {
        id: u64,
    },
    CancelNotPassedOn {
        id: u64,
    },

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

// === impl Cause ===

impl Cause {
    /// What is said of it, made when it is said. It is fit to be shown anywhere: whatever of it
    /// came from outside is escaped, and its length is bounded.
    pub fn words(&self) -> Words {
        let Words { sentence, hint } = self.own_words();
        let shown = |text: &str| format!("{:.LONGEST$}", Escaped(text));
        Words {
            sentence: shown(&sentence),
            hint: shown(&hint),
        }
    }

    fn own_words(&self) -> Words {
        match self {
            Self::TargetMissing => request::target_missing(),
            Self::InvalidRequest { problem } => request::invalid_request(problem),
            Self::NoSuchSession { name, open } => request::no_such_session(name, open),
            Self::SeveralSessions { target, names } => request::several_sessions(target, names),
            Self::NameTaken { name, by } => request::name_taken(name, by),
            Self::SessionDiffers { name, is } => request::session_differs(name, is),
            Self::PortDiffers { name, port } => request::port_differs(name, *port),
            Self::PortInUse { port, holder } => request::port_in_use(*port, holder.as_deref()),
            Self::PortRangeUsedUp { range } => request::port_range_used_up(range),
            Self::NotLoggedIn => account::not_logged_in(),
            Self::NoUsableToken { problems } => account::no_usable_token(problems),
            Self::TokenRefused { source } => account::token_refused(source),
            Self::TwoFactorRequired => account::two_factor_required(),
            Self::SsoRequired { source } => account::sso_required(source),
            Self::AppNotFound { app } => addon::app_not_found(app),
            Self::AddonNotFound { addon, app } => addon::addon_not_found(addon, app.as_deref()),
            Self::TargetNotFound { word } => addon::target_not_found(word),
            Self::NoAddon { app } => addon::no_addon(app),
            Self::SeveralAddons { app, attachments } => addon::several_addons(app, attachments),
            Self::OtherService { addon } => addon::other_service(addon),
            Self::TargetMoved { target, from, to } => addon::target_moved(target, from, to),
            Self::ConfigVariableInvalid { app, variable } => {
                addon::config_variable_invalid(app, variable)
            }
            Self::AccessRevoked { addon } => addon::access_revoked(addon),
            Self::Provisioning { addon } => addon::provisioning(addon),
            Self::Upgrading { addon } => addon::upgrading(addon),
            Self::RateLimited { retry_after } => provider::rate_limited(*retry_after),
            Self::ProviderUnavailable { api, detail } => {
                provider::provider_unavailable(api, detail)
            }
            Self::Intercepted { api, detail } => provider::intercepted(api, detail),
            Self::ProviderTls { api, host, problem } => provider::provider_tls(api, host, problem),
            Self::ProviderRefused {
                api,
                status,
                message,
                request_id,
            } => provider::provider_refused(api, *status, message, request_id.as_deref()),
            Self::OutcomeUnknown {
                doing,
                detail,
                look,
            } => provider::outcome_unknown(doing, detail, look.as_deref()),
            Self::Refused(refusal) => refusal.words(),
            Self::NoNetwork => way::no_network(),
            Self::BastionUnreachable { bastion, detail } => {
                way::bastion_unreachable(bastion, detail)
            }
            Self::BastionBusy { bastion, said } => way::bastion_busy(bastion, said.as_deref()),
            Self::BastionRefusedKey { bastion } => way::bastion_refused_key(bastion),
            Self::HostKeyDiffers { bastion } => way::host_key_differs(bastion),
            Self::TunnelLost { detail } => way::tunnel_lost(detail),
            Self::DatabaseUnreachable { server, detail } => {
                way::database_unreachable(server, detail)
            }
            Self::UpstreamTls { server, detail } => way::upstream_tls(server, detail),
            Self::DatabaseRefusedLogin { sqlstate, message } => {
                way::database_refused_login(sqlstate, message)
            }
            Self::FreshCredentialsRefused { sqlstate, message } => {
                way::fresh_credentials_refused(sqlstate, message)
            }
            Self::CredentialsContested {
                addon,
                times,
                within,
            } => way::credentials_contested(addon, *times, *within),
            Self::DatabaseRefused { sqlstate, message } => way::database_refused(sqlstate, message),
            Self::RotationTimedOut { waited, step } => session::rotation_timed_out(*waited, step),
            Self::HoldTimeout { waited, because } => {
                session::hold_timeout(*waited, because.as_deref().map(Self::words))
            }
            Self::TooManyConnections { limit } => session::too_many_connections(*limit),
            Self::SessionClosing => session::session_closing(),
            Self::SessionExpired => session::session_expired(),
            Self::DaemonStopping => session::daemon_stopping(),
            Self::NoSuchConnection { id } => connection::no_such_connection(*id),
            Self::ConnectionEnded { by } => connection::connection_ended(by),
            Self::NoCancelKey { id } => connection::no_cancel_key(*id),
            Self::CancelNotPassedOn { id } => connection::cancel_not_passed_on(*id),
            Self::ConfigInvalid { problem } => machine::config_invalid(problem),
            Self::StateUnwritable { path, detail } => machine::state_unwritable(path, detail),
            Self::SocketPathTooLong { path } => machine::socket_path_too_long(path),
            Self::MetricsUnserved { address, detail } => machine::metrics_unserved(address, detail),
            Self::Internal { detail } => machine::internal(detail),
        }
    }

    /// What a session does about it.
    pub fn retry(&self) -> Retry {
        self.kind().retry
    }

    /// Whether waiting can't help, so that an `open` that meets it leaves nothing behind.
    pub fn is_for_good(&self) -> bool {
        let kind = self.kind();
        matches!(
            kind.class,
            Class::Usage | Class::Login | Class::NotFound | Class::Unavailable
        ) || kind.retry == Retry::Never
            || matches!(
                self,
                Self::ConfigVariableInvalid { .. } | Self::FreshCredentialsRefused { .. }
            )
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words().sentence)
    }
}

impl std::error::Error for Cause {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::text;

    #[test]
    fn no_words_steer_a_terminal_or_go_on_for_ever() {
        let evil = "a\u{1b}[2J\u{7}\u{9b}\u{202e}\n\0".repeat(2000);
        for cause in [
            Cause::InvalidRequest {
                problem: evil.clone(),
            },
            Cause::AppNotFound { app: evil.clone() },
            Cause::SeveralSessions {
                target: evil.clone(),
                names: vec![evil.clone(); 3],
            },
            Cause::ProviderRefused {
                api: "Heroku API",
                status: 400,
                message: evil.clone().into(),
                request_id: Some(evil.clone()),
            },
            Cause::DatabaseRefused {
                sqlstate: evil.clone(),
                message: evil.into(),
            },
        ] {
            let Words { sentence, hint } = cause.words();
            for text in [sentence, hint, cause.to_string()] {
                assert!(!text.contains(text::is_unsafe), "{text}");
                assert!(text.len() <= 12 * LONGEST, "{}", text.len());
            }
        }
    }
}
