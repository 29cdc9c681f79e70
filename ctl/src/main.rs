//! `borealisctl`: the command line client of `borealisd`.
//!
//! Parses, runs one command, ends with its exit code. Everything else has a module.

mod args;
mod child;
mod client;
mod commands;
mod complete;
mod failure;
mod git;
mod imports;
mod libpq;
mod output;
mod ports;
mod programs;
mod project;
mod query;
mod service;
mod sql_file;
mod terminal;

use std::process::ExitCode;

use clap::{ColorChoice, CommandFactory as _, FromArgMatches as _};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    args::{Cli, Command},
    failure::Failure,
    output::Output,
};

fn main() -> ExitCode {
    match complete::answered() {
        Ok(false) => {}
        Ok(true) => return ExitCode::SUCCESS,
        Err(error) => return output::usage(&error, true),
    }
    let plain = std::env::args_os().any(|arg| arg == "--no-color");
    let colour = if plain {
        ColorChoice::Never
    } else {
        ColorChoice::Auto
    };
    let parsed = Cli::command()
        .color(colour)
        .try_get_matches_from(args::normalized(std::env::args_os()))
        .and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => return output::usage(&error, plain),
    };
    let output = Output::new(&cli.global);
    match run(cli, &output) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            output.failure(&failure);
            ExitCode::from(failure.exit.code())
        }
    }
}

fn run(cli: Cli, output: &Output) -> Result<u8, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("can't start: {}", failure::reason(&error))))?;
    let result = runtime.block_on(async {
        // A command that shares the terminal with a child, has a query to cancel, or is ended
        // with Ctrl-C deals with the signals itself.
        if matches!(
            cli.command,
            Command::Psql(_) | Command::Run(_) | Command::Tunnel(_) | Command::Mcp(_)
        ) {
            return commands::run(cli, output).await;
        }
        let mut interrupt = signal(SignalKind::interrupt())
            .map_err(|error| Failure::failed(failure::reason(&error)))?;
        tokio::select! {
            biased;
            result = commands::run(cli, output) => result,
            _ = interrupt.recv() => Err(Failure::interrupted(2)),
        }
    });
    // A read of standard input that nobody waits for any more must not hold the exit up.
    runtime.shutdown_background();
    result
}
