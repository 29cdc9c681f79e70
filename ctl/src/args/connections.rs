//! Flags of the commands about the sessions' connections.

use std::time::Duration;

use clap::Args;

use super::duration;
use crate::complete;

/// `ps`
#[derive(Debug, Args)]
pub(crate) struct PsArgs {
    /// Only the connections of these sessions
    #[arg(value_name = "NAME", add = complete::sessions())]
    pub(crate) sessions: Vec<String>,
    /// Print again at every change, until interrupted
    #[arg(long)]
    pub(crate) watch: bool,
}

/// `kill`
#[derive(Debug, Args)]
pub(crate) struct KillArgs {
    /// Numbers of connections, as `borealisctl ps` shows them; with --idle-in-transaction, names
    /// of sessions
    #[arg(
        value_name = "ID",
        required_unless_present = "idle_in_transaction",
        add = complete::connections()
    )]
    pub(crate) which: Vec<String>,
    /// Only cancel what they are running
    #[arg(long)]
    pub(crate) query: bool,
    /// All that have been idle in a transaction for this long (10m), or those of the sessions that
    /// are named
    #[arg(long, value_name = "DURATION", value_parser = duration, conflicts_with = "query")]
    pub(crate) idle_in_transaction: Option<Duration>,
}
