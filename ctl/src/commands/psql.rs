//! `psql`: psql over a session.

use std::{
    ffi::OsString,
    io::{self, IsTerminal as _},
    path::PathBuf,
    process::Stdio,
};

use borealis_proto::v1;

use super::{Context, Outcome, target};
use crate::{
    args::PsqlArgs,
    child,
    failure::Failure,
    libpq::{self, Way},
};

pub(super) async fn run(context: Context<'_>, args: PsqlArgs) -> Outcome {
    // Looked for first: a session opened for nothing costs seconds.
    let psql = find(args.binary_path)?;
    let request = target::to_use(context, &args.target, args.write_access, args.port).await?;
    let (opened, held) = super::hold(context, request).await?;
    if opened.session.access() != v1::Access::ReadWrite && is_typed_into(&args.args) {
        // psql shows the database's own refusal of a write, which can't say what to type.
        context.output.note(&format!(
            "{} is read-only; with --write-access (-w) it can be written to",
            opened.session.name
        ));
    }
    let mut command = child::command(psql, Stdio::inherit());
    command.args(args.args);
    let way = Way::safest(&opened.session);
    let mut variables = libpq::variables(&opened, way);
    // What isn't asked for can't be leaked.
    variables.retain(|(name, _)| way == Way::Tcp || *name != "PGPASSWORD");
    child::connect(&mut command, variables);
    child::run(command, held, context.output).await
}

/// Whether somebody sits there, and hasn't said already all that psql is to do.
fn is_typed_into(args: &[OsString]) -> bool {
    args.is_empty() && io::stdin().is_terminal()
}

fn find(named: Option<PathBuf>) -> Result<PathBuf, Failure> {
    match named {
        Some(path) => child::find(&path).ok_or_else(|| {
            Failure::failed(format!("there is no psql at {}", path.display()))
                .with_hint("check --binary-path")
        }),
        None => child::find("psql".as_ref()).ok_or_else(|| {
            Failure::failed("psql is not installed, or not on the PATH").with_hint(
                "install PostgreSQL's client (such as apt install postgresql-client), or name it with --binary-path",
            )
        }),
    }
}
