//! Flags of `login`.

use clap::Args;

/// `login`
#[derive(Debug, Args)]
pub(crate) struct LoginArgs {
    /// Read the token from standard input instead of asking for it
    #[arg(long)]
    pub(crate) token_stdin: bool,
    /// Keep it in a file even where there is a keychain (one that nobody unlocks at boot)
    #[arg(long)]
    pub(crate) file: bool,
}
