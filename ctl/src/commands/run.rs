//! `run`: SQL or a command over a session.

use std::{ffi::OsString, path::Path, process::Stdio};

use borealis_proto::v1;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Context, Outcome, target};
use crate::{
    args::RunArgs,
    child,
    client::{Held, Opened},
    failure::{Failure, reason},
    libpq::{self, Way},
    query::{self, Access, CopyFrom, Job, Running},
    sql_file::{self, SqlFile},
};

/// What is run.
enum What {
    Sql {
        text: String,
        copy_from: CopyFrom,
    },
    /// A file that holds psql's own commands, as dumps do.
    Psql(psql::Script),
    Program {
        program: OsString,
        args: Vec<OsString>,
        stdin: Stdio,
    },
}

pub(super) async fn run(context: Context<'_>, args: RunArgs) -> Outcome {
    let request = v1::UseSessionRequest {
        target: Some(target::one(&args.target).await?),
        access: super::access(args.write_access).into(),
        role: if args.personal_user {
            v1::Role::Personal
        } else {
            v1::Role::App
        }
        .into(),
        port: args.port.map_or(0, u32::from),
        wait: None,
    };
    let what = What::of(context, args)?;
    let (opened, held) = super::hold(context, request).await?;
    match what {
        What::Sql { text, copy_from } => sql(context, job(&opened, text, copy_from), held).await,
        What::Psql(script) => script.run(context, &opened, held).await,
        What::Program {
            program,
            args,
            stdin,
        } => {
            let mut command = child::command(program, stdin);
            command.args(args);
            // Over TCP: not every program that reads these knows a socket's directory.
            child::connect(&mut command, libpq::all_variables(&opened, Way::Tcp));
            child::run(command, held, context.output).await
        }
    }
}

// === impl What ===

impl What {
    /// From the flags, a file of SQL read already.
    fn of(context: Context<'_>, args: RunArgs) -> Result<Self, Failure> {
        if let Some(text) = args.db_cmd {
            let copy_from = CopyFrom::Stdin;
            return Ok(Self::Sql { text, copy_from });
        }
        if let Some(file) = args.db_cmd_file {
            let file = sql_file::read(&file)?;
            return Ok(match psql::Script::of(context, &file) {
                Some(script) => Self::Psql(script),
                None => Self::plain(file),
            });
        }
        let stdin = if args.stdin {
            Stdio::inherit()
        } else {
            Stdio::null()
        };
        if let Some(line) = args.shell_cmd {
            return Ok(Self::Program {
                program: "/bin/sh".into(),
                args: vec!["-c".into(), line],
                stdin,
            });
        }
        let mut words = args.command.into_iter();
        match words.next() {
            Some(program) => Ok(Self::Program {
                program,
                args: words.collect(),
                stdin,
            }),
            None => Err(Failure::usage("there is nothing to run").with_hint(
                "give one of --db-cmd SQL, --db-cmd-file FILE, --shell-cmd COMMAND, or -- COMMAND ARGS…",
            )),
        }
    }

    fn plain(file: SqlFile) -> Self {
        Self::Sql {
            copy_from: if file.is_stdin() {
                CopyFrom::Nowhere
            } else {
                CopyFrom::Stdin
            },
            text: file.text,
        }
    }
}

// --- SQL ---

fn job(opened: &Opened, sql: String, copy_from: CopyFrom) -> Job {
    let session = &opened.session;
    Job {
        socket: Path::new(&session.socket_dir).join(".s.PGSQL.5432"),
        user: session.user.clone(),
        database: session.database.clone(),
        password: opened.secrets.password.clone(),
        sql,
        access: match session.access() {
            v1::Access::ReadWrite => Access::ReadWrite,
            _ => Access::ReadOnly,
        },
        copy_from,
    }
}

