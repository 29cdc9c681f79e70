//! The real binary, against a control API with canned replies and a real PostgreSQL.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that can't go on fails"
)]

mod addons;
mod agents;
mod checkout;
mod children;
mod daemon;
mod hostile;
mod inspect;
mod postgres;
mod project;
mod reachability;
mod sessions;
mod sql;
