//! The end of a session: its open connections end where it does no harm, until the deadline, and
//! whatever is left after that is cut.

use std::time::Duration;

use tokio::{sync::mpsc, time::sleep_until};

use crate::{
    model::Cause,
    proxy::{Connect, Gateway, IdlePolicy},
    service_manager::notify,
    session::{CloseRequest, Command},
};

/// What a session may take beyond the deadline of its [`CloseRequest`]: the service manager
/// takes note, and connections are told and cut.
pub const END_LIMIT: Duration = Duration::from_secs(5);
/// The part of [`END_LIMIT`] in which connections are told why they end; a client that
/// doesn't read is dropped after it.
const CUT_LIMIT: Duration = Duration::from_secs(3);
const _: () = assert!(END_LIMIT.as_secs() >= CUT_LIMIT.as_secs() + notify::BARRIER_LIMIT.as_secs());

/// How a wait that a session's end begins with came to its own end.
enum Waited {
    /// What was waited for has come.
    Done,
    /// The deadline has passed.
    Over,
    /// Somebody is in a greater hurry: the request is that one's now.
    Hurried,
}

/// Waits until clients that have spoken have reached their database, before any is told to go.
pub(super) async fn let_arrive<C: Connect>(
    gateway: &Gateway<C>,
    request: &mut CloseRequest,
    commands: &mut mpsc::Receiver<Command>,
) {
    while let Waited::Hurried = wait_or_hurry(gateway.arrived(), request, commands).await {}
}

/// Lets open connections end where it does no harm, until the deadline; answers why those
/// that are left are ended.
pub(super) async fn drain<C: Connect>(
    gateway: &Gateway<C>,
    mut request: CloseRequest,
    commands: &mut mpsc::Receiver<Command>,
) -> Cause {
    gateway.close();
    loop {
        // Who opened the session for a time wants it closed at the end of that; who
        // closes it wants its clients to finish.
        let which = match request.cause {
            Cause::SessionExpired => IdlePolicy::Next,
            _ => IdlePolicy::Lasting,
        };
        gateway.end_at_idle(which, request.cause.clone());
        match wait_or_hurry(gateway.ended(), &mut request, commands).await {
            Waited::Done | Waited::Over => return request.cause,
            Waited::Hurried => {}
        }
    }
}

/// Ends what is left: with a word to each client, and without one where the client takes
/// none within [`CUT_LIMIT`].
pub(super) async fn cut<C: Connect>(gateway: &Gateway<C>, cause: Cause) {
    gateway.cut(cause, CUT_LIMIT).await;
}

/// Waits for `done` until the deadline, and hears meanwhile who is in a greater hurry.
async fn wait_or_hurry(
    done: impl Future<Output = ()>,
    request: &mut CloseRequest,
    commands: &mut mpsc::Receiver<Command>,
) -> Waited {
    tokio::pin!(done);
    loop {
        tokio::select! {
            () = &mut done => return Waited::Done,
            () = sleep_until(request.deadline) => return Waited::Over,
            command = commands.recv() => match command {
                Some(Command::Close(other)) if other.deadline < request.deadline => {
                    *request = other;
                    return Waited::Hurried;
                }
                Some(Command::Rotate { reply, .. }) => {
                    let _ = reply.send(Err(Cause::SessionClosing));
                }
                Some(Command::Close(_) | Command::Refresh(_)) => {}
                None => {
                    request.cause = Cause::DaemonStopping;
                    return Waited::Over;
                }
            },
        }
    }
}

#[cfg(test)]
mod tests;
