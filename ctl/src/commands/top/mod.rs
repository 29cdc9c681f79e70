//! `top`: who is connected, live, and what can be done to it. The loop between the daemon, the
//! keys, the model and the screen; it decides nothing.

mod feed;

use std::time::Duration;

use borealis_proto::v1;
use jiff::tz::TimeZone;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc::{self, Receiver, Sender},
    time::{Instant, sleep, sleep_until},
};

use self::feed::Feed;
use super::{Context, Outcome};
use crate::{
    client::{Client, Reveal},
    failure::{Failure, reason},
    output::{
        Format,
        time::now,
        top::{Command, Copied, Happened, Model, Plain, Screen},
    },
};

/// What may have happened before it is looked at.
const WAITING: usize = 256;
/// How often plain text is repeated at most.
const REPEAT: Duration = Duration::from_secs(1);
/// What an `open` waits for the session.
const OPEN: Duration = Duration::from_secs(60);
/// Who asks, for the message of a client that is ended and for the event.
const BY: &str = "borealisctl top";
/// In debug builds, whether a panic is to be seen at the first key: for the test that the terminal
/// is as before then too.
const PANIC: &str = "BOREALISCTL_TOP_PANICS";

pub(super) async fn run(context: Context<'_>) -> Outcome {
    if context.output.format != Format::Table {
        return Err(Failure::usage("top is for people, and has one format").with_hint(
            "`borealisctl list --watch -f json` prints every change, `borealisctl events --follow -f json` what happens",
        ));
    }
    let mut daemon = context.daemon().await?;
    daemon.check_version().await?;
    let (sender, happened) = mpsc::channel(WAITING);
    let feed = Feed::start(context.socket, daemon, sender.clone());
    let model = Model::new(now(), TimeZone::system());
    if context.output.has_screen() {
        let screen = context.output.take_screen()?;
        screen.tell_keys(sender.clone())?;
        tell_signals(&sender)?;
        steer(screen, model, &feed, happened, &sender).await
    } else {
        repeat(context, model, happened).await
    }
}

/// Draws what is known at each change, and does what the keys ask for, until one ends it.
async fn steer(
    mut screen: Screen,
    mut model: Model,
    feed: &Feed,
    mut happened: Receiver<Happened>,
    sender: &Sender<Happened>,
) -> Outcome {
    loop {
        screen.draw(&model)?;
        let next = tokio::select! {
            next = happened.recv() => next.unwrap_or(Happened::Signal(1)),
            () = tick(model.next_tick()) => Happened::Tick,
        };
        // All that has happened meanwhile is drawn at once.
        let mut next = Some(next);
        while let Some(one) = next {
            assert!(!panics_at(&one), "asked for by {PANIC}");
            for command in model.update(one, now()) {
                match command {
                    Command::Quit => return Ok(0),
                    Command::Interrupted(signal) => return Err(Failure::interrupted(signal)),
                    Command::Redraw => screen.forget()?,
                    Command::Copy(text) => screen.copy(&text)?,
                    command => ask(feed.daemon(), command, sender.clone()),
                }
            }
            next = happened.try_recv().ok();
        }
    }
}

/// Whether a test asks for a panic here.
fn panics_at(happened: &Happened) -> bool {
    cfg!(debug_assertions)
        && matches!(happened, Happened::Key(_))
        && std::env::var_os(PANIC).is_some()
}

/// Prints what is known at each change, until nobody reads it.
async fn repeat(
    context: Context<'_>,
    mut model: Model,
    mut happened: Receiver<Happened>,
) -> Outcome {
    let mut plain = Plain::default();
    let mut allowed = Instant::now();
    let mut is_new = false;
    loop {
        tokio::select! {
            next = happened.recv() => {
                let Some(next) = next else {
                    return Err(Failure::connection_lost());
                };
                // Nobody presses keys here, so there is nothing to do.
                drop(model.update(next, now()));
                is_new = true;
            }
            () = sleep_until(allowed), if is_new => {
                plain.show(context.output, &model)?;
                is_new = false;
                allowed = Instant::now() + REPEAT;
            }
            () = context.output.reader_gone() => return Err(Failure::reader_gone()),
        }
    }
}

async fn tick(after: Option<Duration>) {
    match after {
        Some(after) => sleep(after).await,
        None => std::future::pending().await,
    }
}

