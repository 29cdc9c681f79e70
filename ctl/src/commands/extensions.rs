//! `extensions`: PostgreSQL extensions.

use borealis_proto::v1;

use super::{Context, Outcome, confirm, target};
use crate::{
    args::addons::{ExtensionsAction, ExtensionsArgs, InstallArgs, RemoveExtensionArgs},
    failure::Failure,
    output::Format,
};

pub(super) async fn run(context: Context<'_>, args: ExtensionsArgs) -> Outcome {
    match args.action {
        None => list(context, target::one(&args.target).await?).await,
        Some(ExtensionsAction::Install(inner)) => {
            let target = target::merged(args.target, &inner.target).await?;
            install(context, target, inner).await
        }
        Some(ExtensionsAction::Remove(inner)) => {
            let target = target::merged(args.target, &inner.target).await?;
            remove(context, target, inner).await
        }
    }
}

async fn list(context: Context<'_>, target: v1::Target) -> Outcome {
    let answer = context.daemon().await?.extensions(target).await?;
    context.output.extensions(&answer.extensions)?;
    if answer.extensions.is_empty() {
        context.output.note("no extensions are installed");
    }
    Ok(0)
}

async fn install(context: Context<'_>, target: v1::Target, args: InstallArgs) -> Outcome {
    let request = v1::InstallExtensionRequest {
        target: Some(target),
        extension: args.extension,
        recursive: args.recursive,
    };
    let mut daemon = context.daemon().await?;
    let mut installed = Vec::new();
    let outcome = follow(context, &mut daemon, request, &mut installed).await;
    // What was installed is told also where the rest failed.
    if outcome.is_ok() || !installed.is_empty() {
        context.output.extensions(&installed)?;
    }
    match outcome {
        Err(failure) if args.suppress_conflict && failure.code == "extension-exists" => {
            if installed.is_empty() && context.output.format != Format::Table {
                context.output.extensions(&[])?;
            }
            context.output.warning(&failure.message);
            Ok(0)
        }
        outcome => outcome.map(|()| 0),
    }
}

/// Collects what gets installed, in order.
async fn follow(
    context: Context<'_>,
    daemon: &mut crate::client::Client,
    request: v1::InstallExtensionRequest,
    installed: &mut Vec<v1::Extension>,
) -> Result<(), Failure> {
    let spinner = context
        .output
        .spinner(format!("installing {}", request.extension));
    let mut steps = daemon.install_extension(request).await?;
    loop {
        let step = match steps.message().await {
            Ok(Some(step)) => step,
            Ok(None) => return Ok(()),
            Err(status) => return Err(Failure::from_status(&status)),
        };
        let extension = step.extension.clone().unwrap_or_default();
        match step.step() {
            v1::InstallStep::Started => spinner.say(format!("installing {}", extension.name)),
            v1::InstallStep::Installed => installed.push(extension),
            v1::InstallStep::Present | v1::InstallStep::Unspecified => {}
        }
    }
}

async fn remove(context: Context<'_>, target: v1::Target, args: RemoveExtensionArgs) -> Outcome {
    let extension = args.extension;
    let given = args.confirm.as_ref();
    confirm::require(context, given, &extension)?;
    let question = "Enter the name of the extension to confirm its removal";
    confirm::confirm(context, given, &extension, question).await?;
    let request = v1::RemoveExtensionRequest {
        target: Some(target),
        extension: extension.clone(),
    };
    let mut daemon = context.daemon().await?;
    let spinner = context.output.spinner(format!("removing {extension}"));
    let removed = daemon.remove_extension(request).await;
    drop(spinner);
    match removed {
        Ok(answer) => {
            let done = format!("removed extension {extension} from");
            context.output.done_with(answer.addon.as_ref(), &done)?;
        }
        Err(failure) if args.suppress_missing && failure.code == "extension-not-installed" => {
            context.output.warning(&failure.message);
        }
        Err(failure) => return Err(failure),
    }
    Ok(0)
}
