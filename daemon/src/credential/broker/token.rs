//! The user's token, and whose it is.

use std::{convert::Infallible, sync::Arc};

use secrecy::SecretString;
use tokio::sync::watch;

use super::Broker;
use crate::{
    credential::{LookupResult, Token},
    model::Cause,
    provider::{Waiting, wire::Account},
};

impl Broker {
    /// Whose token it is, and where that was found.
    ///
    /// # Errors
    /// That there is none, that it was refused, or that the Heroku API doesn't say.
    pub async fn account(&self) -> Result<(Account, String), Cause> {
        let provider = &self.client.provider;
        self.client
            .with_token(async |token| {
                let account = provider
                    .heroku(&token.value, Waiting::Somebody)
                    .account()
                    .await
                    .map_err(|failure| failure.heroku_cause(&token.source))?;
                Ok((account, token.source.clone()))
            })
            .await
    }

    /// Whose token `token` is, whatever the places hold. `named` is what a refusal calls it.
    ///
    /// # Errors
    /// That it was refused, or that the Heroku API doesn't say.
    pub async fn account_of(&self, token: &SecretString, named: &str) -> Result<Account, Cause> {
        self.client
            .provider
            .heroku(token, Waiting::Somebody)
            .account()
            .await
            .map_err(|failure| failure.heroku_cause(named))
    }

    /// Reads the token again, since it may have changed where that leaves no trace. Who waits
    /// for another one is told.
    ///
    /// # Errors
    /// [`Cause::NotLoggedIn`] where there is none.
    pub async fn look_for_token(&self) -> Result<(), Cause> {
        self.client.tokens.look_again().await.map(drop)
    }

    /// Where the token of the moment was found, or why there is none; `None` while nobody has
    /// asked for one. Asks nobody itself.
    pub fn known_token(&self) -> Option<Result<String, Cause>> {
        self.client.tokens.known()
    }

    /// What every place where a token may be holds.
    pub async fn survey_tokens(&self) -> Vec<LookupResult> {
        self.client.tokens.survey().await
    }

    /// Grows when another token is found, and at each reload.
    pub fn token_changed(&self) -> watch::Receiver<u64> {
        self.client.tokens.changed()
    }

    /// Looks every few seconds whether a file that may hold the token has changed, so that
    /// who waits for a log-in is told by [`Broker::token_changed`]. Ends when it is dropped.
    pub async fn follow_token(&self) -> Infallible {
        self.client.tokens.follow().await
    }

    /// Runs an operation of the Heroku API with the user's token, and once more where it is
    /// refused and another one can be read.
    ///
    /// # Errors
    /// The call's, or that there is no token.
    pub async fn with_token<T, F>(&self, call: impl Fn(Arc<Token>) -> F) -> Result<T, Cause>
    where
        F: Future<Output = Result<T, Cause>>,
    {
        self.client.with_token(call).await
    }
}