/// Has the signals that end a program end the loop instead, which gives the terminal back.
/// Ctrl-C is a key here, and SIGINT is heard by `main`.
fn tell_signals(happened: &Sender<Happened>) -> Result<(), Failure> {
    for kind in [
        SignalKind::terminate(),
        SignalKind::hangup(),
        SignalKind::quit(),
    ] {
        let mut signal = signal(kind).map_err(|error| Failure::failed(reason(&error)))?;
        let happened = happened.clone();
        let number = u8::try_from(kind.as_raw_value()).unwrap_or(1);
        tokio::spawn(async move {
            while signal.recv().await.is_some() {
                if happened.send(Happened::Signal(number)).await.is_err() {
                    return;
                }
            }
        });
    }
    Ok(())
}

/// Asks the daemon for something; its answer is told when it comes.
fn ask(daemon: Client, command: Command, happened: Sender<Happened>) {
    tokio::spawn(async move {
        let answer = answer(daemon, command).await;
        if let Some(answer) = answer {
            // Where nobody listens any more, `top` has ended.
            let _ = happened.send(answer).await;
        }
    });
}

async fn answer(mut daemon: Client, command: Command) -> Option<Happened> {
    let answer = match command {
        Command::AskInfo => {
            let info = daemon.info().await.ok()?;
            return Some(Happened::Info(Box::new(info)));
        }
        Command::Reveal(session) => match daemon.get(named(&session), Reveal::Secrets).await {
            Ok(opened) if opened.secrets.url.is_empty() => Err(Failure::failed(format!(
                "{session} has never been up, so its URL is not known yet"
            ))),
            Ok(opened) => {
                return Some(Happened::Copied(Copied {
                    session,
                    url: opened.secrets.url,
                    with_password: true,
                }));
            }
            Err(failure) => Err(failure),
        },
        Command::Open { target, write } => open(daemon, &target, write).await,
        Command::Close(session) => {
            let request = v1::CloseSessionsRequest {
                targets: vec![named(&session)],
                ..v1::CloseSessionsRequest::default()
            };
            daemon
                .close(request)
                .await
                .map(|_| format!("closed {session}"))
        }
        Command::Rotate(session) => rotate(daemon, &session).await,
        Command::End(id) => outcome(daemon.end_connections(vec![id], BY).await)
            .map(|()| format!("ended connection {id}")),
        Command::Cancel(id) => outcome(daemon.cancel_queries(vec![id], BY).await)
            .map(|()| format!("asked the server to cancel what connection {id} runs")),
        Command::Quit | Command::Interrupted(_) | Command::Redraw | Command::Copy(_) => {
            return None;
        }
    };
    Some(Happened::Answered(answer))
}

async fn open(mut daemon: Client, target: &str, write: bool) -> Result<String, Failure> {
    let request = v1::OpenSessionRequest {
        target: Some(named(target)),
        access: super::asked_access(write).into(),
        wait: Some(super::duration(OPEN)?),
        ..v1::OpenSessionRequest::default()
    };
    let opened = daemon.open(request).await?;
    let session = &opened.session;
    if session.state() == v1::State::Up {
        return Ok(format!("{} is up", session.name));
    }
    let why = match &session.last_error {
        Some(error) => error.message.clone(),
        None => session.step.clone(),
    };
    Err(Failure::failed(format!(
        "{} is not up: {why}",
        session.name
    )))
}

async fn rotate(mut daemon: Client, session: &str) -> Result<String, Failure> {
    let request = v1::RotateSessionsRequest {
        targets: vec![named(session)],
        ..v1::RotateSessionsRequest::default()
    };
    let rotated = daemon.rotate(request).await?;
    if let Some(failed) = rotated.failures.into_iter().next() {
        return Err(Failure::from(failed.failure.unwrap_or_default()));
    }
    let credential = rotated
        .sessions
        .first()
        .and_then(|session| session.credential.as_ref());
    Ok(match credential {
        Some(credential) => format!(
            "rotated {session}: new connections use credential {}",
            credential.generation
        ),
        None => format!("rotated {session}"),
    })
}

/// Of the one connection that was asked about.
fn outcome(answer: Result<Vec<v1::ConnectionOutcome>, Failure>) -> Result<(), Failure> {
    match answer?.into_iter().find_map(|outcome| outcome.failure) {
        Some(failure) => Err(Failure::from(failure)),
        None => Ok(()),
    }
}

fn named(name: &str) -> v1::Target {
    v1::Target {
        name: name.to_owned(),
        ..v1::Target::default()
    }
}
