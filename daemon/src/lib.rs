//! `borealisd` keeps sessions to Borealis Isolated Postgres databases open: SSH tunnels
//! that survive whatever happens to the line, behind local endpoints that never change.
//!
//! ARCHITECTURE.md at the root of the repository is the map.

pub mod model;
pub mod postgres;
