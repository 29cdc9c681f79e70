//! `info`: what an add-on is like.

use super::{Context, Outcome, described, target, wait};
use crate::args::addons::InfoArgs;

pub(super) async fn run(context: Context<'_>, args: &InfoArgs) -> Outcome {
    let target = target::one(&args.target).await?;
    let mut daemon = context.daemon().await?;
    if args.wait {
        let name = described(Some(&target));
        wait::until_provisioned(context, &mut daemon, target.clone(), &name).await?;
    }
    let answer = daemon.addon(target).await?;
    context.output.addon(&answer)?;
    Ok(0)
}
