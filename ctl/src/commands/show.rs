//! `show`: one session in full.

use super::{Context, Outcome, target};
use crate::{args::ShowArgs, client::Reveal, output::session::View, ports};

pub(super) async fn run(context: Context<'_>, args: &ShowArgs) -> Outcome {
    let target = target::one(&args.target).await?;
    let reveal = Reveal::when(args.reveal);
    let opened = context.daemon().await?.get(target, reveal).await?;
    ports::warn_of_thief(context.output, &opened.session);
    context.output.session(&opened, View::Full, reveal)?;
    Ok(0)
}
