//! The daemon's executable: arguments, log, runtime, exit code.

use std::process::ExitCode;

use borealisd::{
    config::{Args, Config, Settings},
    log,
};
use clap::Parser as _;

fn main() -> ExitCode {
    let args = Args::parse();
    if args.check_config {
        return check_config(&args);
    }
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

#[allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "its answer is all that is asked for"
)]
fn check_config(args: &Args) -> ExitCode {
    let file = match Settings::new(args) {
        Ok(settings) => settings.config_file,
        Err(problem) => {
            eprintln!("borealisd: {problem}");
            return ExitCode::from(2);
        }
    };
    match Config::load(&file) {
        Ok(_) if file.exists() => println!("{} is valid", file.display()),
        Ok(_) => println!("there is no {}; the defaults hold", file.display()),
        Err(problem) => {
            eprintln!("borealisd: {problem}");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
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
