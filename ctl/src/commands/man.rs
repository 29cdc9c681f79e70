//! `man`: the manual's pages, from the same definitions as the help.

use clap::CommandFactory as _;

use super::{Context, Outcome};
use crate::{
    args::{Cli, ManArgs},
    failure::{Failure, reason},
};

pub(super) fn run(context: Context<'_>, args: &ManArgs) -> Outcome {
    let dir = &args.directory;
    let failed = |error: std::io::Error| {
        let why = reason(&error);
        Failure::failed(format!("can't write to {}: {why}", dir.display()))
    };
    std::fs::create_dir_all(dir).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), dir).map_err(failed)?;
    context
        .output
        .note(&format!("the manual's pages are in {}", dir.display()));
    Ok(0)
}
