//! `users`: database users.

use borealis_proto::v1;

use super::{Context, Outcome, confirm, target};
use crate::args::addons::{UsersAction, UsersArgs};

pub(super) async fn run(context: Context<'_>, args: UsersArgs) -> Outcome {
    match args.action {
        None => list(context, target::one(&args.target).await?).await,
        Some(UsersAction::Reset(inner)) => {
            let target = target::merged(args.target, &inner.target).await?;
            reset(context, target, inner.confirm.as_ref()).await
        }
    }
}

async fn list(context: Context<'_>, target: v1::Target) -> Outcome {
    let answer = context.daemon().await?.users(target).await?;
    context.output.users(&answer.users)?;
    if answer.users.is_empty() {
        context.output.note("no users found");
    }
    Ok(0)
}

async fn reset(context: Context<'_>, target: v1::Target, given: Option<&String>) -> Outcome {
    confirm::require(context, given, "APP, the app's name")?;
    let mut daemon = context.daemon().await?;
    let found = daemon.find_addon(target).await?;
    let addon = found.addon.unwrap_or_default();
    if given.is_none() {
        context.output.reset_ahead(&addon, &found.sessions);
    }
    let question = format!("Enter the name of the app ({}) to confirm", addon.app);
    confirm::confirm(context, given, &addon.app, &question).await?;
    // What was confirmed, and nothing that the target may have come to mean since.
    let confirmed = v1::Target {
        app: addon.app.clone(),
        addon: addon.name.clone(),
        ..v1::Target::default()
    };
    let spinner = context
        .output
        .spinner(format!("resetting the users of {}", addon.name));
    let answer = daemon.reset_users(confirmed).await;
    drop(spinner);
    context.output.users_reset(&answer?)?;
    Ok(0)
}
