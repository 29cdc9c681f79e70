//! The contract's words for the API's enumerations. `None` for what this borealisctl doesn't
//! know.

use borealis_proto::v1;

pub(super) fn role(value: v1::Role) -> Option<&'static str> {
    match value {
        v1::Role::Unspecified => None,
        v1::Role::Personal => Some("personal"),
        v1::Role::App => Some("app"),
    }
}

pub(super) fn access(value: v1::Access) -> Option<&'static str> {
    match value {
        v1::Access::Unspecified => None,
        v1::Access::ReadOnly => Some("read-only"),
        v1::Access::ReadWrite => Some("read-write"),
    }
}

pub(super) fn mode(value: v1::Mode) -> Option<&'static str> {
    match value {
        v1::Mode::Unspecified => None,
        v1::Mode::Managed => Some("managed"),
        v1::Mode::Passthrough => Some("passthrough"),
    }
}

/// A session's state.
pub(crate) fn state(value: v1::State) -> Option<&'static str> {
    match value {
        v1::State::Unspecified => None,
        v1::State::Opening => Some("opening"),
        v1::State::Up => Some("up"),
        v1::State::Reconnecting => Some("reconnecting"),
        v1::State::Failed => Some("failed"),
        v1::State::Closing => Some("closing"),
    }
}

/// A connection's, in pg_stat_activity's words.
pub(crate) fn connection_state(value: v1::ConnectionState) -> Option<&'static str> {
    use v1::ConnectionState as S;
    match value {
        S::Unspecified => None,
        S::LoggingIn => Some("logging in"),
        S::Held => Some("held"),
        S::Active => Some("active"),
        S::Idle => Some("idle"),
        S::IdleInTransaction => Some("idle in transaction"),
        S::IdleInTransactionAborted => Some("idle in transaction (aborted)"),
        S::Passthrough => Some("passthrough"),
    }
}

pub(super) fn health(value: v1::Health) -> Option<&'static str> {
    match value {
        v1::Health::Unspecified => None,
        v1::Health::Ok => Some("ok"),
        v1::Health::Warning => Some("warning"),
        v1::Health::Failing => Some("failing"),
    }
}

/// Of a doctor's check.
pub(super) fn outcome(value: v1::CheckOutcome) -> &'static str {
    match value {
        v1::CheckOutcome::Unspecified => "unknown",
        v1::CheckOutcome::Ok => "ok",
        v1::CheckOutcome::Warn => "warn",
        v1::CheckOutcome::Fail => "fail",
        v1::CheckOutcome::Skipped => "skipped",
    }
}

/// Of a place where a token may be.
pub(super) fn token_place(value: v1::TokenPlaceState) -> &'static str {
    match value {
        v1::TokenPlaceState::Unspecified => "unknown",
        v1::TokenPlaceState::Empty => "none",
        v1::TokenPlaceState::Used => "used",
        v1::TokenPlaceState::Shadowed => "shadowed",
    }
}

/// `1 connection`, `2 connections`.
pub(super) fn counted(count: u64, one: &str, many: &str) -> String {
    match count {
        1 => format!("1 {one}"),
        count => format!("{count} {many}"),
    }
}
