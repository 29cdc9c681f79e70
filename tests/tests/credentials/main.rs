//! Credentials that change behind a session, and connections that end with one, as its
//! clients see them: nothing, or a sentence.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that meets the unexpected has failed"
)]

mod client;
mod endings;
mod load;
mod rotation;
mod round_trips;
mod warm;
