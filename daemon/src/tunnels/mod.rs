//! The tunnels to a bastion: what is up, which one a connection gets, and whether
//! connections get through.

mod count;
mod dialler;
mod gate;
mod policy;
mod pool;

pub use count::TunnelCount;
pub(crate) use dialler::Dialer;
pub(crate) use gate::Gate;
pub(crate) use pool::Tunnels;
