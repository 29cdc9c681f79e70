//! The daemon as a service: what a service manager hands it and is told, how it stops, and
//! how borealisctl has it started.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that meets the unexpected has failed"
)]

mod edges;
mod handover;
mod https;
mod start;
mod stop;
mod told;
