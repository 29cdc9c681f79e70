//! Waiting until an add-on is provisioned, which takes minutes to hours. Interrupted, it can
//! be gone on with: the add-on doesn't depend on somebody's waiting for it.

use borealis_proto::v1;
use tokio::signal::unix::{SignalKind, signal};

use super::Context;
use crate::{
    client::Client,
    failure::{Exit, Failure, reason},
    output::addon::status,
};

/// Waits for the add-on that `target` means; `name` is how the user can name it again.
///
/// # Errors
/// That its provisioning was cancelled, or that the wait was interrupted, with how to go on.
pub(super) async fn until_provisioned(
    context: Context<'_>,
    daemon: &mut Client,
    target: v1::Target,
    name: &str,
) -> Result<v1::WaitForAddonResponse, Failure> {
    let go_on = format!("go on waiting with `borealisctl info {name} --wait`");
    let mut interrupt = signal(SignalKind::interrupt())
        .map_err(|error| Failure::failed(format!("can't handle signals: {}", reason(&error))))?;
    let mut progress = context.output.progress();
    let following = async {
        let mut changes = daemon.wait_for_addon(target).await?;
        loop {
            match changes.message().await {
                Ok(Some(change)) if change.done => return Ok(change),
                Ok(Some(change)) => progress.say(told(&change, name)),
                Ok(None) => return Err(Failure::connection_lost()),
                Err(status) => return Err(Failure::from_status(&status)),
            }
        }
    };
    let outcome = tokio::select! {
        outcome = following => outcome,
        _ = interrupt.recv() => Err(Failure {
            message: format!("stopped waiting for {name}, which goes on being created"),
            ..Failure::interrupted(2)
        }),
    };
    outcome.map_err(|failure| match failure.exit {
        Exit::Interrupted(_) | Exit::NoDaemon => failure.with_hint(go_on),
        _ => failure,
    })
}

fn told(change: &v1::WaitForAddonResponse, name: &str) -> String {
    let known = if change.status.is_empty() {
        &change.state
    } else {
        &change.status
    };
    match &change.trouble {
        Some(trouble) => format!("{name}: {}; trying again", trouble.message),
        None => format!("{name}: {}", status(known)),
    }
}
