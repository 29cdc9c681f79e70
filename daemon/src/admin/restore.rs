//! Restores and clones: new add-ons made from another one's data.
//!
//! Each costs money and takes long, so none is started twice by mistake: a request that may
//! have got through is not repeated. Who waits and asks again gets what was started before,
//! as long as the daemon remembers it ([`Started`]); what only the provider shows may be
//! another one, so that is named and nothing is started.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::future::join_all;
use jiff::Timestamp;

use super::{borealis, reason};
use crate::{
    credential::{Broker, Grant, Token},
    model::{Cause, Refusal, Resolved, Target},
    platform::clock::{BootInstant, Clock},
    provider::{
        Failure, NewAddon, Waiting,
        wire::{Addon, addon::RestoreCapabilities},
    },
};

/// How long a start is remembered: less than the day after which a nightly clone is asked
/// for again and meant.
const MEMORY: Duration = Duration::from_secs(6 * 3600);
/// Starts remembered at most.
const MOST: usize = 100;

/// What is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Name of the new attachment; `None` for Heroku's choice.
    pub attachment: Option<String>,
    /// App that gets the new add-on; `None` for the app that owns the source.
    pub destination_app: Option<String>,
    /// Its plan, with or without the service's name; `None` for the source's.
    pub plan: Option<String>,
    /// `None` for a clone as of now.
    pub restore_to: Option<Timestamp>,
}

/// What to do about a restore of the same source that is still under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// Don't start another one.
    Join,
    /// Make another one.
    Start,
}

/// A new add-on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Execution {
    /// Its name.
    pub addon: String,
    /// The app that gets it.
    pub app: String,
    /// Its plan, with the service's name.
    pub plan: String,
    /// Heroku's word: `provisioning`.
    pub state: String,
    /// Whether it was made by this request or one before.
    pub created: Created,
}

/// By which request an add-on was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// By this one.
    Now,
    /// By one before, that was the same.
    Before,
}

/// Remembers what was started and not yet waited for to its end.
#[derive(Debug, Default)]
pub struct Started(Mutex<Vec<Memory>>);

#[derive(Debug)]
struct Memory {
    /// As it was typed: what is made in the source's own app makes that app's name ambiguous.
    target: Target,
    request: Request,
    source: Resolved,
    execution: Execution,
    at: BootInstant,
}

/// A request with nothing left to default.
#[derive(Debug)]
struct Order {
    source: String,
    app: String,
    plan: String,
    attachment: Option<String>,
    restore_to: Option<Timestamp>,
}

/// Whether and to which times an add-on's database can be restored.
///
/// # Errors
/// What the provider answers instead.
pub async fn capabilities(broker: &Broker, addon: &str) -> Result<RestoreCapabilities, Cause> {
    let call = async |grant: Grant| borealis(broker, &grant, addon).restore_capabilities().await;
    broker
        .with_grant(call, |failure| failure.addon_cause(addon))
        .await
}

/// What the same request, in the same words, has started before, and from what.
///
/// # Errors
/// That Heroku doesn't say whether it is still there.
pub async fn join(
    broker: &Broker,
    started: &Started,
    target: &Target,
    request: &Request,
) -> Result<Option<(Resolved, Execution)>, Cause> {
    let Some((source, execution)) = started.find(target, request) else {
        return Ok(None);
    };
    match heroku_addon(broker, &execution.addon).await {
        Ok(addon) => Ok(Some((
            source,
            Execution {
                state: addon.state.unwrap_or_default(),
                created: Created::Before,
                ..execution
            },
        ))),
        // Cancelled or removed since.
        Err(Cause::AddonNotFound { .. }) => {
            started.forget(&execution.addon);
            Ok(None)
        }
        Err(cause) => Err(cause),
    }
}

/// Starts a restore or clone of `source`, which `target` meant. Dropping the future abandons
/// the start, which may still take place.
///
/// # Errors
/// Why it can't be started, that it isn't known whether it was, or that one is under way
/// that is to be joined and may be another one.
pub async fn execute(
    broker: &Broker,
    started: &Started,
    target: Target,
    source: Resolved,
    request: Request,
    again: Again,
) -> Result<Execution, Cause> {
    let order = order(broker, &source.addon, request.clone()).await?;
    if again == Again::Join
        && let Some(addon) = under_way(broker, &order).await?
    {
        return Err(Cause::Refused(Refusal::RestoreUnderWay {
            source: order.source,
            addon,
        }));
    }
    let execution = start(broker, &order).await?;
    tracing::info!(
        source = order.source,
        addon = execution.addon,
        app = execution.app,
        "restore or clone started"
    );
    started.remember(Memory {
        target,
        request,
        source,
        execution: execution.clone(),
        at: Clock::now(),
    });
    Ok(execution)
}

/// Fills in what the source decides.
async fn order(broker: &Broker, source: &str, request: Request) -> Result<Order, Cause> {
    let addon = heroku_addon(broker, source).await?;
    let unknown = |what: &str| Cause::ProviderUnavailable {
        api: "Heroku API",
        detail: format!("it doesn't say which {what} add-on {source} has"),
    };
    let app = request.destination_app.or(addon.app.map(|app| app.name));
    let plan = request.plan.or(addon.plan.map(|plan| plan.name));
    let prefix = format!("{}:", broker.provider().endpoints().service());
    let plan = plan.ok_or_else(|| unknown("plan"))?;
    Ok(Order {
        source: source.to_owned(),
        app: app.ok_or_else(|| unknown("app"))?,
        plan: if plan.starts_with(&prefix) {
            plan
        } else {
            format!("{prefix}{plan}")
        },
        attachment: request.attachment,
        restore_to: request.restore_to,
    })
}

