//! What a workstation goes through: each fault with a bound within which sessions are up
//! again without anybody's help.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test that meets the unexpected has failed; its figures are for who runs it with --nocapture"
)]

mod apart;
mod bastion;
mod calls;
mod client;
mod crowd;
mod daemon;
mod held;
mod left_behind;
mod limits;
mod line;
mod load;
mod pause;
mod provider;
mod scene;
mod soak;
mod stalled_reader;

/// The bastion is a strict one: `chaos_strict` says so.
const STRICT: bool = false;
