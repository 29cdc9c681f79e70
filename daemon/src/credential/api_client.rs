//! Makes calls in the user's name: with the token of the moment, or with a grant that lives
//! for one operation. A credential that is refused is replaced once, then believed.

use std::{sync::Arc, time::Duration};

use tokio_util::task::TaskTracker;

use super::{
    grants::{Grant, Grants},
    throttle::Throttle,
    token::cache::{TokenCache, same},
    token::{Token, TokenSources},
};
use crate::{
    model::Cause,
    provider::{Failure, Provider},
};

pub(super) struct ApiClient {
    pub(super) provider: Arc<Provider>,
    pub(super) tokens: Arc<TokenCache>,
    grants: Grants,
    throttle: Throttle,
}

// === impl ApiClient ===

impl ApiClient {
    pub(super) fn new(
        provider: Arc<Provider>,
        sources: TokenSources,
        tracker: TaskTracker,
        young: Duration,
    ) -> Self {
        Self {
            grants: Grants::new(Arc::clone(&provider), tracker, young),
            tokens: TokenCache::new(sources),
            throttle: Throttle::default(),
            provider,
        }
    }

    /// How many grants exist at Heroku, by what is known here.
    pub(super) fn grants_outstanding(&self) -> usize {
        self.grants.outstanding()
    }

    /// Runs `call` with the token; where it is refused and another can be read, once again.
    pub(super) async fn with_token<T, F>(&self, call: impl Fn(Arc<Token>) -> F) -> Result<T, Cause>
    where
        F: Future<Output = Result<T, Cause>>,
    {
        let token = self.tokens.current().await?;
        let refused = match self.throttled(call(Arc::clone(&token))).await {
            Err(cause @ Cause::TokenRefused { .. }) => cause,
            outcome => return outcome,
        };
        self.tokens.refused(&token);
        let fresh = self.tokens.current().await?;
        if same(&fresh, &token) {
            self.tokens.refused(&fresh);
            return Err(refused);
        }
        let outcome = self.throttled(call(Arc::clone(&fresh))).await;
        if matches!(outcome, Err(Cause::TokenRefused { .. })) {
            self.tokens.refused(&fresh);
        }
        outcome
    }

    /// Runs `call` with a grant, which is removed afterwards; where the Borealis API refuses
    /// it (it may have ended meanwhile), once again with a new one.
    pub(super) async fn with_grant<T, F>(
        &self,
        call: impl Fn(Grant) -> F,
        classify: impl FnOnce(Failure) -> Cause,
    ) -> Result<T, Cause>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let grant = self.grant().await?;
        let outcome = match call(grant.clone()).await {
            Err(failure) if failure.status() == Some(401) => {
                grant.spoil();
                drop(grant);
                call(self.grant().await?).await
            }
            outcome => outcome,
        };
        outcome.map_err(classify)
    }

    /// Runs an operation in its turn.
    async fn throttled<T>(
        &self,
        operation: impl Future<Output = Result<T, Cause>>,
    ) -> Result<T, Cause> {
        let _place = self.throttle.place().await;
        let outcome = operation.await;
        self.throttle.learn(&outcome);
        outcome
    }

    pub(super) async fn grant(&self) -> Result<Grant, Cause> {
        self.with_token(|token| self.grants.get(token)).await
    }
}
