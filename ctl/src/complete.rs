//! What the shell's completion offers beside flags: names of sessions, apps, add-ons, numbers of connections, as the
//! daemon has them at this moment.
//!
//! The shell asks by running borealisctl with [`VARIABLE`] set. It waits for the answer with
//! every press of a key, so there is little time, and no answer is no error.

use std::{borrow::Cow, ffi::OsStr, path::PathBuf, time::Duration};

use borealis_proto::{SOCKET_VARIABLE, v1};
use clap::CommandFactory as _;
use clap_complete::{
    CompleteEnv, Shell,
    engine::{ArgValueCompleter, CompletionCandidate},
    env::Shells,
};

use crate::{args::Cli, client::Client, failure::Failure, output::text::line};

/// Set by the shell's script when it asks for completions.
const VARIABLE: &str = "_BOREALISCTL_COMPLETE";
const NAME: &str = "borealisctl";
const LIMIT: Duration = Duration::from_millis(500);

/// Answers the shell, where it is the shell that asks.
///
/// # Errors
/// What is wrong with the shell's question.
pub(crate) fn answered() -> Result<bool, clap::Error> {
    CompleteEnv::with_factory(Cli::command)
        .var(VARIABLE)
        .completer(NAME)
        .try_complete(std::env::args_os(), std::env::current_dir().ok().as_deref())
}

/// The script that makes a shell ask.
pub(crate) fn script(shell: Shell) -> Option<String> {
    let mut script = Vec::new();
    Shells::builtins()
        .completer(&shell.to_string())?
        .write_registration(VARIABLE, NAME, NAME, NAME, &mut script)
        .ok()?;
    String::from_utf8(script).ok()
}

/// Numbers of connections.
pub(crate) fn connections() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &OsStr| {
        let connections = ask(async |mut daemon| daemon.connections(Vec::new()).await);
        let state = |c: &v1::Connection| crate::output::words::connection_state(c.state());
        let numbers = connections.iter().map(|c| {
            let help = format!(
                "{} of {}, {}",
                c.application_name,
                c.session,
                state(c).unwrap_or("in an unknown state")
            );
            (c.id.to_string(), help)
        });
        fitting(typed, numbers)
    })
}

/// Names of sessions and the apps that they are open for.
pub(crate) fn targets() -> ArgValueCompleter {
    offer(|session| {
        let name = (session.name.clone(), described(session));
        let app = (session.app.clone(), format!("app of {}", session.name));
        vec![name, app]
    })
}

/// Names of sessions.
pub(crate) fn sessions() -> ArgValueCompleter {
    offer(|session| vec![(session.name.clone(), described(session))])
}

/// Apps that sessions are open for.
pub(crate) fn apps() -> ArgValueCompleter {
    offer(|session| vec![(session.app.clone(), format!("app of {}", session.name))])
}

/// Add-ons that sessions are open for, and their attachments.
pub(crate) fn addons() -> ArgValueCompleter {
    offer(|session| {
        let of = format!("add-on of {}", session.name);
        vec![
            (session.addon.clone(), of.clone()),
            (session.attachment.clone(), of),
        ]
    })
}

fn described(session: &v1::Session) -> String {
    let state = crate::output::words::state(session.state()).unwrap_or_default();
    format!("session to {}, {state}", session.app)
}

/// Of several candidates with the same value the first is offered.
fn offer(
    of: impl Fn(&v1::Session) -> Vec<(String, String)> + Send + Sync + 'static,
) -> ArgValueCompleter {
    ArgValueCompleter::new(move |typed: &OsStr| {
        let all = ask(async |mut daemon| daemon.list().await);
        fitting(typed, all.iter().flat_map(&of))
    })
}

/// Those that go on from what was typed.
fn fitting(
    typed: &OsStr,
    candidates: impl Iterator<Item = (String, String)>,
) -> Vec<CompletionCandidate> {
    let typed = typed.to_string_lossy();
    let mut seen: Vec<(String, String)> = Vec::new();
    let fitting = candidates
        .filter(|(value, _)| !value.is_empty() && value.starts_with(typed.as_ref()))
        // What has to be shown in another way than it is can't be typed either.
        .filter(|(value, _)| matches!(line(value), Cow::Borrowed(_)));
    for (value, help) in fitting {
        if !seen.iter().any(|(before, _)| *before == value) {
            seen.push((value, help));
        }
    }
    seen.into_iter()
        .map(|(value, help)| {
            let help = line(&help).into_owned();
            CompletionCandidate::new(value).help(Some(help.into()))
        })
        .collect()
}

/// What the daemon answers in time; nothing where it doesn't.
fn ask<T: Default>(question: impl AsyncFnOnce(Client) -> Result<T, Failure>) -> T {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    else {
        return T::default();
    };
    let socket = std::env::var_os(SOCKET_VARIABLE)
        .filter(|path| !path.is_empty())
        .map(PathBuf::from);
    let asking = async {
        let daemon = Client::connect(socket.as_deref()).await.ok()?;
        question(daemon).await.ok()
    };
    runtime
        .block_on(async { tokio::time::timeout(LIMIT, asking).await })
        .ok()
        .flatten()
        .unwrap_or_default()
}
