//! `status`: how the daemon is.

use super::{Context, Outcome};

pub(super) async fn run(context: Context<'_>) -> Outcome {
    let info = context.running_daemon().await?.info().await?;
    context.output.info(&info)?;
    Ok(0)
}
