//! `list`: all sessions, once or at every change.

use std::time::Duration;

use borealis_proto::v1;

use super::{Context, Outcome};
use crate::{args::ListArgs, failure::Failure, ports};

/// How often the ages in a watched table are renewed.
const REFRESH: Duration = Duration::from_secs(1);

pub(super) async fn run(context: Context<'_>, args: &ListArgs) -> Outcome {
    let mut daemon = context.daemon().await?;
    if args.watch {
        return watch(context, daemon.watch().await?).await;
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

async fn watch(
    context: Context<'_>,
    mut changes: tonic::Streaming<v1::WatchSessionsResponse>,
) -> Outcome {
    let mut screen = context.output.screen();
    let mut sessions = Vec::new();
    let mut refresh = tokio::time::interval(REFRESH);
    let mut is_known = false;
    loop {
        tokio::select! {
            change = changes.message() => match change {
                Ok(Some(change)) => {
                    sessions = change.sessions;
                    sessions.iter_mut().for_each(ports::complete_session);
                    is_known = true;
                    screen.show(context.output, sessions.as_slice())?;
                }
                Ok(None) => return Err(Failure::connection_lost()),
                Err(status) => return Err(Failure::from_status(&status)),
            },
            () = context.output.reader_gone() => return Err(Failure::reader_gone()),
            _ = refresh.tick(), if is_known && screen.shows_ages() => {
                screen.show(context.output, sessions.as_slice())?;
            }
        }
    }
}
