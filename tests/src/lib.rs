//! What the end-to-end tests stand on.

#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that can't be set up has failed"
)]
pub mod harness;
pub mod picture;
pub mod sandbox;
