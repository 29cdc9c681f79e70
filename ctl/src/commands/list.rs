//! `list`: all sessions, once or at every change.

use super::{Context, Outcome, watch::watch};
use crate::{args::ListArgs, ports};

pub(super) async fn run(context: Context<'_>, args: &ListArgs) -> Outcome {
    let mut daemon = context.daemon().await?;
    if args.watch {
        let mut sessions = Vec::new();
        return watch(context, daemon.watch().await?, |screen, change| {
            if let Some(change) = change {
                sessions = change.sessions;
                sessions.iter_mut().for_each(ports::complete_session);
            }
            screen.show(context.output, sessions.as_slice())
        })
        .await;
    }
    let sessions = daemon.list().await?;
    context.output.sessions(&sessions)?;
    if sessions.is_empty() {
        context
            .output
            .note("no sessions are open; open one with `borealisctl open APP`");
    }
    Ok(0)
}
