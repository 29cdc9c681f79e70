//! `psql`: psql over a session.

use std::{path::PathBuf, process::Stdio};

use borealis_proto::v1;

use super::{Context, Outcome, target};
use crate::{args::PsqlArgs, child, failure::Failure};

pub(super) async fn run(context: Context<'_>, args: PsqlArgs) -> Outcome {
    let request = v1::UseSessionRequest {
        target: Some(target::one(&args.target)?),
        access: super::access(args.write_access).into(),
        role: v1::Role::Personal.into(),
        port: args.port.map_or(0, u32::from),
        wait: None,
    };
    // Looked for first: a session opened for nothing costs seconds.
    let psql = find(args.binary_path)?;
    let (opened, held) = super::hold(context, request).await?;
    let mut command = child::command(psql, Stdio::inherit());
    command.args(args.args);
    child::without_detours(&mut command);
    command.envs(child::variables(&opened).into_iter().take(5));
    child::run(command, held, context.output).await
}

fn find(named: Option<PathBuf>) -> Result<PathBuf, Failure> {
    match named {
        Some(path) => child::find(&path).ok_or_else(|| {
            Failure::failed(format!("there is no psql at {}", path.display()))
                .with_hint("check --binary-path")
        }),
        None => child::find("psql".as_ref()).ok_or_else(|| {
            Failure::failed("psql is not installed, or not on the PATH").with_hint(
                "install PostgreSQL's client (apt install postgresql-client), or name it with --binary-path",
            )
        }),
    }
}
