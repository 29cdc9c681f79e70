//! What a start of the daemon is told beside its config file: by flags, by the
//! environment, in this order. Nothing here can change while the daemon runs.

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

use borealis_proto::{SOCKET_VARIABLE, paths::Paths};

use crate::log::LogFormat;

/// The environment variable that names the config file.
const CONFIG_VARIABLE: &str = "BOREALIS_CONFIG";

/// Keeps sessions to Borealis Isolated Postgres databases open.
///
/// Runs in the foreground until SIGTERM or SIGINT, for systemd (Type=notify) or a terminal.
/// borealisctl opens, lists and closes sessions. SIGHUP reads config and token again.
#[derive(Debug, Clone, Default, clap::Parser)]
#[command(name = "borealisd", version, max_term_width = 100)]
#[command(after_help = "\
Environment:
  BOREALIS_CONFIG, BOREALIS_SOCKET   as --config and --socket
  BOREALIS_LOG                       log filter, such as `info` or `borealisd=debug`
  HEROKU_API_KEY                     Heroku API token; see `borealisctl login --help` for
                                     the other places where it may be

Examples:
  borealisd                          in a terminal, to try it
  systemctl --user start borealisd   as a service, after `make install`
  borealisd -v --config ./test.toml  with debug messages and a config of its own")]
pub struct Args {
    /// Config file [default: borealis/config.toml in the user's config directory; may be missing]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Control socket [default: borealis/control.sock in the user's runtime directory]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,

    /// How log lines are written: auto is text, in colour on a terminal, fit for the journal there
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub log_format: LogFormat,

    /// Only say whether the config file is valid; exit code 2 where it isn't
    #[arg(long)]
    pub check_config: bool,

    /// More messages: -v debug, -vv everything of borealisd's own
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// What the daemon was started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The control socket, absolute.
    pub socket: PathBuf,
    /// The config file, absolute; may be missing.
    pub config_file: PathBuf,
    /// How log lines are written.
    pub log_format: LogFormat,
    /// How often -v was given.
    pub verbosity: u8,
    /// The user's directories.
    pub paths: Paths,
}

/// Why the daemon can't know where its files are.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// There is no home directory to derive the others from.
    #[error("this user has no home directory; set HOME, or XDG_CONFIG_HOME and XDG_STATE_HOME")]
    NoHome,
    /// A relative path, and no current directory.
    #[error("{path} can't be made an absolute path: {error}", path = path.display())]
    NoCurrentDirectory {
        /// The relative path.
        path: PathBuf,
        /// Why not.
        error: std::io::Error,
    },
}

// === impl Settings ===

impl Settings {
    /// Flags, then this process's environment, then the defaults.
    ///
    /// # Errors
    /// When the user has no home directory, or a path can't be made absolute.
    pub fn new(args: &Args) -> Result<Self, SettingsError> {
        let paths = Paths::from_environment().ok_or(SettingsError::NoHome)?;
        Self::resolve(args, paths, |variable| std::env::var_os(variable))
    }

    fn resolve(
        args: &Args,
        paths: Paths,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, SettingsError> {
        let choose = |flag: &Option<PathBuf>, name: &str, default: PathBuf| {
            let chosen = flag
                .clone()
                .or_else(|| variable(name).map(PathBuf::from))
                .filter(|path| !is_empty(path))
                .unwrap_or(default);
            std::path::absolute(&chosen).map_err(|error| SettingsError::NoCurrentDirectory {
                path: chosen,
                error,
            })
        };
        Ok(Self {
            socket: choose(&args.socket, SOCKET_VARIABLE, paths.control_socket())?,
            config_file: choose(&args.config, CONFIG_VARIABLE, paths.config_file())?,
            log_format: args.log_format,
            verbosity: args.verbose,
            paths,
        })
    }
}

/// A variable that is set to nothing counts as not set.
fn is_empty(path: &Path) -> bool {
    path.as_os_str() == OsStr::new("")
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    fn paths() -> Paths {
        Paths {
            config_dir: "/c".into(),
            state_dir: "/s".into(),
            runtime_dir: "/r".into(),
        }
    }

    #[test]
    fn flags_win_over_the_environment_and_that_over_defaults() {
        let resolve = |args: &[&str], socket: &str| {
            let args = Args::try_parse_from(["borealisd"].iter().chain(args)).unwrap();
            Settings::resolve(&args, paths(), |name| {
                (name == "BOREALIS_SOCKET").then(|| socket.into())
            })
            .unwrap()
        };
        assert_eq!(resolve(&[], "").socket, Path::new("/r/control.sock"));
        assert_eq!(resolve(&[], "/env.sock").socket, Path::new("/env.sock"));
        assert_eq!(
            resolve(&["--socket", "/flag.sock"], "/env.sock").socket,
            Path::new("/flag.sock")
        );
        let settings = resolve(&["--config", "x.toml", "-vv", "--log-format", "json"], "");
        assert!(settings.config_file.is_absolute() && settings.config_file.ends_with("x.toml"));
        assert_eq!(
            (settings.verbosity, settings.log_format),
            (2, LogFormat::Json)
        );
        assert_eq!(resolve(&[], "").config_file, Path::new("/c/config.toml"));
    }

    #[test]
    fn the_flags_are_consistent() {
        Args::command().debug_assert();
    }
}
