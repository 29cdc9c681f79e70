//! The command line of `borealis-sandbox`. The only place that prints.

mod control;

use std::{
    ffi::OsString,
    fs::{self, OpenOptions},
    io::{IsTerminal as _, Write as _},
    os::unix::{
        fs::{OpenOptionsExt as _, PermissionsExt as _},
        process::ExitStatusExt as _,
    },
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};
use rustix::process::{Pid, Signal, kill_process};
use tokio::signal::unix::{Signal as SignalStream, SignalKind, signal};

use super::{BastionKind, Options, Sandbox, SandboxError, SshdSetting};

/// A stand-in for Heroku and Borealis on this machine: both HTTP APIs, an SSH bastion and a
/// real PostgreSQL, with faults on demand.
///
/// It knows the apps sushi (one add-on, with data), ramen (two add-ons), udon (none), soba
/// (another service's only), tempura (provisioning: 422), miso (upgrading: 423) and wasabi
/// (access revoked: 403).
#[derive(Debug, Parser)]
#[command(name = "borealis-sandbox", version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  borealis-sandbox run -- bash                a shell with the environment set
  borealis-sandbox run --sshd ClientAliveInterval=15 --sshd MaxStartups=10:30:100 -- bash
  borealis-sandbox up --ready-file env.sh &   in the background; then `. ./env.sh`
  borealis-sandbox fault cut-bastion          in that environment: break every tunnel
  borealis-sandbox fault api personal-db-users --status 503 --times 2
  borealis-sandbox fault rotate-elsewhere sushi
  borealis-sandbox fault clear                everything works again";

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a sandbox and keep it until SIGTERM or SIGINT.
    ///
    /// Once everything is up, prints the environment for borealisd as shell exports.
    Up(UpArgs),
    /// Start a sandbox, run a command with its environment, clean up, exit with its code.
    Run(RunArgs),
    /// Make a running sandbox fail, or look into it.
    #[command(visible_alias = "control", after_help = control::EXAMPLES)]
    Fault(control::FaultArgs),
}

#[derive(Debug, Args)]
struct StartArgs {
    /// The SSH server to use: the sandbox's own, or the system's OpenSSH.
    #[arg(long, value_enum, default_value_t)]
    bastion: BastionKind,
    /// Tell OpenSSH's server more, as sshd_config(5) has it; implies `--bastion sshd`.
    #[arg(long, value_name = "OPTION=VALUE")]
    sshd: Vec<SshdSetting>,
    /// Make the sandbox's temporary directory in this one.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Keep a fresh database cluster in this directory, to start faster the next time.
    #[arg(long, value_name = "DIR", env = "BOREALIS_SANDBOX_CACHE")]
    cache: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct UpArgs {
    #[command(flatten)]
    start: StartArgs,
    /// Also write the exports to this file (0600) once everything is up; removed at the end.
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct RunArgs {
    #[command(flatten)]
    start: StartArgs,
    /// The command and its arguments.
    #[arg(required = true, trailing_var_arg = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// Signals that end the sandbox.
struct Stop {
    terminate: SignalStream,
    interrupt: SignalStream,
    hangup: SignalStream,
}

/// The whole program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("BOREALIS_SANDBOX_LOG")
                .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn,russh=error")),
        )
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&SandboxError::io("starting a runtime")(error)),
    };
    let result = runtime.block_on(async {
        match cli.command {
            Command::Up(args) => up(args).await,
            Command::Run(args) => run(args).await,
            Command::Fault(args) => control::run(args).await.map(|text| {
                print(&text);
                ExitCode::SUCCESS
            }),
        }
    });
    result.unwrap_or_else(|error| fail(&error))
}

async fn up(args: UpArgs) -> Result<ExitCode, SandboxError> {
    let mut stop = Stop::new()?;
    let Some(sandbox) = start(args.start, &mut stop).await? else {
        return Ok(ExitCode::SUCCESS);
    };
    let exports = exports(&sandbox.environment());
    if let Some(file) = &args.ready_file {
        write_ready_file(file, &exports)?;
    }
    print(exports.trim_end());
    stop.requested().await;
    if let Some(file) = &args.ready_file {
        let _ = fs::remove_file(file);
    }
    Ok(ExitCode::SUCCESS)
}

async fn run(args: RunArgs) -> Result<ExitCode, SandboxError> {
    let mut stop = Stop::new()?;
    let Some(sandbox) = start(args.start, &mut stop).await? else {
        return Ok(ExitCode::from(130));
    };
    let mut words = args.command.into_iter();
    let program = words.next().unwrap_or_default();
    let mut child = tokio::process::Command::new(&program)
        .args(words)
        .envs(sandbox.environment())
        .spawn()
        .map_err(SandboxError::io(format!(
            "starting {}",
            program.to_string_lossy()
        )))?;
    let status = loop {
        tokio::select! {
            status = child.wait() => break status.map_err(SandboxError::io("waiting for the command"))?,
            signal = stop.requested() => {
                // Ctrl-C reaches the command from the terminal itself.
                let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
                if let (Some(pid), Signal::TERM | Signal::HUP) = (pid, signal) {
                    let _ = kill_process(pid, signal);
                }
            }
        }
    };
    drop(sandbox);
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(1)))
}

/// Starts a sandbox; nothing where it was told to stop meanwhile.
async fn start(args: StartArgs, stop: &mut Stop) -> Result<Option<Sandbox>, SandboxError> {
    let bastion = if args.sshd.is_empty() {
        args.bastion
    } else {
        BastionKind::Sshd
    };
    let options = Options {
        bastion,
        sshd: args.sshd.into_iter().collect(),
        directory: args.dir,
        cache: args.cache,
        ..Options::default()
    };
    let starting = Sandbox::start(options);
    tokio::pin!(starting);
    tokio::select! {
        sandbox = &mut starting => sandbox.map(Some),
        _ = stop.requested() => {
            // What has begun is waited for and ended in order, so that nothing stays behind.
            starting.await.map(|_| None)
        }
    }
}

// === impl Stop ===

impl Stop {
    fn new() -> Result<Self, SandboxError> {
        let listen = |kind| signal(kind).map_err(SandboxError::io("listening for signals"));
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    /// The next signal that asks for the end. Cancel safe.
    async fn requested(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::TERM,
            _ = self.interrupt.recv() => Signal::INT,
            _ = self.hangup.recv() => Signal::HUP,
        }
    }
}

fn exports(environment: &[(String, String)]) -> String {
    environment
        .iter()
        .map(|(name, value)| format!("export {name}='{}'\n", value.replace('\'', r"'\''")))
        .collect()
}

/// In one step, so that whoever waits for the file reads all of it; only for its owner's
/// eyes, as it has the token.
fn write_ready_file(file: &Path, exports: &str) -> Result<(), SandboxError> {
    let mut half = file.as_os_str().to_owned();
    half.push(format!(".{}", std::process::id()));
    let half = PathBuf::from(half);
    let write = || {
        let mut open = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&half)?;
        open.set_permissions(fs::Permissions::from_mode(0o600))?;
        open.write_all(exports.as_bytes())?;
        fs::rename(&half, file)
    };
    write().map_err(SandboxError::path("writing", file))
}

fn print(text: &str) {
    // Nobody may be reading any more, which is no reason to end.
    let _ = writeln!(std::io::stdout(), "{text}").and_then(|()| std::io::stdout().flush());
}

fn fail(error: &SandboxError) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "borealis-sandbox: {error}");
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn exports_survive_a_quote() {
        let text = exports(&[("A".into(), "it's".into())]);
        assert_eq!(text, "export A='it'\\''s'\n");
    }
}
