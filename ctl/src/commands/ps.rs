//! `ps`: the connections and the programs behind them, once or at every change.

use std::time::Duration;

use borealis_proto::v1;

use super::{Context, Outcome};
use crate::{
    args::PsArgs,
    client::{Client, Reveal},
    failure::Failure,
    output::connections::Connections,
    programs::Programs,
};

/// How often the ages in a watched table are renewed.
const REFRESH: Duration = Duration::from_secs(1);

pub(super) async fn run(context: Context<'_>, args: PsArgs) -> Outcome {
    let mut daemon = context.daemon().await?;
    let sessions = names(&mut daemon, &args.sessions).await?;
    let mut programs = Programs::default();
    if args.watch {
        let changes = daemon.watch_connections(sessions).await?;
        return watch(context, changes, programs).await;
    }
    let connections = daemon.connections(sessions).await?;
    programs.look(&connections);
    context
        .output
        .connections(&Connections::new(&connections, &programs))?;
    if connections.is_empty() {
        context.output.note("nobody is connected");
    }
    Ok(0)
}

/// The names of the sessions that were named, be it by what they were opened for.
pub(super) async fn names(daemon: &mut Client, named: &[String]) -> Result<Vec<String>, Failure> {
    let mut names = Vec::new();
    for name in named {
        let target = v1::Target {
            name: name.clone(),
            ..v1::Target::default()
        };
        names.push(daemon.get(target, Reveal::Nothing).await?.session.name);
    }
    Ok(names)
}

async fn watch(
    context: Context<'_>,
    mut changes: tonic::Streaming<v1::WatchConnectionsResponse>,
    mut programs: Programs,
) -> Outcome {
    let mut screen = context.output.screen();
    let mut connections = Vec::new();
    let mut refresh = tokio::time::interval(REFRESH);
    let mut is_known = false;
    loop {
        tokio::select! {
            change = changes.message() => match change {
                Ok(Some(change)) => {
                    connections = change.connections;
                    programs.look(&connections);
                    is_known = true;
                    screen.show(context.output, &Connections::new(&connections, &programs))?;
                }
                Ok(None) => return Err(Failure::connection_lost()),
                Err(status) => return Err(Failure::from_status(&status)),
            },
            () = context.output.reader_gone() => return Err(Failure::reader_gone()),
            _ = refresh.tick(), if is_known && screen.shows_ages() => {
                screen.show(context.output, &Connections::new(&connections, &programs))?;
            }
        }
    }
}
