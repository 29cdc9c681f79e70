//! The formats of results.

use clap::ValueEnum;

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[value(help = "for people")]
    Table,
    /// For programs.
    #[value(help = "for programs")]
    Json,
    /// The same as JSON, easier on the eye.
    #[value(help = "as json, easier on the eye")]
    Yaml,
    /// For spreadsheets.
    #[value(help = "for spreadsheets")]
    Csv,
}
