//! `completions`: a script that makes a shell ask borealisctl what can be typed.

use clap_complete::Shell;

use super::{Context, Outcome};
use crate::{complete, failure::Failure};

pub(super) fn run(context: Context<'_>, shell: Shell) -> Outcome {
    let script = complete::script(shell)
        .ok_or_else(|| Failure::failed(format!("there are no completions for {shell}")))?;
    context.output.data(script.as_bytes())?;
    Ok(0)
}
