//! The provider's two HTTP APIs: a function for each call, their replies as values, their
//! statuses as [causes](crate::model::Cause).
//!
//! The only importer of HTTP. Holds no credential and no state beside open connections:
//! whose token is sent, when, and what becomes of the answer is `credential`'s affair.

pub mod borealis;
mod call_stats;
mod classify;
pub mod endpoints;
pub mod failure;
pub mod heroku;
mod http;
pub mod retry_policy;
pub mod wire;

use std::collections::BTreeMap;

use jiff::SignedDuration;
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

use self::http::Http;
pub use self::{
    borealis::Borealis,
    endpoints::{EndpointError, Endpoints},
    failure::{Api, Failure, Refusal},
    heroku::{Heroku, NewAddon},
    retry_policy::{Limits, RetryPolicy, Waiting},
};

/// Both APIs.
#[derive(Debug)]
pub struct Provider {
    endpoints: Endpoints,
    heroku: Http,
    borealis: Http,
    hurry: CancellationToken,
}

/// Why the APIs can't be spoken with at all.
#[derive(Debug, thiserror::Error)]
#[error(
    "can't set up HTTPS (are the system's root certificates installed? on Debian: apt install ca-certificates)"
)]
pub struct SetupError(#[from] reqwest::Error);

// === impl Provider ===

impl Provider {
    /// Nothing is connected before the first call.
    ///
    /// # Errors
    /// When TLS can't be set up.
    pub fn new(endpoints: Endpoints, limits: Limits) -> Result<Self, SetupError> {
        install_crypto();
        let hurry = CancellationToken::new();
        let http = |api, base: &url::Url| Http::new(api, base.clone(), limits, hurry.clone());
        Ok(Self {
            heroku: http(Api::Heroku, endpoints.heroku())?,
            borealis: http(Api::Borealis, endpoints.borealis())?,
            endpoints,
            hurry,
        })
    }

    /// Where the APIs are.
    pub fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    /// The Heroku API with the user's token.
    pub fn heroku<'a>(&'a self, token: &'a SecretString, waiting: Waiting) -> Heroku<'a> {
        Heroku {
            http: &self.heroku,
            token,
            waiting,
        }
    }

    /// The Borealis API for an add-on, with a short-lived authorization's bearer.
    pub fn borealis<'a>(
        &'a self,
        bearer: &'a SecretString,
        addon: &'a str,
        waiting: Waiting,
    ) -> Borealis<'a> {
        Borealis {
            http: &self.borealis,
            bearer,
            addon,
            waiting,
        }
    }

    /// How often each API was called, by the status of its answer; `None` for no answer.
    pub fn answers(&self) -> [(Api, BTreeMap<Option<u16>, u64>); 2] {
        [
            (Api::Heroku, self.heroku.tally.answers()),
            (Api::Borealis, self.borealis.tally.answers()),
        ]
    }

    /// By how much this machine's clock is ahead of the Heroku API's, to a second or two;
    /// `None` before its first answer.
    pub fn clock_skew(&self) -> Option<SignedDuration> {
        self.heroku.tally.skew()
    }

    /// From now on pauses between attempts are short: the daemon waits for them to stop.
    pub fn shorten_backoff(&self) {
        self.hurry.cancel();
    }
}

/// reqwest takes the process's TLS provider and panics where there is none. Installed
/// already is as good.
fn install_crypto() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
