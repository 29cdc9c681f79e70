//! The add-on commands from end to end: what the reference tool's do, with its flags, and
//! what each status of the provider becomes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that can't go on fails"
)]

mod extensions;
mod information;
mod restore;
mod users;
