//! The sandbox itself, seen from outside: with a plain HTTP client, the system's `ssh` and
//! a Postgres client.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "in a test a panic is the report"
)]

mod api;
mod bastion;
mod binary;
mod database;
mod faults;
mod machine;
