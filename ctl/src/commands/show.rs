//! `show`: one session in full.

use super::{Context, Outcome, target};
use crate::{args::ShowArgs, client::Reveal, output::session::View};

pub(super) async fn run(context: Context<'_>, args: &ShowArgs) -> Outcome {
    let target = target::one(&args.target)?;
    let (reveal, view) = if args.reveal {
        (Reveal::Secrets, View::Revealed)
    } else {
        (Reveal::Nothing, View::Full)
    };
    let opened = context.daemon().await?.get(target, reveal).await?;
    context.output.session(&opened, view)?;
    Ok(0)
}
