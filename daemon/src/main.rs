//! The daemon's executable: arguments, log, runtime, exit code.

use std::process::ExitCode;

use borealisd::{
    config::{Args, Config, Settings},
    log,
    model::text,
    service_manager::activation::Inherited,
};
use clap::{CommandFactory as _, Parser as _};

fn main() -> ExitCode {
    let args = Args::parse();
    if args.check_config {
        return check_config(&args);
    }
    if args.man_page {
        let page = clap_mangen::Man::new(Args::command());
        return match page.render(&mut std::io::stdout()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    match start(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err((problem, code)) => {
            #[allow(clippy::print_stderr, reason = "the log may not have been set up")]
            {
                eprintln!("borealisd: {}", text::line(&problem));
            }
            ExitCode::from(code)
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
            eprintln!("borealisd: {}", text::line(&problem.to_string()));
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

/// What went wrong is answered with the exit code: 2 where only the user can mend it.
fn start(args: &Args) -> Result<(), (String, u8)> {
    let settings = Settings::new(args).map_err(|error| (error.to_string(), 2))?;
    log::init(settings.log_format, settings.verbosity).map_err(|error| (error.to_string(), 2))?;
    let inherited = Inherited::take();
    keep_freed_memory();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| (format!("the runtime can't be built: {error}"), 1))?;
    runtime
        .block_on(borealisd::run(settings, inherited))
        .map_err(|error| (error.to_string(), error.exit_code()))
}

/// Has the C library keep up to 4 MiB that were freed, instead of 128 KiB.
///
/// Packets of a bulk transfer come and go by that much: their memory would be given to the
/// kernel and asked for anew again and again, which is a tenth of such a transfer's processor
/// time. glibc keeps twice what the largest block had that was mapped by itself and freed
/// (mallopt(3), `M_MMAP_THRESHOLD`); elsewhere this does nothing.
fn keep_freed_memory() {
    const LARGEST: usize = 2 * 1024 * 1024;
    drop(std::hint::black_box(Vec::<u8>::with_capacity(LARGEST)));
}