async fn heroku_addon(broker: &Broker, addon: &str) -> Result<Addon, Cause> {
    broker
        .with_token(async |token: Arc<Token>| {
            let heroku = broker.provider().heroku(&token.value, Waiting::Somebody);
            heroku
                .addon(addon)
                .await
                .map_err(|failure| match failure.status() {
                    Some(404) => Cause::AddonNotFound {
                        addon: addon.to_owned(),
                        app: None,
                    },
                    _ => failure.heroku_cause(&token.source),
                })
        })
        .await
}

/// An add-on of the destination that is being made from the same source: by whom and to
/// which time is not told by anybody.
async fn under_way(broker: &Broker, order: &Order) -> Result<Option<String>, Cause> {
    let service = broker.provider().endpoints().service();
    let addons = broker
        .with_token(async |token: Arc<Token>| {
            let heroku = broker.provider().heroku(&token.value, Waiting::Somebody);
            let addons = heroku.app_addons(&order.app).await;
            addons.map_err(|failure| about_destination(failure, order, &token))
        })
        .await?;
    let ours = addons
        .into_iter()
        .filter(|addon| addon.addon_service.name == service && addon.name != order.source);
    let looks = ours.map(async |addon| {
        let call = async |grant: Grant| borealis(broker, &grant, &addon.name).info().await;
        let info = broker.with_grant(call, |failure| failure.addon_cause(&addon.name));
        match info.await {
            Ok(info)
                if info.is_being_provisioned()
                    && info.restore_source_addon_name.as_ref() == Some(&order.source) =>
            {
                Ok(Some(addon.name.clone()))
            }
            Err(cause @ (Cause::ProviderUnavailable { .. } | Cause::RateLimited { .. })) => {
                Err(cause)
            }
            // One that may not be looked at isn't ours to wait for.
            Ok(_) | Err(_) => Ok(None),
        }
    });
    let found: Vec<_> = join_all(looks)
        .await
        .into_iter()
        .collect::<Result<_, _>>()?;
    Ok(found.into_iter().flatten().next())
}

async fn start(broker: &Broker, order: &Order) -> Result<Execution, Cause> {
    let source = order.source.as_str();
    let call = async |grant: Grant| borealis(broker, &grant, source).restore_token().await;
    let restore_token = broker
        .with_grant(call, |failure| match failure.status() {
            Some(400) => Cause::Refused(Refusal::RestoreImpossible {
                addon: source.to_owned(),
                reason: reason(&failure),
            }),
            _ => failure.addon_cause(source),
        })
        .await?;
    let restore_to = order.restore_to.map(|time| time.to_string());
    let new = NewAddon {
        plan: &order.plan,
        restore_token: &restore_token,
        restore_to_time: restore_to.as_deref(),
        attachment: order.attachment.as_deref(),
    };
    broker
        .with_token(async |token: Arc<Token>| {
            let heroku = broker.provider().heroku(&token.value, Waiting::Somebody);
            let addon = heroku
                .create_addon(&order.app, &new)
                .await
                .map_err(|failure| about_destination(failure, order, &token))?;
            Ok(Execution {
                addon: addon.name,
                app: addon.app.map_or_else(|| order.app.clone(), |app| app.name),
                plan: addon
                    .plan
                    .map_or_else(|| order.plan.clone(), |plan| plan.name),
                state: addon.state.unwrap_or_default(),
                created: Created::Now,
            })
        })
        .await
}

fn about_destination(failure: Failure, order: &Order, token: &Token) -> Cause {
    match failure {
        Failure::Lost { api, detail } => Cause::OutcomeUnknown {
            doing: format!(
                "the restore or clone of add-on {} was started on app {} (`heroku addons --app {}` shows it)",
                order.source, order.app, order.app
            ),
            detail: format!("{api}: {detail}"),
            look: None,
        },
        failure if failure.status() == Some(404) && failure.text("resource") != Some("plan") => {
            Cause::AppNotFound {
                app: order.app.clone(),
            }
        }
        failure => failure.heroku_cause(&token.source),
    }
}

// === impl Started ===

impl Started {
    /// Somebody has waited for this add-on to its end: the next request is a new one.
    pub fn forget(&self, addon: &str) {
        self.with(|all| all.retain(|memory| memory.execution.addon != addon));
    }

    fn find(&self, target: &Target, request: &Request) -> Option<(Resolved, Execution)> {
        self.with(|all| {
            let is_same = |memory: &&Memory| memory.target == *target && memory.request == *request;
            let memory = all.iter().rev().find(is_same)?;
            Some((memory.source.clone(), memory.execution.clone()))
        })
    }

    fn remember(&self, memory: Memory) {
        self.with(|all| {
            if all.len() == MOST {
                all.remove(0);
            }
            all.push(memory);
        });
    }

    fn with<T>(&self, use_it: impl FnOnce(&mut Vec<Memory>) -> T) -> T {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|memory| memory.at.elapsed() < MEMORY);
        use_it(&mut all)
    }
}
