//! `ps`: the connections and the programs behind them, once or at every change.

use borealis_proto::v1;

use super::{Context, Outcome, watch::watch};
use crate::{
    args::PsArgs,
    client::{Client, Reveal},
    failure::Failure,
    output::connections::Connections,
    programs::Programs,
};

pub(super) async fn run(context: Context<'_>, args: PsArgs) -> Outcome {
    let mut daemon = context.daemon().await?;
    let sessions = names(&mut daemon, &args.sessions).await?;
    let mut programs = Programs::default();
    if args.watch {
        let changes = daemon.watch_connections(sessions).await?;
        let mut connections = Vec::new();
        return watch(context, changes, |screen, change| {
            if let Some(change) = change {
                connections = change.connections;
                programs.look(&connections);
            }
            screen.show(context.output, &Connections::new(&connections, &programs))
        })
        .await;
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
