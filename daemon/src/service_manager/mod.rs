//! The service manager: what it hands over at the start, and what it is told.

pub mod activation;
pub mod notify;
