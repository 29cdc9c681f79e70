//! `metrics`: the daemon's counters, as Prometheus reads them.

use serde::Serialize;

use super::{Context, Outcome};
use crate::output::{Format, Text};

#[derive(Serialize)]
struct Sample<'a> {
    metric: &'a str,
    value: f64,
}

pub(super) async fn run(context: Context<'_>) -> Outcome {
    let text = context.running_daemon().await?.metrics().await?;
    let samples = || {
        text.lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.rsplit_once(' '))
    };
    match context.output.format {
        Format::Table => context.output.text(&Text::lines(&text))?,
        Format::Csv => context.output.pairs(["metric", "value"], samples())?,
        Format::Json | Format::Yaml => {
            let parsed = samples().filter_map(|(metric, value)| {
                let value = value.parse().ok()?;
                Some(Sample { metric, value })
            });
            context.output.value(&parsed.collect::<Vec<_>>())?;
        }
    }
    Ok(0)
}
