//! `events`: what happened.

use borealis_proto::v1;

use super::{Context, Outcome};
use crate::{args::EventsArgs, failure::Failure, output::events::Events};

pub(super) async fn run(context: Context<'_>, args: EventsArgs) -> Outcome {
    let request = v1::WatchEventsRequest {
        follow: args.follow,
        session: args.session.unwrap_or_default(),
        since: args.since.map(|time| prost_types::Timestamp {
            seconds: time.as_second(),
            nanos: time.subsec_nanosecond(),
        }),
    };
    let mut stream = context.running_daemon().await?.events(request).await?;
    let mut events = Events::new(context.output, args.follow);
    loop {
        let next = tokio::select! {
            next = stream.message() => next,
            () = context.output.reader_gone(), if args.follow => return Err(Failure::reader_gone()),
        };
        match next {
            Ok(Some(next)) => {
                if let Some(event) = next.event {
                    events.show(&event)?;
                }
            }
            Ok(None) if args.follow => return Err(Failure::connection_lost()),
            Ok(None) => {
                events.finish()?;
                return Ok(0);
            }
            Err(status) => return Err(Failure::from_status(&status)),
        }
    }
}
