//! `show`: one session in full, or as another program imports it.

use serde::Serialize;

use super::{Context, Outcome, target, url::require};
use crate::{
    args::{ProgramArg, ShowArgs},
    client::{Opened, Reveal},
    failure::Failure,
    imports,
    output::{Format, session::View},
    ports,
};

/// For a program.
#[derive(Serialize)]
struct Shown<'a> {
    format: &'a str,
    content: &'a str,
}

pub(super) async fn run(context: Context<'_>, args: &ShowArgs) -> Outcome {
    let (mut daemon, target) = target::open_session(context, &args.target).await?;
    let reveal = Reveal::when(args.reveal);
    let opened = daemon.get(target, reveal).await?;
    ports::warn_of_thief(context.output, &opened.session);
    match args.program {
        None => context.output.session(&opened, View::Full, reveal)?,
        Some(program) => show_as(context, &opened, program, reveal)?,
    }
    Ok(0)
}

fn show_as(
    context: Context<'_>,
    opened: &Opened,
    program: ProgramArg,
    reveal: Reveal,
) -> Result<(), Failure> {
    require(&opened.session.database, opened)?;
    let import = imports::import(opened, program)?;
    let output = context.output;
    match output.format {
        // Another program reads it, whose quotes hold what a terminal would obey.
        Format::Table => output.data(import.content.as_bytes())?,
        Format::Csv => {
            let pairs = [("format", import.format), ("content", &import.content)];
            output.pairs(["key", "value"], pairs)?;
        }
        Format::Json | Format::Yaml => output.value(&Shown {
            format: import.format,
            content: &import.content,
        })?,
    }
    if !import.note.is_empty() {
        output.note(&import.note);
    }
    if imports::lacks_password(opened, program) {
        output.note(match reveal {
            Reveal::Nothing if program != ProgramArg::Pgadmin => {
                "the password is not in it; with --reveal it is"
            }
            _ => "the format holds no password: `borealisctl show --reveal` shows it",
        });
    }
    Ok(())
}
