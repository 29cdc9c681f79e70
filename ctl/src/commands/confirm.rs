//! Confirmations: asked on a terminal, demanded by flag elsewhere.

use super::Context;
use crate::failure::Failure;

/// Refuses what has no `--confirm` and nobody to ask, before anything is looked up. `value`
/// is what the flag would have to be given.
///
/// # Errors
/// A usage failure.
pub(super) fn require(
    context: Context<'_>,
    given: Option<&String>,
    value: &str,
) -> Result<(), Failure> {
    if given.is_some() || context.output.can_ask() {
        return Ok(());
    }
    Err(
        Failure::usage("this needs to be confirmed, and there is no terminal to ask on")
            .with_hint(format!("confirm it with --confirm {value}")),
    )
}

/// Compares the flag's value, or what is typed at `question`, with what is expected.
///
/// # Errors
/// When it differs.
pub(super) async fn confirm(
    context: Context<'_>,
    given: Option<&String>,
    expected: &str,
    question: &str,
) -> Result<(), Failure> {
    let wrong = || format!("invalid confirmation provided: expected {expected}");
    match given {
        Some(given) if given.trim() == expected => Ok(()),
        Some(_) => Err(Failure::usage(wrong()).with_hint(format!(
            "nothing was changed; confirm it with --confirm {expected}"
        ))),
        None if context.output.ask(question).await? == expected => Ok(()),
        None => Err(Failure::failed(wrong()).with_hint("nothing was changed")),
    }
}
