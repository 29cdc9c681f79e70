//! `mcp`: a Model Context Protocol server, through which coding agents read databases and can't
//! break anything.
//!
//! Three walls stand behind each other, and none of them is this process's word filter: the
//! provider's read-only role; a read-only transaction that is never committed
//! ([`crate::query::reader`]); the extended protocol with a cursor, which takes one query and
//! nothing else. [`statement`] makes better errors of what they would refuse anyway, and
//! holds back the few functions that reach beyond a transaction.

mod answer;
mod call;
pub(super) mod config;
mod databases;
mod describe;
pub(super) mod guide;
mod progress;
mod query;
mod server;
mod statement;
mod value;

use std::{sync::Arc, time::Duration};

use rmcp::{ServiceExt as _, service::ServerInitializeError};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{call::Calls, databases::Databases, query::Bounds, server::Server};
use super::{Context, Outcome};
use crate::{
    args::{McpAction, McpArgs, ServeArgs},
    failure::{Failure, reason},
};

/// What calls get to cancel their statements, when the server ends.
const LEAVE: Duration = Duration::from_secs(4);

pub(super) async fn run(context: Context<'_>, args: McpArgs) -> Outcome {
    match args.action {
        Some(McpAction::Config(args)) => config::run(context, &args),
        None => serve(context, args.serve).await,
    }
}

async fn serve(context: Context<'_>, args: ServeArgs) -> Outcome {
    let databases = Databases::new(context, databases::named(args.targets)?);
    databases.check().await?;
    let ends = CancellationToken::new();
    let running = TaskTracker::new();
    let server = Server {
        calls: Arc::new(Calls::new(databases, args.timeout)),
        bounds: Bounds {
            rows: args.max_rows,
            bytes: args.max_bytes as usize,
        },
        ends: ends.clone(),
        running: running.clone(),
    };
    let handle = |kind| {
        signal(kind)
            .map_err(|error| Failure::failed(format!("can't handle signals: {}", reason(&error))))
    };
    let mut interrupt = handle(SignalKind::interrupt())?;
    let mut terminate = handle(SignalKind::terminate())?;
    let mut hangup = handle(SignalKind::hangup())?;
    let serving = async {
        let service = match server.serve(rmcp::transport::stdio()).await {
            Ok(service) => service,
            // A client that only looked.
            Err(ServerInitializeError::ConnectionClosed(_)) => return Ok(()),
            Err(error) => {
                return Err(Failure::failed(format!("no client could be greeted: {error}"))
                    .with_hint("an MCP client starts this command; `borealisctl mcp config CLIENT` says how"));
            }
        };
        // Ends with standard input. A task of the SDK that panicked is no reason to say more.
        let _ = service.waiting().await;
        Ok(())
    };
    let outcome = tokio::select! {
        outcome = serving => outcome.map(|()| 0),
        _ = interrupt.recv() => Err(Failure::interrupted(2)),
        _ = terminate.recv() => Err(Failure::interrupted(15)),
        _ = hangup.recv() => Err(Failure::interrupted(1)),
    };
    ends.cancel();
    running.close();
    let _ = tokio::time::timeout(LEAVE, running.wait()).await;
    outcome
}
