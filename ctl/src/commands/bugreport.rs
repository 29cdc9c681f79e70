//! `bugreport`: what helps to find a fault, in one text file, without secrets.
//!
//! What goes in is chosen: what other commands show, known keys of the config. [`Secrets`] is
//! the last line of defence behind that, and takes out what should not be there anyway.

mod config;
mod log;
mod machine;
mod secrets;

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use borealis_proto::v1;
use serde::Serialize;
use tempfile::NamedTempFile;
use tokio::{process::Command, time::timeout};

use self::secrets::Secrets;
use super::{Context, Outcome};
use crate::{
    args::BugreportArgs,
    failure::{Failure, reason},
    output::{Format, Text, now, text},
};

/// What one part takes at most; the doctor asks the provider and each database.
const LIMIT: Duration = Duration::from_secs(120);

/// One part of the report.
struct Part {
    name: &'static str,
    text: String,
}

#[derive(Serialize)]
struct Written<'a> {
    file: &'a str,
    bytes: usize,
}

enum Destination {
    Stdout,
    File(PathBuf),
}

pub(super) async fn run(context: Context<'_>, mut args: BugreportArgs) -> Outcome {
    let destination = destination(context, args.file.take());
    let mut replace = args.force;
    if let Destination::File(file) = &destination {
        replace = may_write(context, file, &args).await?;
    }
    let spinner = context.output.spinner("looking at everything".to_owned());
    let parts = gather(context, args.log.as_deref()).await;
    drop(spinner);
    let report = put_together(&parts);
    announce(context, &parts, &destination);
    let Destination::File(file) = destination else {
        context.output.data(report.as_bytes())?;
        return Ok(0);
    };
    if !args.yes && context.output.can_ask() && !is_yes(context, "Write it? [y/N]").await? {
        return Err(Failure::failed("nothing was written"));
    }
    write(&file, report.as_bytes(), replace)?;
    let name = file.display().to_string();
    match context.output.format {
        Format::Table => {
            let line = format!("wrote {}\n", text::line(&name));
            context.output.text(&Text::lines(line))?;
        }
        Format::Csv => context
            .output
            .pairs(["key", "value"], [("file", name.as_str())])?,
        Format::Json | Format::Yaml => context.output.value(&Written {
            file: &name,
            bytes: report.len(),
        })?,
    }
    Ok(0)
}

// --- where it goes ---

fn destination(context: Context<'_>, named: Option<PathBuf>) -> Destination {
    match named {
        Some(file) if file.as_os_str() == "-" => Destination::Stdout,
        Some(file) => Destination::File(file),
        None if context.output.on_terminal() => {
            let stamp = now().strftime("%Y%m%d-%H%M%S");
            Destination::File(format!("borealis-bugreport-{stamp}.txt").into())
        }
        None => Destination::Stdout,
    }
}

/// Whether a file that is there is to be replaced; asked before anything takes time.
async fn may_write(
    context: Context<'_>,
    file: &Path,
    args: &BugreportArgs,
) -> Result<bool, Failure> {
    let shown = file.display();
    match fs::symlink_metadata(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed(file, &error)),
        // A rename would take the place of a device or of a link.
        Ok(found) if !found.is_file() => {
            Err(Failure::failed(format!("{shown} is not a regular file"))
                .with_hint("name another, or `-` for standard output"))
        }
        Ok(_) if args.force => Ok(true),
        Ok(_) if !args.yes && context.output.can_ask() => {
            let question = format!("{shown} is there already. Replace it? [y/N]");
            if is_yes(context, &question).await? {
                Ok(true)
            } else {
                Err(Failure::failed(format!("{shown} stays as it is")))
            }
        }
        Ok(_) => Err(Failure::failed(format!("{shown} is there already"))
            .with_hint("replace it with --force, or name another")),
    }
}

async fn is_yes(context: Context<'_>, question: &str) -> Result<bool, Failure> {
    let answer = context.output.ask(question).await?;
    Ok(answer.eq_ignore_ascii_case("y") || answer.eq_ignore_ascii_case("yes"))
}

