//! Flags of the commands for a project's file, and the formats that other programs read.

use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};

/// `up`, `down`, `trust`
#[derive(Debug, Args)]
pub(crate) struct ProjectArgs {
    /// The project's file; default: the nearest borealis.toml, from here upward
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) file: Option<PathBuf>,
}

/// `--as`: whose format a connection is printed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgramArg {
    /// A connection URL.
    #[value(help = "connection URL")]
    Url,
    /// Variables of a `.env` file.
    #[value(help = "PG* variables and DATABASE_URL for a .env file")]
    Dotenv,
    /// A URL of PostgreSQL's JDBC driver.
    #[value(help = "URL of PostgreSQL's JDBC driver")]
    Jdbc,
    /// pgAdmin 4's servers.json.
    #[value(help = "servers.json for pgAdmin 4's import")]
    Pgadmin,
    /// DBeaver's data-sources.json.
    #[value(help = "data-sources.json of DBeaver")]
    Dbeaver,
    /// DataGrip's dataSources.xml.
    #[value(help = "dataSources.xml of DataGrip and the other IDEs of JetBrains")]
    Datagrip,
    /// Settings of Visual Studio Code's SQLTools extension.
    #[value(help = "settings.json for Visual Studio Code's SQLTools extension")]
    Vscode,
    /// A snippet of a compose file.
    #[value(help = "compose.yaml of a service that mounts the Unix socket")]
    Compose,
}
