//! The daemon's executable: arguments, log, runtime, exit code.

use std::process::ExitCode;

use borealisd::{
    config::{Args, Settings},
    log,
};
use clap::Parser as _;

fn main() -> ExitCode {
    let args = Args::parse();
    match start(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            #[allow(clippy::print_stderr, reason = "the log may not have been set up")]
            {
                eprintln!("borealisd: {problem}");
            }
            ExitCode::FAILURE
        }
    }
}

fn start(args: &Args) -> Result<(), String> {
    let settings = Settings::new(args).map_err(|error| error.to_string())?;
    log::init(settings.log_format, settings.verbosity).map_err(|error| error.to_string())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("the runtime can't be built: {error}"))?;
    runtime
        .block_on(borealisd::run(settings))
        .map_err(|error| error.to_string())
}
