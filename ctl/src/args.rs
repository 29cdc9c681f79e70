//! The command line: flags, help and examples, and nothing else. What is typed here
//! is the contract with scripts, those written for `heroku borealis-pg:…` included, so
//! names and short forms are only ever added.

mod account;
pub(crate) mod addons;
mod agents;
mod connections;
mod inspect;
mod project;
mod spelling;

pub(crate) use account::LoginArgs;
pub(crate) use agents::{McpAction, McpArgs, McpClient, McpConfigArgs, ServeArgs};
pub(crate) use connections::{KillArgs, PsArgs};
pub(crate) use spelling::normalized;

pub(crate) use inspect::{BugreportArgs, DoctorArgs, EventsArgs, ManArgs};
pub(crate) use project::{ProgramArg, ProjectArgs};

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use jiff::SignedDuration;

use self::addons::{
    ExtensionsArgs, InfoArgs, IntegrationsArgs, RestoreCommandArgs, UpgradeCommandArgs, UsersArgs,
};
use crate::{complete, output::Format};

/// What was typed.
#[derive(Debug, Parser)]
#[command(
    name = "borealisctl",
    version,
    about = "Sessions to Borealis Isolated Postgres databases",
    long_about = "Sessions to Borealis Isolated Postgres databases: a local host, port, user and \
                  password that stay the same while borealisd keeps the tunnels and credentials \
                  behind them fresh.",
    after_help = "Examples:
  borealisctl open sushi                      a read-only session to the app's database
  borealisctl psql sushi -w                   psql with write access
  borealisctl run sushi -d 'select now()'     one statement as the app's database user
  psql \"$(borealisctl url --socket sushi)\"    any Postgres client, without a password

TARGET is an app (sushi), an app with one of its add-ons or attachments
(sushi::BOREALIS_PG_MAROON), the name or id of an add-on, or the name of an open session.
Where nothing is named, HEROKU_APP names the app, else the nearest borealis.toml a session,
else the git repository's Heroku remote the app, as for the Heroku CLI.

Exit codes: 0 done, 1 failed, 2 usage, 3 no daemon, 4 not logged in, 5 no such app,
add-on or session, 6 add-on unavailable, 130 interrupted; psql and run: the command's.",
    disable_help_subcommand = true,
    propagate_version = false
)]
pub(crate) struct Cli {
    /// Flags of every command.
    #[command(flatten)]
    pub(crate) global: Global,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags that stand before or after the command.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// Control socket of borealisd
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = borealis_proto::SOCKET_VARIABLE,
        hide_env_values = true,
        help_heading = "Global options"
    )]
    pub(crate) socket: Option<PathBuf>,
    /// How results are printed
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        value_name = "FORMAT",
        default_value = "table",
        help_heading = "Global options"
    )]
    pub(crate) format: Format,
    /// No colours (NO_COLOR does the same)
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) no_color: bool,
    /// Nothing but results and errors
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) quiet: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
#[allow(missing_docs, reason = "the help text of each command says it")]
pub(crate) enum Command {
    /// Open a session and print how to connect
    #[command(after_help = "Examples:
  borealisctl open sushi                       read-only, as your personal database user
  borealisctl open sushi -w --for 30m          write access for half an hour
  borealisctl open ramen::BOREALIS_PG_MAROON   one of an app's several add-ons
  borealisctl open --app sushi --port 15432    at a port of your choice
  borealisctl open sushi --role app -f json    as the app's database user, for a script

A session that is open already is printed again. It stays open, also across restarts, until
it is closed with `borealisctl close`. To move one to another port, close it and open it again
with --port.

What you create with -w belongs to your personal database user, and the app's next migration
can't alter it (\"must be owner\"). Run migrations with --role app; or give away what you made:
REASSIGN OWNED BY CURRENT_USER TO the app's read/write user, as `borealisctl users` names it.")]
    Open(OpenArgs),
    /// List the sessions and their state
    #[command(
        visible_alias = "ls",
        after_help = "Examples:
  borealisctl list
  borealisctl ls --watch            again at every change, until Ctrl-C
  borealisctl list -f json | jq -r '.[].name'

With --watch, json is one array a line for each change."
    )]
    List(ListArgs),
    /// Show one session in full
    #[command(after_help = "Examples:
  borealisctl show sushi
  borealisctl show sushi --reveal            with password and URL
  borealisctl show sushi --reveal -f json | jq -r .url
  borealisctl show sushi --as pgadmin > servers.json
  borealisctl show sushi --as jdbc --reveal

