//! Credentials: the user's token, the grants made with it, the leases obtained with those.
//!
//! [`Broker`] is the face of it, and [`SignIn`] that of `borealisctl login`. Leases and
//! grants live in memory only.

mod app_user;
mod broker;
mod caller;
mod contest;
mod flight;
mod grant;
mod keeper;
mod keychain;
mod lease;
mod netrc;
mod place;
mod resolve;
mod sign_in;
mod token;
mod token_command;

pub use self::{
    broker::{Broker, BrokerSettings, DatabaseKey, DatabaseLease, SshLease},
    grant::Grant,
    lease::{Renewals, RotationInterval},
    sign_in::{KeepIn, KeptWhere, LoggedIn, LoggedOut, SignIn, WhoAmI},
    token::{Place, Reading, Token, TokenSources},
};

#[cfg(test)]
mod tests;
