//! What each command asks the daemon and hands to [`crate::output`]: one file for each.

mod bugreport;
mod close;
mod completions;
mod config;
mod confirm;
mod doctor;
mod down;
mod env;
mod events;
mod extensions;
mod info;
mod integrations;
mod kill;
mod list;
mod login;
mod man;
mod mcp;
mod metrics;
mod open;
mod ps;
mod psql;
mod reload;
mod restore;
mod rotate;
mod run;
mod show;
mod shutdown;
mod status;
mod target;
mod top;
mod trust;
mod tunnel;
mod up;
mod upgrade;
mod url;
mod users;
mod wait;
mod watch;

use std::{path::Path, time::Duration};

use borealis_proto::v1;

use crate::{
    args::{Cli, Command},
    client::{Client, Held, Opened},
    failure::Failure,
    output::Output,
    service,
};

/// What a command ends with: the exit code, 0 but for a child's.
pub(crate) type Outcome = Result<u8, Failure>;

/// What every command is given.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context<'a> {
    socket: Option<&'a Path>,
    /// Where it prints.
    pub(crate) output: &'a Output,
}

// === impl Context ===

impl Context<'_> {
    /// The daemon, started where systemd can do that.
    ///
    /// # Errors
    /// When there is none.
    async fn daemon(&self) -> Result<Client, Failure> {
        let failure = match self.running_daemon().await {
            Err(failure) if service::starts(self.socket, &failure) => failure,
            answer => return answer,
        };
        let spinner = self.output.spinner("starting borealisd".to_owned());
        service::start().await?;
        drop(spinner);
        // What is started may listen elsewhere.
        self.running_daemon().await.map_err(|_| failure)
    }

    /// The daemon, where it runs: for commands that ask about it, or end it.
    ///
    /// # Errors
    /// When there is none.
    async fn running_daemon(&self) -> Result<Client, Failure> {
        Client::connect(self.socket).await
    }
}

/// Runs what was typed.
///
/// # Errors
/// The failure to print. Dropping the future abandons the command; what it asked of the
/// daemon goes on.
pub(crate) async fn run(cli: Cli, output: &Output) -> Outcome {
    let context = Context {
        socket: cli.global.socket.as_deref(),
        output,
    };
    match cli.command {
        Command::Open(args) => open::run(context, args).await,
        Command::List(args) => list::run(context, &args).await,
        Command::Show(args) => show::run(context, &args).await,
        Command::Close(args) => close::run(context, &args).await,
        Command::Url(args) => url::run(context, &args).await,
        Command::Env(args) => env::run(context, &args).await,
        Command::Rotate(args) => rotate::run(context, &args).await,
        Command::Up(args) => up::run(context, &args).await,
        Command::Down(args) => down::run(context, &args).await,
        Command::Trust(args) => trust::run(context, &args),
        Command::Psql(args) => psql::run(context, args).await,
        Command::Tunnel(args) => tunnel::run(context, args).await,
        Command::Run(args) => run::run(context, args).await,
        Command::Extensions(args) => extensions::run(context, args).await,
        Command::Users(args) => users::run(context, args).await,
        Command::Info(args) => info::run(context, &args).await,
        Command::Integrations(args) => integrations::run(context, args).await,
        Command::Restore(args) => restore::run(context, args).await,
        Command::Upgrade(args) => upgrade::run(context, args).await,
        Command::Status => status::run(context).await,
        Command::Doctor(args) => doctor::run(context, &args).await,
        Command::Events(args) => events::run(context, args).await,
        Command::Bugreport(args) => bugreport::run(context, args).await,
        Command::Metrics => metrics::run(context).await,
        Command::Top => top::run(context).await,
        Command::Ps(args) => ps::run(context, args).await,
        Command::Kill(args) => kill::run(context, args).await,
        Command::Mcp(args) => mcp::run(context, args).await,
        Command::AgentGuide => mcp::guide::run(context),
        Command::Login(args) => login::login(context, &args).await,
        Command::Logout => login::logout(context).await,
        Command::Whoami => login::whoami(context).await,
        Command::Config { action } => config::run(context, action).await,
        Command::Man(args) => man::run(context, &args),
        Command::Reload => reload::run(context).await,
        Command::Shutdown => shutdown::run(context).await,
        Command::Completions { shell } => completions::run(context, shell),
    }
}

// --- what several commands ask with ---

/// For commands that take an open session as it is, unless they were told what it must be.
fn asked_access(write: bool) -> v1::Access {
    if write {
        v1::Access::ReadWrite
    } else {
        v1::Access::Unspecified
    }
}

fn access(write: bool) -> v1::Access {
    if write {
        v1::Access::ReadWrite
    } else {
        v1::Access::ReadOnly
    }
}

fn duration(duration: Duration) -> Result<prost_types::Duration, Failure> {
    prost_types::Duration::try_from(duration)
        .map_err(|_| Failure::usage(format!("{} s is too long a time", duration.as_secs())))
}

/// A target as a person would say it.
fn described(target: Option<&v1::Target>) -> String {
    let Some(target) = target else {
        return String::new();
    };
    [&target.name, &target.app, &target.addon]
        .into_iter()
        .filter(|part| !part.is_empty())
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join("::")
}

/// Opens or joins a session for the time of a command, with a spinner meanwhile.
async fn hold(
    context: Context<'_>,
    request: v1::UseSessionRequest,
) -> Result<(Opened, Held), Failure> {
    let mut daemon = context.daemon().await?;
    daemon.check_version().await?;
    let what = described(request.target.as_ref());
    let spinner = context.output.spinner(format!("connecting to {what}"));
    let held = daemon.hold(request).await;
    drop(spinner);
    held
}