What another program can reach by the Unix socket needs no password there, and gets none.")]
    Show(ShowArgs),
    /// Close sessions
    #[command(after_help = "Examples:
  borealisctl close sushi
  borealisctl close sushi ramen --grace 30s   what is still connected gets 30 s to finish
  borealisctl close --all")]
    Close(CloseArgs),
    /// Print a session's connection URL
    #[command(after_help = "Examples:
  psql \"$(borealisctl url --socket sushi)\"                  over the Unix socket
  pg_dump --no-owner --no-acl \"$(borealisctl url --socket sushi)\" > sushi.sql
  borealisctl url sushi                                     over TCP, for other programs

The session must be open: see `borealisctl open`. The URL over TCP holds the password: on a
command line, other users of the machine can read it while the command runs. The one over the
socket holds none, and nobody else can listen there.")]
    Url(UrlArgs),
    /// Print a session's PG* variables and DATABASE_URL for a shell
    #[command(after_help = "Examples:
  eval \"$(borealisctl env sushi)\"
  borealisctl env sushi --shell fish | source
  borealisctl env sushi --shell direnv >> .envrc     a line that asks at run time
  borealisctl env sushi --shell docker > sushi.env   for docker run --env-file

PGHOST is the directory of the session's Unix socket, which libpq and most drivers know;
DATABASE_URL is over TCP. For a container the socket's directory has to be mounted, as the
file's first line says: 127.0.0.1 is the container itself there.")]
    Env(EnvArgs),
    /// Ask for new personal credentials now
    #[command(after_help = "Examples:
  borealisctl rotate sushi
  borealisctl rotate --all

Open connections live on, and the session's own password stays what it was.")]
    Rotate(RotateArgs),
    /// Open the sessions of the project's borealis.toml
    #[command(after_help = "Examples:
  borealisctl up                     of the nearest borealis.toml, from here upward
  borealisctl up ../ramen/borealis.toml

The file, fit to be committed:
  [[session]]
  target = \"sushi\"
  default = true           # what commands without a TARGET mean here
  [[session]]
  target = \"ramen::BOREALIS_PG_MAROON\"
  access = \"read-write\"    # default: read-only; also name, role = \"app\", port

A file that asks for write access, the app's database user or a port, or that somebody else can
write, is refused until `borealisctl trust` was said for it as it is.")]
    Up(ProjectArgs),
    /// Close the sessions of the project's borealis.toml
    #[command(after_help = "Examples:
  borealisctl down
  borealisctl down ../ramen/borealis.toml")]
    Down(ProjectArgs),
    /// Trust the project's borealis.toml as it is now
    #[command(after_help = "Examples:
  borealisctl trust
  borealisctl trust ../ramen/borealis.toml

Holds for this content at this path: once the file changes, it has to be trusted again.")]
    Trust(ProjectArgs),
    /// Run psql over a session
    #[command(after_help = "Examples:
  borealisctl psql sushi
  borealisctl psql sushi -w                  with write access
  borealisctl psql sushi -- -c 'select 1'    everything after -- goes to psql
  borealisctl psql --app sushi --binary-path /opt/pg/bin/psql

A session that is not open is opened for as long as psql runs. The exit code is psql's. What
PG* variables say of another database (PGSSLMODE, PGOPTIONS, PGSERVICE ...) is kept from psql.")]
    Psql(PsqlArgs),
    /// Hold a session open until Ctrl-C
    #[command(after_help = "Examples:
  borealisctl tunnel sushi
  borealisctl tunnel --app sushi --write-access --port 54321

For scripts written for `heroku borealis-pg:tunnel`: prints the same six lines, and ends with
Ctrl-C. The password is the session's own, which stays the same. A session that was open
before stays; `borealisctl open` needs no terminal kept open.")]
    Tunnel(TunnelArgs),
    /// Run SQL or a command over a session
    #[command(
        override_usage = "borealisctl run [OPTIONS] [TARGET] (-d <SQL> | -i <FILE> | -e <COMMAND> | -- <COMMAND>...)",
        after_help = "Examples:
  borealisctl run sushi -d 'select count(*) from orders'
  borealisctl run sushi -d 'table orders' -f csv > orders.csv
  borealisctl run sushi -w -i ./prepopulate.sql
  borealisctl run sushi -w -e 'rake db:migrate'
  borealisctl run sushi -u -- pg_dump --no-owner --no-acl > sushi.sql
  borealisctl run sushi -w -i sushi.sql          a plain dump: psql executes it, if installed

