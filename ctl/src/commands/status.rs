//! `status`: how the daemon is.

use std::time::Duration;

use tokio::time::timeout;

use super::{Context, Outcome};
use crate::service;

/// Who asks how the daemon is doesn't want to wait for Heroku.
const LIMIT: Duration = Duration::from_secs(5);

pub(super) async fn run(context: Context<'_>) -> Outcome {
    let mut daemon = context.running_daemon().await?;
    let mut info = daemon.info().await?;
    let mut who = None;
    if info.token_source.is_empty() {
        // The daemon hasn't needed the token yet, or it was refused when it was last used,
        // which may be long ago.
        let spinner = context.output.spinner("asking Heroku".to_owned());
        who = timeout(LIMIT, daemon.who_am_i())
            .await
            .ok()
            .and_then(Result::ok);
        drop(spinner);
        info = daemon.info().await?;
    }
    let log = service::log_of(info.pid);
    context.output.info(&info, who.as_ref(), &log)?;
    Ok(0)
}
