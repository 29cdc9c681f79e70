//! `rotate`: new personal credentials.

use borealis_proto::v1;

use super::{Context, Outcome, target};
use crate::{
    args::RotateArgs,
    failure::Failure,
    output::{Format, Text, text},
};

pub(super) async fn run(context: Context<'_>, args: &RotateArgs) -> Outcome {
    let request = v1::RotateSessionsRequest {
        targets: target::several(&args.targets).await?,
        all: args.targets.all,
    };
    let mut daemon = context.daemon().await?;
    let spinner = context
        .output
        .spinner("asking for new credentials".to_owned());
    let rotated = daemon.rotate(request).await;
    drop(spinner);
    let v1::RotateSessionsResponse {
        sessions: rotated,
        failures,
    } = rotated?;
    if context.output.format == Format::Table {
        let line = |session: &v1::Session| match &session.credential {
            Some(credential) => format!(
                "rotated {}: new connections use credential {}\n",
                text::name(&session.name),
                credential.generation
            ),
            None => format!("rotated {}\n", text::name(&session.name)),
        };
        context
            .output
            .text(&Text::lines(rotated.iter().map(line).collect::<String>()))?;
    } else {
        context.output.sessions(&rotated)?;
    }
    if rotated.is_empty() && failures.is_empty() {
        context.output.note("no sessions are open");
    }
    let mut code = 0;
    for v1::RotationFailure { session, failure } in failures {
        let failure = Failure::from(failure.unwrap_or_default());
        if code == 0 {
            code = failure.exit.code();
        }
        let message = format!("{session} was not rotated: {}", failure.message);
        context.output.failure(&Failure { message, ..failure });
    }
    Ok(code)
}
