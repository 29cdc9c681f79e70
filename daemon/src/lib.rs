//! `borealisd` keeps sessions to Borealis Isolated Postgres databases open: SSH tunnels
//! that survive whatever happens to the line, behind local endpoints that never change.
//!
//! ARCHITECTURE.md at the root of the repository is the map.

pub mod config;
pub mod log;
pub mod model;
pub mod notify;
pub mod port;
pub mod state;
