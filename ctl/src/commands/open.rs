//! `open`: a session that stays.

use std::time::Duration;

use borealis_proto::v1;

use super::{Context, Outcome, target};
use crate::{
    args::{OpenArgs, RoleArg},
    client::{Opened, Reveal},
    failure::Failure,
    output::{Format, session::View},
    project::Entry,
};

pub(super) async fn run(context: Context<'_>, args: OpenArgs) -> Outcome {
    let wait = (!args.no_wait).then_some(args.timeout);
    let reveal = Reveal::when(args.reveal);
    let request = request(args, wait).await?;
    let mut daemon = context.daemon().await?;
    daemon.check_version().await?;
    let what = super::described(request.target.as_ref());
    let spinner = context.output.spinner(format!("opening {what}"));
    let opened = daemon.open(request).await;
    drop(spinner);
    let opened = opened?;
    context.output.session(&opened, View::Connect, reveal)?;
    say_who_owns(context, &opened.session);
    match wait {
        Some(waited) if opened.session.state() != v1::State::Up => Err(not_up(&opened, waited)),
        _ => Ok(0),
    }
}

async fn request(
    args: OpenArgs,
    wait: Option<Duration>,
) -> Result<v1::OpenSessionRequest, Failure> {
    let meant = target::meant(&args.target).await?;
    let mut request = v1::OpenSessionRequest {
        target: Some(meant.target),
        access: super::asked_access(args.write_access).into(),
        role: match args.role {
            None => v1::Role::Unspecified,
            Some(RoleArg::Personal) => v1::Role::Personal,
            Some(RoleArg::App) => v1::Role::App,
        }
        .into(),
        mode: if args.passthrough {
            v1::Mode::Passthrough
        } else {
            v1::Mode::Unspecified
        }
        .into(),
        port: args.port.map_or(0, u32::from),
        name: args.name.unwrap_or_default(),
        grace: args.grace.map(super::duration).transpose()?,
        expires_in: args.lifetime.map(super::duration).transpose()?,
        wait: wait.map(super::duration).transpose()?,
    };
    if let Some(entry) = meant.entry {
        as_listed(&mut request, &entry);
    }
    Ok(request)
}

/// What was left open is as the project's file has it. Its name and port are those of that very
/// session, and not of one that was asked to be something else.
fn as_listed(request: &mut v1::OpenSessionRequest, entry: &Entry) {
    if request.access() == v1::Access::Unspecified {
        request.set_access(entry.access);
    }
    if request.role() == v1::Role::Unspecified {
        request.set_role(entry.role);
    }
    if request.mode() == v1::Mode::Unspecified {
        request.set_mode(v1::Mode::Managed);
    }
    let is_same = (request.access(), request.role(), request.mode())
        == (entry.access, entry.role, v1::Mode::Managed);
    if is_same && request.name.is_empty() {
        request.name = entry.name.clone().unwrap_or_default();
    }
    if is_same && request.port == 0 {
        request.port = entry.port.map_or(0, u32::from);
    }
}

/// Says, to people, what becomes of what they create: a table that belongs to a personal user
/// can't be altered by the app's next migration.
fn say_who_owns(context: Context<'_>, session: &v1::Session) {
    if context.output.format == Format::Table
        && session.access() == v1::Access::ReadWrite
        && session.role() == v1::Role::Personal
    {
        let note = |text: &str| context.output.note(text);
        note(
            "what you create here belongs to your own database user: run migrations with --role app,",
        );
        note(&format!(
            "or give it away: REASSIGN OWNED BY CURRENT_USER TO the app's user, as `borealisctl users {}` names it",
            session.app
        ));
    }
}

/// Why the session isn't up, and that it stays.
pub(super) fn not_up(opened: &Opened, waited: Duration) -> Failure {
    let session = &opened.session;
    let name = &session.name;
    let why = match &session.last_error {
        Some(error) => error.message.clone(),
        None if !session.step.is_empty() => session.step.clone(),
        None => "the daemon gave no reason".to_owned(),
    };
    let message = if session.state() == v1::State::Failed {
        format!("{name} can't be brought up: {why}")
    } else {
        format!("{name} is not up after {} s: {why}", waited.as_secs_f64())
    };
    let stays = format!(
        "the session stays; `borealisctl show {name}` shows how it fares, `borealisctl close {name}` ends it"
    );
    let hint = match &session.last_error {
        Some(error) if !error.hint.is_empty() => format!("{}; {stays}", error.hint),
        _ => stays,
    };
    Failure::failed(message).with_hint(hint)
}
