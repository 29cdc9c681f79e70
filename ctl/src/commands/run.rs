//! `run`: SQL or a command over a session.

use std::{
    ffi::OsString,
    io::{self, Read as _},
    path::{Path, PathBuf},
    process::Stdio,
};

use borealis_proto::v1;
use tokio::signal::unix::{SignalKind, signal};

use super::{Context, Outcome, target};
use crate::{
    args::RunArgs,
    child,
    client::{Held, Opened},
    failure::{Failure, reason},
    query::{self, Access, CopyFrom, Job},
};

/// What is run.
enum What {
    Sql {
        text: String,
        copy_from: CopyFrom,
    },
    Shell(OsString),
    Program {
        program: OsString,
        args: Vec<OsString>,
    },
}

pub(super) async fn run(context: Context<'_>, args: RunArgs) -> Outcome {
    let stdin = args.stdin;
    let request = v1::UseSessionRequest {
        target: Some(target::one(&args.target)?),
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
    let what = What::of(args)?;
    let (opened, held) = super::hold(context, request).await?;
    match what {
        What::Sql { text, copy_from } => {
            let job = job(&opened, text, copy_from);
            sql(context, job, held).await
        }
        What::Shell(line) => {
            let args = vec![OsString::from("-c"), line];
            program(context, "/bin/sh".into(), args, stdin, &opened, held).await
        }
        What::Program {
            program: name,
            args,
        } => program(context, name, args, stdin, &opened, held).await,
    }
}

// === impl What ===

impl What {
    /// From the flags, a file of SQL read already.
    fn of(args: RunArgs) -> Result<Self, Failure> {
        if let Some(text) = args.db_cmd {
            return Ok(Self::Sql {
                text,
                copy_from: CopyFrom::Stdin,
            });
        }
        if let Some(file) = args.db_cmd_file {
            let copy_from = if is_stdin(&file) {
                CopyFrom::Nowhere
            } else {
                CopyFrom::Stdin
            };
            let text = read_sql(&file)?;
            return Ok(Self::Sql { text, copy_from });
        }
        if let Some(line) = args.shell_cmd {
            return Ok(Self::Shell(line));
        }
        let mut words = args.command.into_iter();
        match words.next() {
            Some(program) => Ok(Self::Program {
                program,
                args: words.collect(),
            }),
            None => Err(Failure::usage("there is nothing to run").with_hint(
                "give one of --db-cmd SQL, --db-cmd-file FILE, --shell-cmd COMMAND, or -- COMMAND ARGS…",
            )),
        }
    }
}

fn is_stdin(file: &Path) -> bool {
    file.as_os_str() == "-"
}

fn read_sql(file: &PathBuf) -> Result<String, Failure> {
    let (name, bytes) = if is_stdin(file) {
        let mut bytes = Vec::new();
        let read = io::stdin().lock().read_to_end(&mut bytes);
        ("standard input".to_owned(), read.map(|_| bytes))
    } else {
        (file.display().to_string(), std::fs::read(file))
    };
    let bytes =
        bytes.map_err(|error| Failure::failed(format!("can't read {name}: {}", reason(&error))))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()]
            .iter()
            .filter(|&&byte| byte == b'\n')
            .count();
        Failure::failed(format!("{name} is not UTF-8 text (line {})", line + 1))
            .with_hint("convert it with iconv")
    })?;
    // Editors on Windows begin files with a byte order mark, which is no SQL.
    Ok(text
        .strip_prefix('\u{feff}')
        .map_or(text.clone(), str::to_owned))
}

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

async fn sql(context: Context<'_>, job: Job, mut held: Held) -> Outcome {
    let failed =
        |error: io::Error| Failure::failed(format!("can't handle signals: {}", reason(&error)));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut running = query::start(job, context.output)?;
    let mut is_held = true;
    let number = loop {
        tokio::select! {
            result = running.done() => return result.map(|()| 0),
            _ = interrupt.recv() => break 2,
            _ = terminate.recv() => break 15,
            failure = held.ended(), if is_held => {
                is_held = false;
                context.output.warning(&format!("the session ended while the query runs: {failure}"));
            }
        }
    };
    tokio::select! {
        () = running.cancel() => {}
        // Asked twice, it ends at once.
        _ = interrupt.recv() => {}
    }
    Err(Failure::interrupted(number))
}

async fn program(
    context: Context<'_>,
    program: OsString,
    args: Vec<OsString>,
    stdin: bool,
    opened: &Opened,
    held: Held,
) -> Outcome {
    let stdin = if stdin {
        Stdio::inherit()
    } else {
        Stdio::null()
    };
    let mut command = child::command(program, stdin);
    command.args(args);
    child::without_detours(&mut command);
    command.envs(child::variables(opened));
    child::run(command, held, context.output).await
}
