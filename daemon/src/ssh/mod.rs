//! SSH to the bastion: one authenticated connection (a [`Tunnel`]), its host key pinned to
//! the one that the API gave, and channels to the database through it.
//!
//! The only importer of russh. Decides nothing about retries: failures are told as a
//! [`Cause`] and end here.

mod dial;
mod host_key;
mod tunnel;

pub use dial::{Keepalive, dial};
pub use host_key::HostKey;
pub use tunnel::{ChannelStream, Closing, Reserved, Tunnel};