Runs as the app's database user unless --personal-user is given, read-only unless
--write-access is given. Of several statements every result set is printed: in json as one
array each. In json and yaml a column name that comes again gets _2, _3 … appended. Commands
find the database in PGHOST, PGPORT, PGDATABASE, PGUSER, PGPASSWORD and DATABASE_URL, and get none
of the other PG* variables that say where or how to connect; the exit code is theirs. Whatever ends
borealisctl ends the statement on the server too.",
        group = ArgGroup::new("what").multiple(false)
    )]
    Run(RunArgs),
    /// List, install and remove PostgreSQL extensions
    #[command(after_help = "Examples:
  borealisctl extensions sushi
  borealisctl extensions install sushi postgis
  borealisctl extensions install sushi hstore_plperl --recursive
  borealisctl extensions remove sushi uuid-ossp")]
    Extensions(ExtensionsArgs),
    /// List and reset database users
    #[command(after_help = "Examples:
  borealisctl users sushi
  borealisctl users reset sushi

Only active users are listed: the app's are always there, personal ones come with the first
session of their owner and go with a reset.")]
    Users(UsersArgs),
    /// Show what an add-on is like
    #[command(after_help = "Examples:
  borealisctl info sushi
  borealisctl info sushi -f json | jq .db_storage_usage_bytes
  borealisctl info borealis-pg-hex-12345 --wait   until it is provisioned")]
    Info(InfoArgs),
    /// List, register and remove data integrations
    #[command(after_help = "Examples:
  borealisctl integrations sushi
  borealisctl integrations register sushi --name etl ssh-ed25519 AAAAC3Nza...
  borealisctl integrations remove sushi --name etl

A data integration lets a third party's service (ETL, a data warehouse) in through an SSH
tunnel, with credentials that stay.")]
    Integrations(IntegrationsArgs),
    /// Restore or clone a database into a new add-on
    #[command(after_help = "Examples:
  borealisctl restore capabilities sushi
  borealisctl restore execute sushi --wait
  borealisctl restore execute sushi --restore-to-time 2026-11-22T18:42:00-08:00")]
    Restore(RestoreCommandArgs),
    /// Upgrade PostgreSQL to its next major version
    #[command(after_help = "Examples:
  borealisctl upgrade info sushi
  borealisctl upgrade execute sushi
  borealisctl upgrade cancel sushi")]
    Upgrade(UpgradeCommandArgs),
    /// Show how the daemon is
    #[command(after_help = "Examples:
  borealisctl status
  borealisctl status -f json | jq -r .health   ok, warning or failing")]
    Status,
    /// Check everything between you and the database, and say what to mend
    #[command(after_help = "Examples:
  borealisctl doctor                 the daemon, the account, and every open session
  borealisctl doctor sushi           and the whole way to an app's database
  borealisctl doctor -f json | jq '.[] | select(.outcome == \"fail\")'

Works without a daemon as far as that goes. Exit code 1 where a check failed. For an app
without an open session, credentials are asked for as `open` does.")]
    Doctor(DoctorArgs),
    /// Show what happened: sessions that came up and went away, and why
    #[command(after_help = "Examples:
  borealisctl events
  borealisctl events --follow            and what happens from now on, until Ctrl-C
  borealisctl events sushi               of one session
  borealisctl events --since 2h          also yesterday, or 2026-11-22T14:15:00Z
  borealisctl events -f json | jq -r '.[].kind'

The daemon remembers the last 500, over its restarts too. What repeats is told once, and
counted. With --follow, json is one object a line.")]
    Events(EventsArgs),
    /// Write what helps to find a fault into one text file, without secrets
    #[command(after_help = "Examples:
  borealisctl bugreport                  a file in this directory, once you have said yes
  borealisctl bugreport report.txt --yes
  borealisctl bugreport - | less

In it: versions, config, status, doctor, sessions, events, and the daemon's log of the last
hour. Passwords, tokens, keys, what token_command is given, and SQL are not. Names of apps,
add-ons, hosts, users and paths are: read it before you pass it on. Works without a daemon.
The file is for you alone (0600), and replaces none that is there without --force.")]
    Bugreport(BugreportArgs),
    /// Print the daemon's metrics as Prometheus text
    #[command(after_help = "Examples:
  borealisctl metrics
  borealisctl metrics | grep borealis_session_up

