//! `trust`: the user's word for a project's file as it is now.

use serde::Serialize;

use super::{Context, Outcome};
use crate::{
    args::ProjectArgs,
    output::{Format, Text},
    project::Project,
};

#[derive(Serialize)]
struct Trusted<'a> {
    file: String,
    asks: &'a [String],
}

pub(super) fn run(context: Context<'_>, args: &ProjectArgs) -> Outcome {
    let project = Project::at(args.file.as_deref())?;
    project.trust()?;
    let file = project.file.display().to_string();
    let asks = &project.asks;
    match context.output.format {
        Format::Table => {
            let for_what = if asks.is_empty() {
                "nothing that needs trust".to_owned()
            } else {
                asks.join(", ")
            };
            let told = format!("trusted {file}: it asks for {for_what}");
            context.output.text(&Text::sentence(&told))?;
            context
                .output
                .note("changed, it has to be trusted again; `borealisctl up` opens what it lists");
        }
        Format::Csv => {
            let pairs = asks.iter().map(|ask| (file.as_str(), ask.as_str()));
            context.output.pairs(["file", "asks"], pairs)?;
        }
        Format::Json | Format::Yaml => context.output.value(&Trusted { file, asks })?,
    }
    Ok(0)
}
