//! Credentials: the user's token, the grants made with it, the leases obtained with those.
//!
//! [`Broker`] is the face of it. Leases and grants live in memory only; what is on disk (the
//! token) is only ever read.

mod app_user;
mod broker;
mod caller;
mod contest;
mod flight;
mod grant;
mod keeper;
mod lease;
mod netrc;
mod resolve;
mod token;

pub use self::{
    broker::{Broker, BrokerSettings, DatabaseKey, DatabaseLease, SshLease},
    grant::Grant,
    lease::RotationInterval,
    token::{Place, Reading, Token, TokenSources},
};

#[cfg(test)]
mod tests;