With metrics_listen in config.toml the daemon serves the same to a Prometheus server.")]
    Metrics,
    /// A live screen of sessions, their connections and events, with keys to steer them
    #[command(after_help = "Examples:
  borealisctl top
  borealisctl top | tee top.txt      plain text, again after each change

Enter leads from a session to its connections and on to its events, Esc back, ? shows all keys,
q ends it. What can't be undone is asked first. Copying uses OSC 52, which some terminals refuse.")]
    Top,
    /// List the connections: which program, its state, since when
    #[command(after_help = "Examples:
  borealisctl ps
  borealisctl ps sushi-rw --watch    again at every change, until Ctrl-C
  borealisctl ps -f json | jq '.[] | select(.state == \"idle in transaction\")'

A state is what pg_stat_activity calls it, or: logging in; held, for the tunnel or the log-in to
the database; passthrough, where only the bytes are known. The program, its directory, its
systemd service and its container are looked up with your own rights, and empty where those
don't reach. With --watch, json is one array a line for each change.")]
    Ps(PsArgs),
    /// End connections, or only what they are running
    #[command(
        override_usage = "borealisctl kill [OPTIONS] <ID>... [--query]\n       borealisctl kill [OPTIONS] [NAME]... --idle-in-transaction <DURATION>",
        after_help = "Examples:
  borealisctl kill 17
  borealisctl kill 17 --query                          the statement ends, the connection lives
  borealisctl kill --idle-in-transaction 10m           of all sessions
  borealisctl kill sushi-rw --idle-in-transaction 10m  of one session

Numbers are those of `borealisctl ps`. A client is told who ended its connection (SQLSTATE 57P01)
where the protocol allows that at the moment; its transaction is rolled back at the server. No
other connection is touched."
    )]
    Kill(KillArgs),
    /// Let coding agents read databases: a Model Context Protocol server
    #[command(after_help = "Examples:
  borealisctl mcp sushi              serves the app's database on standard input and output
  borealisctl mcp                    those of the project's file, else what is open, read-only
  borealisctl mcp config claude sushi
                                     what to put where, for Claude Code to start it

Tools: list_databases, describe, query, explain. Every statement goes through a read-only
session of your personal database user, in a read-only transaction that is rolled back, one at
a time; several statements, transaction control, COPY and sessions with write access or of the
app's user are refused. `borealisctl agent-guide` says what this holds back, and what it can't.")]
    Mcp(McpArgs),
    /// Print a page for coding agents: what is safe, exit codes, JSON
    #[command(after_help = "Examples:
  borealisctl agent-guide >> AGENTS.md
  borealisctl agent-guide -f json | jq -r '.commands[] | select(.safe) | .command'")]
    AgentGuide,
    /// Sign in to Heroku with an API token
    #[command(after_help = "Examples:
  borealisctl login                                 asks for the token, without echo
  heroku auth:token | borealisctl login --token-stdin
  heroku authorizations:create -S -d borealisd | borealisctl login --token-stdin

The token is checked with Heroku, then kept in the keychain where there is one that is
unlocked, else in a file that only you can read. It is asked for in this order: HEROKU_API_KEY
in the daemon's environment, the systemd credential heroku-api-key, borealisctl login,
token_command in config.toml, the Heroku CLI's keychain entry, ~/.netrc.")]
    Login(LoginArgs),
    /// Forget the token that login kept
    #[command(after_help = "Examples:
  borealisctl logout

The token stays valid at Heroku, and the Heroku CLI's own login is not touched.")]
    Logout,
    /// Show the Heroku account, and where its token comes from
    #[command(after_help = "Examples:
  borealisctl whoami
  borealisctl whoami -f json | jq -r .account")]
    Whoami,
    /// Have the daemon read its config and the Heroku token again
    #[command(after_help = "Examples:
  borealisctl reload

Sessions whose declaration did not change are not touched.")]
    Reload,
    /// Stop the daemon
    #[command(after_help = "Examples:
  borealisctl shutdown

Open connections get the daemon's shutdown_grace to finish. The sessions come back when the
daemon starts again.")]
    Shutdown,
    /// Print a completion script for a shell
    #[command(after_help = "Examples:
  borealisctl completions bash > ~/.local/share/bash-completion/completions/borealisctl
  borealisctl completions fish > ~/.config/fish/completions/borealisctl.fish
  mkdir -p ~/.zfunc && borealisctl completions zsh > ~/.zfunc/_borealisctl

