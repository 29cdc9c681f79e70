//! `borealisctl mcp`: what coding agents can do with a database, and what they can't.
//!
//! [`agent::Agent`] speaks the protocol by hand, so that a test can say anything; the official
//! Python SDK and the official inspector are what `sdks` runs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that meets the unexpected has failed"
)]

mod agent;
mod attempts;
mod reading;
mod sdks;
mod session;
