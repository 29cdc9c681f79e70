//! `restore`: restores and clones.

use borealis_proto::v1;
use jiff::Timestamp;

use super::{Context, Outcome, described, target, wait};
use crate::args::addons::{RestoreAction, RestoreArgs, RestoreCommandArgs};

pub(super) async fn run(context: Context<'_>, args: RestoreCommandArgs) -> Outcome {
    match args.action {
        RestoreAction::Capabilities(args) => {
            let target = target::one(&args.target).await?;
            let answer = context.daemon().await?.restore_capabilities(target).await?;
            context.output.capabilities(&answer)?;
            Ok(0)
        }
        RestoreAction::Execute(args) => execute(context, args).await,
    }
}

async fn execute(context: Context<'_>, args: RestoreArgs) -> Outcome {
    let target = target::one(&args.target).await?;
    let what = described(Some(&target));
    let request = v1::ExecuteRestoreRequest {
        target: Some(target),
        attachment: args.attachment.unwrap_or_default(),
        destination_app: args.destination_app.unwrap_or_default(),
        plan: args.new_plan.unwrap_or_default(),
        restore_to: args.restore_to_time.map(timestamp),
        join: args.wait,
    };
    let mut daemon = context.daemon().await?;
    let verb = if request.restore_to.is_some() {
        "restore"
    } else {
        "clone"
    };
    let spinner = context
        .output
        .spinner(format!("starting the {verb} of {what}"));
    let started = daemon.execute_restore(request).await;
    drop(spinner);
    let started = started?;
    let name = started.addon.clone().unwrap_or_default().name;
    if !args.wait {
        context.output.restore_started(&started)?;
        context.output.note(&format!(
            "it goes on in the background, and the app restarts when it is done; wait for it with `borealisctl info {name} --wait`"
        ));
        return Ok(0);
    }
    context.output.restore_begun(&started)?;
    let new = v1::Target {
        addon: name.clone(),
        ..v1::Target::default()
    };
    let end = wait::until_provisioned(context, &mut daemon, new, &name).await?;
    context.output.restore_done(&started, &end)?;
    Ok(0)
}

fn timestamp(time: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: time.as_second(),
        nanos: time.subsec_nanosecond(),
    }
}