zsh looks into ~/.zfunc only where ~/.zshrc has this line before the one with compinit (or
with both, where it has none):
  fpath=(~/.zfunc $fpath); autoload -Uz compinit && compinit

The script asks borealisctl what can be typed, names of open sessions included.")]
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Find and change the daemon's config file
    #[command(after_help = "Examples:
  borealisctl config path
  borealisctl config edit")]
    Config {
        /// What to do with it.
        #[command(subcommand)]
        action: ConfigAction,
    },
    /// Write the manual's pages into a directory
    #[command(
        hide = true,
        after_help = "Examples:
  borealisctl man ~/.local/share/man/man1"
    )]
    Man(ManArgs),
}

/// What the user wants reached, in any of its forms.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct TargetArgs {
    /// App, APP::ADDON, add-on, or name of an open session
    #[arg(value_name = "TARGET", add = complete::targets())]
    pub(crate) target: Option<String>,
    /// App the add-on is attached to
    #[arg(short, long, value_name = "APP", add = complete::apps())]
    pub(crate) app: Option<String>,
    /// Git remote that is the app's; default: `git config heroku.remote`, or the only one
    #[arg(long, value_name = "NAME", conflicts_with = "app")]
    pub(crate) remote: Option<String>,
    /// Name or id of an add-on or one of its attachments
    #[arg(short = 'o', long, value_name = "ADDON", add = complete::addons())]
    pub(crate) addon: Option<String>,
}

/// Several sessions, or all.
#[derive(Debug, Clone, Args)]
pub(crate) struct TargetsArgs {
    /// Names of sessions, or what they were opened for
    #[arg(value_name = "NAME", add = complete::sessions())]
    pub(crate) names: Vec<String>,
    /// App the add-on is attached to
    #[arg(short, long, value_name = "APP", add = complete::apps())]
    pub(crate) app: Option<String>,
    /// Git remote that is the app's
    #[arg(long, value_name = "NAME", conflicts_with = "app")]
    pub(crate) remote: Option<String>,
    /// Name or id of an add-on or one of its attachments
    #[arg(short = 'o', long, value_name = "ADDON", add = complete::addons())]
    pub(crate) addon: Option<String>,
    /// Every session
    #[arg(long, conflicts_with_all = ["names", "app", "remote", "addon"])]
    pub(crate) all: bool,
}

/// `open`
#[derive(Debug, Args)]
pub(crate) struct OpenArgs {
    /// What to open.
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// Read and write access
    #[arg(short, long)]
    pub(crate) write_access: bool,
    /// Close by itself after this time (30s, 5m, 1h30m)
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    pub(crate) lifetime: Option<Duration>,
    /// With --for: what open transactions then get at most; default: 30s
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "lifetime")]
    pub(crate) grace: Option<Duration>,
    /// Local port; default: the one it had before, else a free one
    #[arg(short, long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: Option<u16>,
    /// Name of the session; default: from app, attachment, role and access
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Whose database user; default: personal, or that of the open session that TARGET names
    #[arg(long, value_enum, value_name = "ROLE")]
    pub(crate) role: Option<RoleArg>,
    /// Let the bytes through untouched; clients log in with the personal credentials themselves
    #[arg(long)]
    pub(crate) passthrough: bool,
    /// Show the password and the URL with it
    #[arg(long)]
    pub(crate) reveal: bool,
    /// Don't wait until the session is up
    #[arg(long, conflicts_with = "timeout")]
    pub(crate) no_wait: bool,
    /// How long to wait until the session is up
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "60s")]
    pub(crate) timeout: Duration,
}

/// Whose database user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RoleArg {
    /// The user's own.
    #[value(help = "your own")]
    Personal,
    /// The app's.
    #[value(help = "the Heroku app's")]
    App,
}

/// `list`
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Print again at every change, until interrupted
    #[arg(long)]
    pub(crate) watch: bool,
}

/// `show`
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// Which session.
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// Show password and URL too
    #[arg(long)]
    pub(crate) reveal: bool,
    /// Print it as another program imports it, without the password unless --reveal is said
    #[arg(long = "as", value_enum, value_name = "FORMAT")]
    pub(crate) program: Option<ProgramArg>,
}

