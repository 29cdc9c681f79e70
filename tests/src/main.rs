//! `borealis-sandbox`: the provider to develop against, as a program.

use std::process::ExitCode;

fn main() -> ExitCode {
    borealis_tests::sandbox::cli::main()
}
