//! The tunnels to a bastion: what is up, which one a connection gets, and whether
//! connections get through. One pool for each add-on, shared by its sessions.

mod count;
mod dialler;
mod gate;
mod link;
mod policy;
mod pool;
mod registry;
mod session;

use link::Link;

pub use count::TunnelCount;
pub(crate) use gate::Gate;
pub(crate) use pool::{Level, none_is_up};
pub use registry::Pools;
pub(crate) use registry::SharedPool;
pub(crate) use session::Tunnels;