/// Runs SQL to its end, or to that of this process: whatever ends it ends the statement on
/// the server too. SIGKILL leaves no time for that; the daemon then sees the socket close.
async fn sql(context: Context<'_>, job: Job, mut held: Held) -> Outcome {
    let mut ends = Ends::handle()?;
    let mut running = query::start(job, context.output)?;
    let mut is_held = true;
    let number = loop {
        tokio::select! {
            result = running.done() => return result.map(|()| 0),
            number = ends.next() => break number,
            failure = held.ended(), if is_held => {
                is_held = false;
                context.output.warning(&format!("the session ended while the query runs: {failure}"));
            }
        }
    };
    cancel(&mut running, &mut ends).await;
    Err(Failure::interrupted(number))
}

/// Asked to end twice, it ends at once.
async fn cancel(running: &mut Running, ends: &mut Ends) {
    tokio::select! {
        () = running.cancel() => {}
        _ = ends.next() => {}
    }
}

/// The signals that end a command.
struct Ends {
    interrupt: Signal,
    terminate: Signal,
    /// The terminal was closed.
    hangup: Signal,
    quit: Signal,
}

// === impl Ends ===

impl Ends {
    fn handle() -> Result<Self, Failure> {
        let handle = |kind| {
            signal(kind).map_err(|error| {
                Failure::failed(format!("can't handle signals: {}", reason(&error)))
            })
        };
        Ok(Self {
            interrupt: handle(SignalKind::interrupt())?,
            terminate: handle(SignalKind::terminate())?,
            hangup: handle(SignalKind::hangup())?,
            quit: handle(SignalKind::quit())?,
        })
    }

    /// Waits for the next one; its number.
    async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.interrupt.recv() => 2,
            _ = self.terminate.recv() => 15,
            _ = self.hangup.recv() => 1,
            _ = self.quit.recv() => 3,
        }
    }
}

// --- psql ---

mod psql {
    //! A file of SQL that psql has to execute, since it holds psql's own commands.

    use std::{io::Write as _, path::PathBuf, process::Stdio};

    use super::{Context, Failure, Held, Opened, Outcome, SqlFile, Way, child, libpq, reason};
    use crate::output::Format;

    /// What psql is given.
    pub(super) struct Script {
        psql: PathBuf,
        file: PathBuf,
        /// Of a script that came on standard input.
        text: Option<String>,
        csv: bool,
    }

    // === impl Script ===

    impl Script {
        /// `None` where the server can execute the file itself, or there is no psql, or the
        /// results are asked for in a format that psql doesn't have.
        pub(super) fn of(context: Context<'_>, file: &SqlFile) -> Option<Self> {
            if !file.has_psql_commands() {
                return None;
            }
            let csv = match context.output.format {
                Format::Table => false,
                Format::Csv => true,
                Format::Json | Format::Yaml => return None,
            };
            let psql = child::find("psql".as_ref())?;
            context.output.note(
                "the file has commands of psql in it, so psql executes it, as one transaction",
            );
            Some(Self {
                psql,
                file: file.path.clone(),
                text: file.is_stdin().then(|| file.text.clone()),
                csv,
            })
        }

        /// Runs it to the first error, which undoes all of it: the server does the same with
        /// a file that it executes itself.
        pub(super) async fn run(
            self,
            context: Context<'_>,
            opened: &Opened,
            held: Held,
        ) -> Outcome {
            let stdin = match &self.text {
                Some(text) => again(text)?,
                None => Stdio::null(),
            };
            let mut command = child::command(self.psql, stdin);
            command.args(["--no-psqlrc", "--quiet", "--single-transaction"]);
            command.args(["--set", "ON_ERROR_STOP=1"]);
            if self.csv {
                command.arg("--csv");
            }
            command.arg("--file").arg(self.file);
            let way = Way::safest(&opened.session);
            child::connect(&mut command, libpq::variables(opened, way));
            child::run(command, held, context.output).await
        }
    }

    /// What was read, to be read once more.
    fn again(text: &str) -> Result<Stdio, Failure> {
        let file = || {
            let mut file = tempfile::tempfile()?;
            file.write_all(text.as_bytes())?;
            std::io::Seek::rewind(&mut file)?;
            Ok(Stdio::from(file))
        };
        file().map_err(|error: std::io::Error| {
            let dir = std::env::temp_dir();
            let why = reason(&error);
            Failure::failed(format!("can't keep the SQL in {}: {why}", dir.display()))
        })
    }
}
