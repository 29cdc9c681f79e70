//! `kill`: ends connections, or cancels what they are running.

use std::time::Duration;

use borealis_proto::v1;
use jiff::Timestamp;

use super::{Context, Outcome, ps};
use crate::{args::KillArgs, client::Client, failure::Failure, output::connections::Done};

/// Who asks, for the client's message and the event.
const BY: &str = "borealisctl kill";

pub(super) async fn run(context: Context<'_>, args: KillArgs) -> Outcome {
    let (mut daemon, ids) = match args.idle_in_transaction {
        Some(least) => {
            let mut daemon = context.daemon().await?;
            let sessions = ps::names(&mut daemon, &args.which).await?;
            let ids = idle_in_transaction(&mut daemon, sessions, least).await?;
            (daemon, ids)
        }
        None => {
            let ids = args.which.iter().map(|word| id(word));
            let ids = ids.collect::<Result<Vec<_>, _>>()?;
            (context.daemon().await?, ids)
        }
    };
    let (done, outcomes) = if args.query {
        (Done::Cancelled, daemon.cancel_queries(ids, BY).await?)
    } else {
        (Done::Ended, daemon.end_connections(ids, BY).await?)
    };
    context.output.outcomes(done, &outcomes)?;
    if outcomes.is_empty() {
        context
            .output
            .note("no transaction has been idle for that long");
    }
    let mut code = 0;
    for failure in outcomes.into_iter().filter_map(|outcome| outcome.failure) {
        let failure = Failure::from(failure);
        if code == 0 {
            code = failure.exit.code();
        }
        context.output.failure(&failure);
    }
    Ok(code)
}

fn id(word: &str) -> Result<u64, Failure> {
    word.parse().map_err(|_| {
        Failure::usage(format!("{word} is no number of a connection")).with_hint(
            "`borealisctl ps` shows them; a session's connections are ended by `borealisctl close`, or with --idle-in-transaction",
        )
    })
}

/// The connections whose transaction has been idle for that long.
async fn idle_in_transaction(
    daemon: &mut Client,
    sessions: Vec<String>,
    least: Duration,
) -> Result<Vec<u64>, Failure> {
    let now = crate::output::now();
    let connections = daemon.connections(sessions).await?;
    let ids = connections
        .iter()
        .filter(|connection| has_been_idle(connection, now, least))
        .map(|connection| connection.id);
    Ok(ids.collect())
}

fn has_been_idle(connection: &v1::Connection, now: Timestamp, least: Duration) -> bool {
    let is_idle = matches!(
        connection.state(),
        v1::ConnectionState::IdleInTransaction | v1::ConnectionState::IdleInTransactionAborted
    );
    let since = connection
        .state_since
        .and_then(|at| Timestamp::new(at.seconds, at.nanos).ok());
    let lasts = since.and_then(|since| Duration::try_from(now.duration_since(since)).ok());
    is_idle && lasts.is_some_and(|lasts| lasts >= least)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_transactions_that_have_been_idle_for_long_are_ended() {
        let now = Timestamp::from_second(1_795_000_000).unwrap();
        let idle = |state: v1::ConnectionState, seconds| v1::Connection {
            state: state.into(),
            state_since: Some(prost_types::Timestamp {
                seconds: now.as_second() - seconds,
                nanos: 0,
            }),
            ..v1::Connection::default()
        };
        let ten = Duration::from_secs(600);
        use v1::ConnectionState::{
            Active, Idle, IdleInTransaction, IdleInTransactionAborted, Passthrough,
        };
        for state in [IdleInTransaction, IdleInTransactionAborted] {
            assert!(has_been_idle(&idle(state, 600), now, ten));
            assert!(!has_been_idle(&idle(state, 599), now, ten));
            // A clock that was set back ends nobody.
            assert!(!has_been_idle(&idle(state, -600), now, ten));
        }
        for state in [Active, Idle, Passthrough] {
            assert!(!has_been_idle(&idle(state, 6000), now, ten));
        }
    }
}
