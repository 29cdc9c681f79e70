//! Credentials: the user's token, the grants made with it, the leases obtained with those.
//!
//! [`Broker`] is the face of it, and [`SignIn`] that of `borealisctl login`. Leases and
//! grants live in memory only.

mod api_client;
mod app_user;
mod broker;
mod database_key;
mod grants;
mod leases;
mod lookup;
mod rotation_conflict;
mod sign_in;
mod single_flight;
mod standing;
mod targets;
mod throttle;
mod token;

pub use self::{
    broker::{Broker, BrokerSettings, DatabaseLease, SshLease},
    database_key::DatabaseKey,
    grants::Grant,
    leases::{DueCheck, Renewals, RotationInterval},
    sign_in::{KeepIn, KeptWhere, LoggedIn, LoggedOut, SignIn, WhoAmI},
    token::{LookupResult, Token, TokenSource, TokenSources},
};

#[cfg(test)]
mod tests;