/// Whole or not at all, for this user alone.
fn write(file: &Path, report: &[u8], replace: bool) -> Result<(), Failure> {
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty());
    let written = || {
        let mut draft = NamedTempFile::new_in(dir.unwrap_or(Path::new(".")))?;
        draft.write_all(report)?;
        draft.flush()?;
        if replace {
            draft.persist(file)
        } else {
            draft.persist_noclobber(file)
        }
        .map_err(|error| error.error)
    };
    written().map(drop).map_err(|error| failed(file, &error))
}

fn failed(file: &Path, error: &io::Error) -> Failure {
    Failure::failed(format!("can't write {}: {}", file.display(), reason(error)))
}

// --- what is in it ---

/// Each part as it may be passed on.
async fn gather(context: Context<'_>, named_log: Option<&Path>) -> Vec<Part> {
    let mut daemon = context.running_daemon().await;
    let info = match &mut daemon {
        Ok(client) => client.info().await.map_err(|failure| failure.message),
        Err(failure) => Err(failure.message.clone()),
    };
    let config_file = super::config::config_file(context).await.ok();
    let secrets = Secrets::known(info.as_ref().ok(), config_file.as_deref());
    let (versions, status, doctor, sessions, events, log) = tokio::join!(
        machine::versions(info.as_ref()),
        own(context, &["status"]),
        own(context, &["doctor"]),
        sessions(context, info.as_ref()),
        own(context, &["events"]),
        log::last_hour(info.as_ref().ok(), named_log),
    );
    let config = config_file.map_or_else(
        || "no home directory is known\n".to_owned(),
        |file| config::shown(&file),
    );
    [
        ("versions", versions),
        ("config", config),
        ("status", status),
        ("doctor", doctor),
        ("sessions", sessions),
        ("events", events),
        ("log of the last hour", log),
    ]
    .map(|(name, text)| Part {
        name,
        text: text::block(&secrets.removed(&text)).into_owned(),
    })
    .into()
}

/// Of a daemon that runs: a question about a bug starts none.
async fn sessions(context: Context<'_>, info: Result<&v1::GetInfoResponse, &String>) -> String {
    match info {
        Ok(_) => own(context, &["list", "--format", "yaml"]).await,
        Err(problem) => format!("{problem}\n"),
    }
}

/// What a command of this program prints, as the user would see it.
async fn own(context: Context<'_>, args: &[&str]) -> String {
    let Ok(program) = std::env::current_exe() else {
        return "borealisctl can't find itself\n".to_owned();
    };
    let mut command = Command::new(program);
    command.args(args).env("NO_COLOR", "1");
    if let Some(socket) = context.socket {
        command.arg("--socket").arg(socket);
    }
    said(command).await
}

/// What a program says, and how it ends where that is not well.
async fn said(mut command: Command) -> String {
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = match timeout(LIMIT, command.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return format!("can't be run: {}\n", reason(&error)),
        Err(_) => return format!("did not end within {} s\n", LIMIT.as_secs()),
    };
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    match output.status.code() {
        Some(0) => {}
        Some(code) => text.push_str(&format!("(exit code {code})\n")),
        None => text.push_str("(killed)\n"),
    }
    text
}

fn put_together(parts: &[Part]) -> String {
    let at = now().strftime("%Y-%m-%dT%H:%M:%SZ");
    let mut report = format!("A report of borealisctl bugreport, made at {at}. {PROMISE}\n");
    for part in parts {
        report.push_str(&format!("\n===== {} =====\n\n{}", part.name, part.text));
    }
    report
}

const PROMISE: &str = "No password, token, key or SQL is in it, but names \
    of apps, add-ons, databases, hosts, users and paths are: read it before you pass it on.";

/// Says what is in it, before anything is written.
fn announce(context: Context<'_>, parts: &[Part], destination: &Destination) {
    let counted = |part: &Part| format!("{} ({} lines)", part.name, part.text.lines().count());
    let parts: Vec<_> = parts.iter().map(counted).collect();
    let place = match destination {
        Destination::Stdout => "standard output".to_owned(),
        Destination::File(file) => file.display().to_string(),
    };
    let note = |text: &str| context.output.note(text);
    note(&format!(
        "The report, for {place}, has: {}.",
        parts.join(", ")
    ));
    note(PROMISE);
}
