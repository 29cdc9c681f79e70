//! SSH to the bastion: one authenticated connection (a [`Tunnel`]), its host key pinned to
//! the one that the API gave, and channels to the database through it.
//!
//! The only importer of russh. Decides nothing about retries: failures are told as a
//! [`Cause`](crate::model::Cause) and end here.

mod channel;
mod connect;
mod dial;
mod failure;
mod greeting;
mod handler;
mod host_key;
mod intake;
mod keepalive;
mod loss;
mod metered_stream;
mod receive_window;
mod route;
mod tunnel;

pub use channel::{ChannelStream, Reserved};
pub use dial::dial;
pub use host_key::HostKey;
pub use keepalive::Keepalive;
pub use route::Route;
pub use tunnel::{Closing, Liveness, Tunnel};
