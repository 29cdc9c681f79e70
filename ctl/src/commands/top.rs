//! `top`: the sessions, live.

use std::time::{Duration, Instant};

use super::{Context, Outcome};
use crate::{
    failure::{Failure, reason},
    output::top::{Sample, Top},
    terminal::{Terminal, TerminalMode},
};

const REFRESH: Duration = Duration::from_secs(1);

pub(super) async fn run(context: Context<'_>) -> Outcome {
    let mut daemon = context.daemon().await?;
    let mut top = Top::begin(context.output).ok_or_else(|| {
        Failure::usage("top is a live screen, and standard output is no terminal").with_hint(
            "`borealisctl list --watch` prints every change, `borealisctl metrics` the numbers",
        )
    })?;
    let no_terminal =
        |error: std::io::Error| Failure::failed(format!("can't read keys: {}", reason(&error)));
    let terminal = Terminal::enter(TerminalMode::Keys).map_err(no_terminal)?;
    let mut keys = terminal.keys().map_err(no_terminal)?;
    let mut refresh = tokio::time::interval(REFRESH);
    loop {
        tokio::select! {
            _ = refresh.tick() => {
                let sample = Sample {
                    at: Instant::now(),
                    info: daemon.info().await?,
                    sessions: daemon.list().await?,
                };
                top.show(sample)?;
            }
            key = keys.recv() => if matches!(key, None | Some(b'q' | b'Q')) {
                return Ok(0);
            }
        }
    }
}
