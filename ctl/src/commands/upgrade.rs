//! `upgrade`: PostgreSQL major versions.

use super::{Context, Outcome, target};
use crate::args::addons::{UpgradeAction, UpgradeCommandArgs};

pub(super) async fn run(context: Context<'_>, args: UpgradeCommandArgs) -> Outcome {
    let output = context.output;
    match args.action {
        UpgradeAction::Info(args) => {
            let target = target::one(&args.target).await?;
            let answer = context.daemon().await?.upgrade(target).await?;
            output.upgrade(&answer)?;
        }
        UpgradeAction::Execute(args) => {
            let target = target::one(&args.target).await?;
            let mut daemon = context.daemon().await?;
            let spinner = output.spinner("starting the upgrade".to_owned());
            let answer = daemon.execute_upgrade(target).await;
            drop(spinner);
            output.upgrade_started(&answer?)?;
            output.note("the provider sends an email when the upgrade is complete");
        }
        UpgradeAction::Cancel(args) => {
            let target = target::one(&args.target).await?;
            let mut daemon = context.daemon().await?;
            let spinner = output.spinner("cancelling the upgrade".to_owned());
            let answer = daemon.cancel_upgrade(target).await;
            drop(spinner);
            let done = "cancelled the PostgreSQL upgrade of";
            output.done_with(answer?.addon.as_ref(), done)?;
            output.note("some minutes may pass before another upgrade can be tried");
        }
    }
    Ok(0)
}
