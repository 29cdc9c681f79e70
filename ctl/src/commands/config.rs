//! `config`: where the daemon's config file is, and a way to change it that can't break it.

use std::{
    ffi::OsString,
    fs,
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
};

use borealis_proto::paths::Paths;
use serde::Serialize;
use tempfile::NamedTempFile;
use tokio::process::Command;

use super::{Context, Outcome, doctor};
use crate::{
    args::ConfigAction,
    child,
    failure::{Failure, one_line, reason},
    output::{Format, Text, quote, text::line},
};

/// As the daemon reads it.
const VARIABLE: &str = "BOREALIS_CONFIG";
/// What is shown to be edited where there is no file yet: every key, with its default.
const TEMPLATE: &str = include_str!("config.toml");

#[derive(Serialize)]
struct Answer<'a> {
    config_file: &'a str,
}

pub(super) async fn run(context: Context<'_>, action: ConfigAction) -> Outcome {
    match action {
        ConfigAction::Path => path(context).await,
        ConfigAction::Edit => edit(context).await,
    }
}

async fn path(context: Context<'_>) -> Outcome {
    let file = config_file(context).await?.display().to_string();
    match context.output.format {
        Format::Table => context.output.text(&Text::lines(line(&file)).then("\n"))?,
        Format::Csv => {
            let answer = [("config_file", file.as_str())];
            context.output.pairs(["key", "value"], answer)?;
        }
        Format::Json | Format::Yaml => {
            context.output.value(&Answer { config_file: &file })?;
        }
    }
    Ok(0)
}

/// The running daemon's; without one the file that a daemon of this environment would read.
pub(super) async fn config_file(context: Context<'_>) -> Result<PathBuf, Failure> {
    if let Ok(mut daemon) = context.running_daemon().await
        && let Ok(info) = daemon.info().await
    {
        return Ok(info.config_file.into());
    }
    let named = std::env::var_os(VARIABLE).filter(|path| !path.is_empty());
    named
        .map(PathBuf::from)
        .or_else(|| Paths::from_environment().map(|paths| paths.config_file()))
        .ok_or_else(|| {
            Failure::failed("can't tell where the config file is: no home directory is known")
                .with_hint("set HOME, or name the file with BOREALIS_CONFIG")
        })
}

// --- editing ---

/// Has a copy edited until the daemon would take it, then puts it in the file's place: a
/// daemon that starts meanwhile never reads half a thought.
async fn edit(context: Context<'_>) -> Outcome {
    let file = config_file(context).await?;
    // What it is a link to is changed, and the link stays.
    let file = fs::canonicalize(&file).unwrap_or(file);
    let before = current(&file)?;
    let draft = draft(&file, before.as_deref().unwrap_or(TEMPLATE))?;
    loop {
        edit_once(draft.path()).await?;
        let text = fs::read_to_string(draft.path()).map_err(|error| failed(&file, &error))?;
        if before.as_ref().map_or(TEMPLATE, String::as_str) == text {
            context.output.note("nothing was changed");
            return Ok(0);
        }
        let Err(problem) = check(draft.path()).await else {
            break;
        };
        // The draft's own name means nothing to anybody.
        let shown = draft.path().display().to_string();
        let problem = problem.replace(&shown, &file.display().to_string());
        if !context.output.can_ask() {
            return Err(Failure::failed(problem).with_hint("nothing was changed"));
        }
        context.output.warning(&problem);
        let answer = context.output.ask("Edit it again? [Y/n]").await?;
        if answer.eq_ignore_ascii_case("n") || answer.eq_ignore_ascii_case("no") {
            return Err(Failure::failed("the config file stays as it was"));
        }
    }
    draft
        .persist(&file)
        .map_err(|error| failed(&file, &error.error))?;
    context.output.text(&Text::lines(format!(
        "changed {}\n",
        line(&file.display().to_string())
    )))?;
    reload(context).await
}

async fn reload(context: Context<'_>) -> Outcome {
    match context.running_daemon().await {
        Ok(mut daemon) => context.output.changes(&daemon.reload().await?)?,
        Err(_) => context.output.note("borealisd reads it when it starts"),
    }
    Ok(0)
}

fn current(file: &Path) -> Result<Option<String>, Failure> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(file, &error)),
    }
}

/// A copy in the same directory, so that it can be renamed; with the file's own rights, and
/// the user's alone where there is no file.
fn draft(file: &Path, text: &str) -> Result<NamedTempFile, Failure> {
    let dir = file.parent().unwrap_or(Path::new("."));
    let write = || {
        fs::create_dir_all(dir)?;
        let mut draft = tempfile::Builder::new()
            .prefix(".config-")
            .suffix(".toml")
            .tempfile_in(dir)?;
        draft.write_all(text.as_bytes())?;
        draft.flush()?;
        if let Ok(metadata) = fs::metadata(file) {
            let mode = metadata.permissions().mode() & 0o755;
            fs::set_permissions(draft.path(), fs::Permissions::from_mode(mode))?;
        }
        Ok(draft)
    };
    write().map_err(|error| failed(file, &error))
}

/// In the user's editor, which may be more than one word, as git takes it.
async fn edit_once(draft: &Path) -> Result<(), Failure> {
    let editor = editor().ok_or_else(|| {
        Failure::failed("no editor is known").with_hint("name one in VISUAL or EDITOR")
    })?;
    let mut command = Command::new("/bin/sh");
    let line = format!("{editor} {}", quote::sh(&draft.to_string_lossy()));
    let status = command.arg("-c").arg(line).status().await;
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(Failure::failed(format!("the editor ({editor}) failed"))
            .with_hint("nothing was changed; VISUAL or EDITOR name another one")),
        Err(error) => Err(Failure::failed(format!(
            "the editor can't be started: {}",
            reason(&error)
        ))),
    }
}

fn editor() -> Option<String> {
    let named = |name| {
        let value: Option<OsString> = std::env::var_os(name);
        value
            .and_then(|value| value.into_string().ok())
            .filter(|value| !value.trim().is_empty())
    };
    let installed = || {
        ["sensible-editor", "nano", "vi"]
            .into_iter()
            .find(|name| child::find(name.as_ref()).is_some())
            .map(str::to_owned)
    };
    named("VISUAL")
        .or_else(|| named("EDITOR"))
        .or_else(installed)
}

/// Whether a daemon would take it, by asking one that is started for nothing else.
async fn check(file: &Path) -> Result<(), String> {
    let Some(program) = doctor::daemon_program() else {
        return Ok(());
    };
    let checked = Command::new(program)
        .arg("--check-config")
        .arg("--config")
        .arg(file)
        .stdin(Stdio::null())
        .output()
        .await;
    match checked {
        Ok(output) if !output.status.success() => {
            let said = one_line(&String::from_utf8_lossy(&output.stderr));
            Err(said.strip_prefix("borealisd: ").unwrap_or(&said).to_owned())
        }
        // One that can't be run will say so itself when it is.
        _ => Ok(()),
    }
}

fn failed(file: &Path, error: &io::Error) -> Failure {
    Failure::failed(format!(
        "can't change {}: {}",
        file.display(),
        reason(error)
    ))
}
