//! `borealisd` keeps sessions to Borealis Isolated Postgres databases open: SSH tunnels
//! that survive whatever happens to the line, behind local endpoints that never change.
//!
//! ARCHITECTURE.md at the root of the repository is the map.

pub mod activation;
pub mod admin;
pub mod clock;
pub mod config;
pub mod control;
pub mod credential;
pub mod descriptors;
pub mod doctor;
pub mod journal;
pub mod log;
pub mod machine;
pub mod metrics;
pub mod model;
pub mod network;
pub mod notify;
pub mod port;
pub mod postgres;
pub mod provider;
pub mod reload;
mod run;
pub mod service;
pub mod session;
pub mod ssh;
pub mod state;
pub mod supervisor;

pub use run::{StartError, run};