/// `close`
#[derive(Debug, Args)]
pub(crate) struct CloseArgs {
    /// Which sessions.
    #[command(flatten)]
    pub(crate) targets: TargetsArgs,
    /// Time that what is still connected gets to finish
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "0s")]
    pub(crate) grace: Duration,
}

/// `url`
#[derive(Debug, Args)]
pub(crate) struct UrlArgs {
    /// Which session.
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// Over the session's Unix socket, without a password; --socket without a path is the same
    #[arg(long = "unix-socket", id = "unix_socket")]
    pub(crate) socket: bool,
}

/// `config`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub(crate) enum ConfigAction {
    /// Print where it is
    #[command(after_help = "Examples:
  borealisctl config path
  less \"$(borealisctl config path)\"")]
    Path,
    /// Change it in your editor: checked, put in place, and read again by the daemon
    #[command(after_help = "Examples:
  borealisctl config edit
  EDITOR='code --wait' borealisctl config edit

The editor is what VISUAL or EDITOR names. A copy is edited: the file changes when borealisd
would take what it says, and not before.")]
    Edit,
}

/// `env`
#[derive(Debug, Args)]
pub(crate) struct EnvArgs {
    /// Which session.
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// Whose syntax
    #[arg(long, value_enum, value_name = "SHELL", default_value = "sh")]
    pub(crate) shell: ShellArg,
}

/// Whose syntax variables are printed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ShellArg {
    /// sh, bash, zsh.
    #[value(help = "sh, bash, zsh")]
    Sh,
    /// fish.
    #[value(help = "fish")]
    Fish,
    /// A line of `.envrc`.
    #[value(help = "lines for .envrc")]
    Direnv,
    /// `docker run --env-file`.
    #[value(help = "for docker run --env-file")]
    Docker,
}

/// `rotate`
#[derive(Debug, Args)]
pub(crate) struct RotateArgs {
    /// Which sessions.
    #[command(flatten)]
    pub(crate) targets: TargetsArgs,
}

/// `psql`
#[derive(Debug, Args)]
pub(crate) struct PsqlArgs {
    /// What to connect to.
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// Read and write access
    #[arg(short, long)]
    pub(crate) write_access: bool,
    /// Local port of a session opened for this
    #[arg(short, long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: Option<u16>,
    /// psql binary to use instead of the one on the PATH
    #[arg(short, long, value_name = "BINARY")]
    pub(crate) binary_path: Option<PathBuf>,
    /// Arguments for psql
    #[arg(last = true, value_name = "ARGS")]
    pub(crate) args: Vec<OsString>,
}

/// `tunnel`
#[derive(Debug, Args)]
pub(crate) struct TunnelArgs {
    /// What to connect to.
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// Read and write access
    #[arg(short, long)]
    pub(crate) write_access: bool,
    /// Local port of a session opened for this
    #[arg(short, long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: Option<u16>,
}

/// `run`
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// What to connect to.
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// SQL to execute
    #[arg(
        short = 'd',
        long,
        value_name = "SQL",
        group = "what",
        allow_hyphen_values = true
    )]
    pub(crate) db_cmd: Option<String>,
    /// File of SQL to execute; - is standard input
    #[arg(short = 'i', long, value_name = "FILE", group = "what")]
    pub(crate) db_cmd_file: Option<PathBuf>,
    /// Command to execute in /bin/sh
    #[arg(
        short = 'e',
        long,
        value_name = "COMMAND",
        group = "what",
        allow_hyphen_values = true
    )]
    pub(crate) shell_cmd: Option<OsString>,
    /// As your personal database user instead of the app's
    #[arg(short = 'u', long)]
    pub(crate) personal_user: bool,
    /// Read and write access
    #[arg(short, long)]
    pub(crate) write_access: bool,
    /// Local port of a session opened for this
    #[arg(short, long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: Option<u16>,
    /// Leave standard input to the command (it is closed otherwise)
    #[arg(long, conflicts_with_all = ["db_cmd", "db_cmd_file"])]
    pub(crate) stdin: bool,
    /// Command to execute without a shell
    #[arg(last = true, value_name = "COMMAND", group = "what")]
    pub(crate) command: Vec<OsString>,
}

/// `30s`, `5m`, `1h30m`: any positive time of jiff's friendly or ISO 8601 form.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "not a duration like 30s, 5m or 1h30m".to_owned();
    let parsed: SignedDuration = text.parse().map_err(|_| wrong())?;
    Duration::try_from(parsed).map_err(|_| wrong())
}

#[cfg(test)]
mod tests;
