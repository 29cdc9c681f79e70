//! Events that survive, what the desktop is told, and the report of a bug.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that meets the unexpected has failed"
)]

mod bus;
mod desktop;
mod report;
mod survive;
