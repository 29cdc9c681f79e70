//! `close`: ends sessions.

use std::time::Duration;

use borealis_proto::v1;

use super::{Context, Outcome, target};
use crate::{
    args::CloseArgs,
    failure::Failure,
    output::{Format, Text, text::name},
};

pub(super) async fn run(context: Context<'_>, args: &CloseArgs) -> Outcome {
    let request = v1::CloseSessionsRequest {
        targets: target::several(&args.targets).await?,
        all: args.targets.all,
        grace: (args.grace > Duration::ZERO)
            .then(|| super::duration(args.grace))
            .transpose()?,
    };
    let mut daemon = context.daemon().await?;
    let spinner = context.output.spinner("closing".to_owned());
    let closed = daemon.close(request).await;
    drop(spinner);
    let closed = closed?;
    print(context, &closed)?;
    if closed.is_empty() {
        context.output.note("no sessions were open");
    }
    Ok(0)
}

/// Tells which sessions were closed.
pub(super) fn print(context: Context<'_>, closed: &[v1::Session]) -> Result<(), Failure> {
    if context.output.format != Format::Table {
        return context.output.sessions(closed);
    }
    let lines: String = closed
        .iter()
        .map(|s| format!("closed {}\n", name(&s.name)))
        .collect();
    context.output.text(&Text::lines(lines))
}
