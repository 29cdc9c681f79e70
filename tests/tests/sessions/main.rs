//! Sessions from end to end: the real binaries, a real bastion, a real PostgreSQL.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that meets the unexpected has failed"
)]

mod api;
mod database;
mod life;
mod moved;
mod rotation;
mod run;
mod set;
mod shared;
mod ways;
mod wrong;
