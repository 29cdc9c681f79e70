//! `reload`: config and token are read again.

use super::{Context, Outcome};

pub(super) async fn run(context: Context<'_>) -> Outcome {
    let changes = context.running_daemon().await?.reload().await?;
    context.output.changes(&changes)?;
    for sentence in &changes.later {
        context.output.note(sentence);
    }
    Ok(0)
}
