//! `completions`: a script for a shell, from the same definitions as the help.

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::{Context, Outcome};
use crate::args::Cli;

pub(super) fn run(context: Context<'_>, shell: Shell) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "borealisctl", &mut script);
    context.output.text(&String::from_utf8_lossy(&script))?;
    Ok(0)
}
