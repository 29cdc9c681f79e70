//! Sessions from end to end: the real binaries, a real bastion, a real PostgreSQL.

mod api;
mod life;
mod rotation;
mod run;
mod ways;
mod wrong;
