//! Where targets lead: looked up, and looked up again.

use std::sync::Arc;

use tracing::debug;

use super::{Broker, until_stopped};
use crate::{
    credential::{Token, lookup},
    model::{Cause, Class, Resolved, Target},
    platform::clock::BootInstant,
};

impl Broker {
    /// What `target` is at the provider. May be dropped at any time.
    ///
    /// # Errors
    /// That nothing or too much fits, that the user isn't logged in, or that the Heroku API
    /// doesn't say.
    pub async fn resolve(&self, target: &Target) -> Result<Resolved, Cause> {
        let known = self.targets.last(target);
        let look_up = async |token: Arc<Token>| {
            lookup::resolve(&self.client.provider, &token, target, known.as_ref()).await
        };
        let resolved = self.client.with_token(look_up).await?;
        self.targets.learn(target, &resolved);
        Ok(resolved)
    }

    /// Where `target` leads now that led to `known`, as far as the Heroku API can be asked:
    /// `known` itself, where it can't, or where there were too many look-ups lately. Who asks
    /// for the same meanwhile shares the look-up, and it goes on when the future is dropped.
    ///
    /// # Errors
    /// That it leads nowhere, or no longer to one place.
    pub async fn look_again(&self, target: &Target, known: &Resolved) -> Result<Resolved, Cause> {
        if !self.targets.may_look() {
            return Ok(known.clone());
        }
        self.look_again_for_user(target, known).await
    }

    /// The same, however often: the user asks.
    ///
    /// # Errors
    /// As [`Broker::look_again`].
    pub async fn look_again_for_user(
        &self,
        target: &Target,
        known: &Resolved,
    ) -> Result<Resolved, Cause> {
        let look_up = || {
            let (client, targets) = (Arc::clone(&self.client), Arc::clone(&self.targets));
            let (target, known) = (target.clone(), known.clone());
            until_stopped(self.stop.clone(), async move {
                let ask = async |token: Arc<Token>| {
                    lookup::look_again(&client.provider, &token, &target, &known).await
                };
                let resolved = client.with_token(ask).await?;
                targets.learn(&target, &resolved);
                Ok(resolved)
            })
        };
        match self.targets.join(target, &self.tracker, look_up).await {
            Err(cause) if cause.kind().class == Class::NotFound => Err(cause),
            Err(cause) => {
                debug!(%target, %cause, "it isn't known whether the target leads elsewhere now");
                Ok(known.clone())
            }
            outcome => outcome,
        }
    }

    /// Takes note of what `target` led to under the daemon before.
    pub fn remember(&self, target: &Target, resolved: &Resolved) {
        self.targets.remember(target, resolved);
    }

    /// When `target` was last looked up.
    pub fn looked_up_at(&self, target: &Target) -> Option<BootInstant> {
        self.targets.looked_up_at(target)
    }

    /// What `target` was when this daemon last looked it up: good for getting ready, and no
    /// more, since it may be something else by now.
    pub fn last_resolved(&self, target: &Target) -> Option<Resolved> {
        self.targets.last(target)
    }
}
