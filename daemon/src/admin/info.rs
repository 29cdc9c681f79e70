//! What an add-on is like, and following it until it is there.

use std::{sync::Arc, time::Duration};

use tokio::{sync::mpsc, time::sleep};

use super::borealis;
use crate::{
    credential::{Broker, Grant, Token},
    model::{Cause, Refusal},
    provider::{Waiting, wire::addon::AddonInfo},
};

/// How often an add-on is looked at while it is being provisioned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Between two looks at Heroku.
    pub heroku: Duration,
    /// Before the second look at the provider; each further pause is twice as long, since
    /// what takes longer needs less precision.
    pub provider_first: Duration,
    /// No pause is longer.
    pub provider_longest: Duration,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct News {
    /// Heroku's word: `provisioning`, `provisioned`.
    pub state: String,
    /// The provider's word; empty until it is asked.
    pub status: String,
    /// No longer being provisioned.
    pub done: bool,
    /// Why nothing was found this time.
    pub trouble: Option<Cause>,
}

const PROVISIONING: &str = "provisioning";

/// What the provider tells of an add-on.
///
/// # Errors
/// What it answers instead.
pub async fn get(broker: &Broker, addon: &str) -> Result<AddonInfo, Cause> {
    let call = async |grant: Grant| borealis(broker, &grant, addon).info().await;
    broker
        .with_grant(call, |failure| failure.addon_cause(addon))
        .await
}

/// Follows an add-on until it is no longer being provisioned, telling `news` of each change;
/// the last one is `done`. Passing troubles are told and waited out. Ends early where nobody
/// listens any more; may be dropped at any time.
///
/// # Errors
/// That the provisioning was cancelled, or that nothing can be learned without the user.
pub async fn follow(
    broker: &Broker,
    addon: &str,
    pace: Pace,
    news: &mpsc::Sender<Result<News, Cause>>,
) -> Result<(), Cause> {
    let mut told = None;
    let mut pause = pace.provider_first;
    loop {
        let found = match look(broker, addon).await {
            Ok(found) => found,
            Err(cause) if is_passing(&cause) => News {
                trouble: Some(cause),
                ..told.clone().unwrap_or_default()
            },
            Err(cause) => return Err(cause),
        };
        let done = found.done;
        let wait = if found.status.is_empty() {
            pace.heroku
        } else {
            let now = pause;
            pause = (pause * 2).min(pace.provider_longest);
            now
        };
        if told.as_ref() != Some(&found) {
            told = Some(found.clone());
            if news.send(Ok(found)).await.is_err() {
                return Ok(());
            }
        }
        if done {
            return Ok(());
        }
        tokio::select! {
            () = sleep(wait) => {}
            () = news.closed() => return Ok(()),
        }
    }
}

/// Heroku knows first of a new add-on, but may call it provisioned before the provider does.
async fn look(broker: &Broker, addon: &str) -> Result<News, Cause> {
    let cancelled = || {
        Cause::Refused(Refusal::ProvisioningCancelled {
            addon: addon.to_owned(),
        })
    };
    let state = broker
        .with_token(async |token: Arc<Token>| {
            let heroku = broker.provider().heroku(&token.value, Waiting::Somebody);
            match heroku.addon(addon).await {
                Ok(found) => Ok(found.state.unwrap_or_default()),
                Err(failure) if failure.status() == Some(404) => Err(cancelled()),
                Err(failure) => Err(failure.heroku_cause(&token.source)),
            }
        })
        .await?;
    let mut news = News {
        state,
        ..News::default()
    };
    match news.state.as_str() {
        PROVISIONING => return Ok(news),
        "deprovisioning" | "deprovisioned" => return Err(cancelled()),
        _ => {}
    }
    let call = async |grant: Grant| borealis(broker, &grant, addon).info().await;
    let found = broker.with_grant(call, |failure| match failure.status() {
        Some(404) => cancelled(),
        _ => failure.addon_cause(addon),
    });
    match found.await {
        Ok(info) => {
            news.done = !info.is_being_provisioned();
            news.status = info.status.unwrap_or_else(|| "unknown".to_owned());
        }
        Err(Cause::Provisioning { .. }) => news.status = PROVISIONING.to_owned(),
        Err(cause) => return Err(cause),
    }
    Ok(news)
}

fn is_passing(cause: &Cause) -> bool {
    matches!(
        cause,
        Cause::ProviderUnavailable { .. } | Cause::RateLimited { .. }
    )
}

// === impl Pace ===

impl Default for Pace {
    /// The longest are those of the provider's own client.
    fn default() -> Self {
        Self {
            heroku: Duration::from_secs(5),
            provider_first: Duration::from_secs(10),
            provider_longest: Duration::from_secs(150),
        }
    }
}
