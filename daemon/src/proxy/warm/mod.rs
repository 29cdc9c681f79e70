//! Connections that are kept ready: the pool of them, how a client gets one, and the check
//! that it is alive.

mod checkout;
mod liveness_check;
mod pool;

pub(super) use checkout::{HandedOver, hand_over};
pub(crate) use pool::WarmPool;
