//! `borealisd` keeps sessions to Borealis Isolated Postgres databases open: SSH tunnels
//! that survive whatever happens to the line, behind local endpoints that never change.
//!
//! ARCHITECTURE.md at the root of the repository is the map.

pub mod admin;
mod app;
pub mod config;
pub mod control;
pub mod credential;
pub mod doctor;
pub mod journal;
pub mod log;
pub mod metrics;
pub mod model;
mod notifications;
pub mod platform;
pub mod postgres;
pub mod provider;
pub mod proxy;
pub mod reload;
pub mod service_manager;
pub mod session;
pub mod ssh;
pub mod state;
pub mod supervisor;
pub mod tunnels;
mod watchdog;

pub use app::{RunError, run};
