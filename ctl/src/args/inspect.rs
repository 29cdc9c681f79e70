//! Flags of the commands that look at the daemon, and of the manual.

use std::path::PathBuf;

use clap::Args;

use super::TargetArgs;

/// `doctor`
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// What to check the way to.
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

/// `events`
#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Only what happened to this session
    #[arg(value_name = "NAME", add = crate::complete::sessions())]
    pub(crate) session: Option<String>,
    /// Go on with what happens from now on, until interrupted
    #[arg(long)]
    pub(crate) follow: bool,
}

/// `man`
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Where the pages go
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
}
