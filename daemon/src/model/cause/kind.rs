//! What is looked up of a cause by what it is, whatever its details.

use super::{Cause, Class as C, Kind, Retry as R};

impl Cause {
    /// What kind of failure it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::TargetMissing => Kind::new("target-missing", C::Usage, R::Never, "28000"),
            Self::InvalidRequest { .. } => {
                Kind::new("invalid-request", C::Usage, R::Never, "28000")
            }
            Self::NoSuchSession { .. } => {
                Kind::new("no-such-session", C::NotFound, R::Never, "28000")
            }
            Self::SeveralSessions { .. } => {
                Kind::new("several-sessions", C::NotFound, R::Never, "28000")
            }
            Self::NameTaken { .. } => Kind::new("name-taken", C::Operation, R::Never, "28000"),
            Self::SessionDiffers { .. } => {
                Kind::new("session-differs", C::NotFound, R::Never, "28000")
            }
            Self::PortDiffers { .. } => Kind::new("port-differs", C::Operation, R::Never, "28000"),
            Self::PortInUse { .. } => Kind::new("port-in-use", C::Operation, R::Never, "28000"),
            Self::PortRangeUsedUp { .. } => {
                Kind::new("port-range-used-up", C::Operation, R::Never, "28000")
            }
            Self::NotLoggedIn => Kind::new("not-logged-in", C::Login, R::WhenTokenChanges, "28000"),
            Self::NoUsableToken { .. } => {
                Kind::new("not-logged-in", C::Login, R::WhenTokenChanges, "28000")
            }
            Self::TokenRefused { .. } => {
                Kind::new("token-refused", C::Login, R::WhenTokenChanges, "28000")
            }
            Self::TwoFactorRequired => Kind::new(
                "two-factor-required",
                C::Login,
                R::WhenTokenChanges,
                "28000",
            ),
            Self::SsoRequired { .. } => {
                Kind::new("sso-required", C::Login, R::WhenTokenChanges, "28000")
            }
            Self::AppNotFound { .. } => Kind::new("app-not-found", C::NotFound, R::Never, "28000"),
            Self::AddonNotFound { .. } => {
                Kind::new("addon-not-found", C::NotFound, R::Never, "28000")
            }
            Self::TargetNotFound { .. } => {
                Kind::new("target-not-found", C::NotFound, R::Never, "28000")
            }
            Self::NoAddon { .. } => Kind::new("no-addon", C::NotFound, R::Never, "28000"),
            Self::SeveralAddons { .. } => {
                Kind::new("several-addons", C::NotFound, R::Never, "28000")
            }
            Self::OtherService { .. } => Kind::new("other-service", C::NotFound, R::Never, "28000"),
            Self::TargetMoved { .. } => {
                Kind::new("target-moved", C::Operation, R::Backoff, "57P03")
            }
            Self::ConfigVariableInvalid { .. } => {
                Kind::new("config-variable-invalid", C::Operation, R::Slowly, "57P03")
            }
            Self::AccessRevoked { .. } => {
                Kind::new("access-revoked", C::Unavailable, R::Slowly, "57P03")
            }
            Self::Provisioning { .. } => {
                Kind::new("provisioning", C::Unavailable, R::Slowly, "57P03")
            }
            Self::Upgrading { .. } => Kind::new("upgrading", C::Unavailable, R::Slowly, "57P03"),
            Self::RateLimited { .. } => {
                Kind::new("rate-limited", C::Operation, R::Backoff, "57P03")
            }
            Self::ProviderUnavailable { .. } => {
                Kind::new("provider-unavailable", C::Operation, R::Backoff, "57P03")
            }
            Self::Intercepted { .. } => Kind::new("intercepted", C::Operation, R::Backoff, "57P03"),
            Self::ProviderTls { .. } => {
                Kind::new("provider-tls", C::Operation, R::Backoff, "57P03")
            }
            Self::ProviderRefused { .. } => {
                Kind::new("provider-refused", C::Operation, R::Slowly, "57P03")
            }
            Self::OutcomeUnknown { .. } => {
                Kind::new("outcome-unknown", C::Operation, R::Never, "57P03")
            }
            Self::Refused(refusal) => refusal.kind(),
            Self::NoNetwork => Kind::new("no-network", C::Operation, R::WithNetwork, "08001"),
            Self::BastionUnreachable { .. } => {
                Kind::new("bastion-unreachable", C::Operation, R::Backoff, "08001")
            }
            Self::BastionBusy { .. } => {
                Kind::new("bastion-busy", C::Operation, R::Backoff, "08001")
            }
            Self::BastionRefusedKey { .. } => {
                Kind::new("ssh-login-refused", C::Operation, R::NewLease, "08001")
            }
            Self::HostKeyDiffers { .. } => {
                Kind::new("host-key-differs", C::Operation, R::Never, "28000")
            }
            Self::TunnelLost { .. } => Kind::new("tunnel-lost", C::Operation, R::Backoff, "08006"),
            Self::DatabaseUnreachable { .. } => {
                Kind::new("database-unreachable", C::Operation, R::Backoff, "57P03")
            }
            Self::UpstreamTls { .. } => {
                Kind::new("upstream-tls", C::Operation, R::Backoff, "08001")
            }
            Self::DatabaseRefusedLogin { .. } => {
                Kind::new("database-refused-login", C::Operation, R::NewLease, "57P03")
            }
            Self::FreshCredentialsRefused { .. } => Kind::new(
                "fresh-credentials-refused",
                C::Operation,
                R::Backoff,
                "57P03",
            ),
            Self::CredentialsContested { .. } => {
                Kind::new("credentials-contested", C::Operation, R::Backoff, "57P03")
            }
            Self::DatabaseRefused { .. } => {
                Kind::new("database-refused", C::Operation, R::Backoff, "57P03")
            }
            Self::RotationTimedOut { .. } => {
                Kind::new("rotation-timed-out", C::Operation, R::Backoff, "57P03")
            }
            Self::HoldTimeout { .. } => {
                Kind::new("hold-timeout", C::Operation, R::Backoff, "57P03")
            }
            Self::TooManyConnections { .. } => {
                Kind::new("too-many-connections", C::Operation, R::Never, "53300")
            }
            Self::SessionClosing => Kind::new("session-closing", C::Operation, R::Never, "57P01"),
            Self::SessionExpired => Kind::new("session-expired", C::Operation, R::Never, "57P01"),
            Self::DaemonStopping => Kind::new("daemon-stopping", C::Operation, R::Never, "57P01"),
            Self::NoSuchConnection { .. } => {
                Kind::new("no-such-connection", C::NotFound, R::Never, "57P01")
            }
            Self::ConnectionEnded { .. } => {
                Kind::new("connection-ended", C::Operation, R::Never, "57P01")
            }
            Self::NoCancelKey { .. } => Kind::new("no-cancel-key", C::Operation, R::Never, "57P01"),
            Self::CancelNotPassedOn { .. } => {
                Kind::new("cancel-not-passed-on", C::Operation, R::Never, "57P01")
            }
            Self::ConfigInvalid { .. } => {
                Kind::new("config-invalid", C::Operation, R::Never, "58030")
            }
            Self::StateUnwritable { .. } => {
                Kind::new("state-unwritable", C::Operation, R::Never, "58030")
            }
            Self::SocketPathTooLong { .. } => {
                Kind::new("socket-path-too-long", C::Operation, R::Never, "58030")
            }
            Self::MetricsUnserved { .. } => {
                Kind::new("metrics-unserved", C::Operation, R::Backoff, "58030")
            }
            Self::Internal { .. } => Kind::new("internal", C::Operation, R::Backoff, "XX000"),
        }
    }
}
