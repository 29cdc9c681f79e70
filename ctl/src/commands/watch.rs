//! What `--watch` does with what it is told.

use std::time::Duration;

use super::{Context, Outcome};
use crate::{failure::Failure, output::screen::Screen};

/// How often the ages in a watched table are renewed.
const REFRESH: Duration = Duration::from_secs(1);

/// Has each change shown, and where ages are shown the same again each second; until it is
/// interrupted. `show` gets the change, or nothing where only time has passed.
///
/// # Errors
/// When the daemon ends the stream, or nobody reads standard output any more.
pub(super) async fn watch<T>(
    context: Context<'_>,
    mut changes: tonic::Streaming<T>,
    mut show: impl FnMut(&mut Screen, Option<T>) -> Result<(), Failure>,
) -> Outcome {
    let mut screen = context.output.screen();
    let mut refresh = tokio::time::interval(REFRESH);
    let mut is_known = false;
    loop {
        tokio::select! {
            change = changes.message() => match change {
                Ok(Some(change)) => {
                    is_known = true;
                    show(&mut screen, Some(change))?;
                }
                Ok(None) => return Err(Failure::connection_lost()),
                Err(status) => return Err(Failure::from_status(&status)),
            },
            () = context.output.reader_gone() => return Err(Failure::reader_gone()),
            _ = refresh.tick(), if is_known && screen.shows_ages() => show(&mut screen, None)?,
        }
    }
}
