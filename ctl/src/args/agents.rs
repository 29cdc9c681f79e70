//! Flags of the commands for coding agents.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use crate::complete;

/// `mcp`
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct McpArgs {
    /// Something else than serving.
    #[command(subcommand)]
    pub(crate) action: Option<McpAction>,
    /// What to serve.
    #[command(flatten)]
    pub(crate) serve: ServeArgs,
}

/// What is served, within which bounds.
#[derive(Debug, Clone, Args)]
pub(crate) struct ServeArgs {
    /// Apps, APP::ADDON, add-ons or names of open sessions; default: the read-only sessions of
    /// the project's borealis.toml, else those that are open
    #[arg(value_name = "TARGET", add = complete::targets())]
    pub(crate) targets: Vec<String>,
    /// Rows of a result that are passed on
    #[arg(long, value_name = "N", default_value = "200", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) max_rows: u32,
    /// Bytes of a result's rows that are passed on
    #[arg(long, value_name = "BYTES", default_value = "262144", value_parser = clap::value_parser!(u32).range(1024..=16_777_216))]
    pub(crate) max_bytes: u32,
    /// How long a statement may run
    #[arg(long, value_name = "DURATION", value_parser = super::duration, default_value = "30s")]
    pub(crate) timeout: Duration,
}

/// Beside serving.
#[derive(Debug, Subcommand)]
pub(crate) enum McpAction {
    /// Print what to put where for a client to know the server
    #[command(after_help = "Examples:
  borealisctl mcp config claude sushi
  borealisctl mcp config cursor -f json | jq -r .content")]
    Config(McpConfigArgs),
}

/// `mcp config`
#[derive(Debug, Args)]
pub(crate) struct McpConfigArgs {
    /// The client
    #[arg(value_enum, value_name = "CLIENT")]
    pub(crate) client: McpClient,
    /// What the server is to serve; default: the project's read-only sessions, else the open ones
    #[arg(value_name = "TARGET", add = complete::targets())]
    pub(crate) targets: Vec<String>,
}

/// A program that starts MCP servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum McpClient {
    /// Claude Code.
    #[value(help = "Claude Code")]
    Claude,
    /// Cursor.
    #[value(help = "Cursor")]
    Cursor,
    /// Visual Studio Code.
    #[value(help = "Visual Studio Code")]
    Vscode,
    /// Codex.
    #[value(help = "Codex")]
    Codex,
    /// Zed.
    #[value(help = "Zed")]
    Zed,
}
