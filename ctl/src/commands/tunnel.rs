//! `tunnel`: a session for as long as the command runs, as the reference tool's scripts expect.

use tokio::signal::unix::{SignalKind, signal};

use super::{Context, Outcome, target};
use crate::{
    args::TunnelArgs,
    failure::{Failure, reason},
};

pub(super) async fn run(context: Context<'_>, args: TunnelArgs) -> Outcome {
    let request = target::to_use(context, &args.target, args.write_access, args.port).await?;
    let (opened, mut held) = super::hold(context, request).await?;
    // Until here a signal just ends it. From here on whoever has read the lines may send one.
    let failed = |error: std::io::Error| {
        Failure::failed(format!("can't handle signals: {}", reason(&error)))
    };
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    context.output.tunnel(&opened)?;
    let name = &opened.session.name;
    let end = if opened.session.transient {
        "closes it"
    } else {
        "leaves it open, as it was before"
    };
    context
        .output
        .note(&format!("{name} is held open; Ctrl-C {end}"));
    tokio::select! {
        // The way to end it, so nothing went wrong.
        _ = interrupt.recv() => Ok(0),
        failure = held.ended() => Err(failure),
    }
}
