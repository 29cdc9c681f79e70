//! Tells the service manager how the daemon is (sd_notify(3)). Without one, that is
//! without `NOTIFY_SOCKET`, nothing happens; a message that can't be delivered is logged
//! and changes nothing else.

use std::{
    env,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream as StdUnixStream,
    },
    time::Duration,
};

use sd_notify::NotifyState;
use tokio::{io::AsyncReadExt as _, net::UnixStream, time::timeout};

/// What the manager gets to have read all that it was told.
pub const BARRIER_LIMIT: Duration = Duration::from_secs(2);

/// Listeners are bound, or a reload is done.
pub fn ready() {
    send(&[NotifyState::Ready]);
}

/// One line for `systemctl status`.
pub fn status(status: &str) {
    send(&[NotifyState::Status(&one_line(status))]);
}

/// A reload begins, to be ended by [`ready`]. The time stamp is what `Type=notify-reload`
/// tells this reload from an earlier one by.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => send(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "no monotonic time for the service manager"),
    }
}

/// The drain begins and takes at most `limit`, for which the manager is asked to wait.
pub fn stopping(limit: Duration) {
    let microseconds = u32::try_from(limit.as_micros()).unwrap_or(u32::MAX);
    send(&[
        NotifyState::Stopping,
        NotifyState::ExtendTimeoutUsec(microseconds),
        NotifyState::Status("Stopping: open connections get their time to finish"),
    ]);
}

/// The daemon is alive; to be sent at least every [`watchdog_interval`].
pub fn watchdog() {
    send(&[NotifyState::Watchdog]);
}

/// How often [`watchdog`] is to be called: half the time after which the manager loses
/// patience. `None` where it doesn't watch.
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}

/// Leaves a copy of a listener with the manager, which hands it to the daemon after this
/// one. `name` has no colon. Answers whether there is a manager; one that keeps nothing
/// (`FileDescriptorStoreMax=`) doesn't say so.
pub fn store(name: &str, listener: impl AsFd) -> bool {
    let what = [NotifyState::FdStore, NotifyState::FdName(name)];
    is_managed() && send_with(&what, &[listener.as_fd()])
}

/// Has the manager close what it keeps under a name.
pub fn discard(name: &str) {
    send(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)]);
}

/// Waits until the manager has done all that it was told before (`BARRIER=1`): a port whose
/// listener it has to close is taken until then.
pub async fn barrier() {
    if !is_managed() {
        return;
    }
    let Ok((here, there)) = StdUnixStream::pair() else {
        return;
    };
    send_with(&[NotifyState::Custom("BARRIER=1")], &[there.as_fd()]);
    drop(there);
    let closed = async {
        here.set_nonblocking(true).ok()?;
        UnixStream::from_std(here).ok()?.read_u8().await.ok()
    };
    if timeout(BARRIER_LIMIT, closed).await.is_err() {
        tracing::warn!("the service manager doesn't answer");
    }
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager can't be notified");
    }
}

fn is_managed() -> bool {
    env::var_os("NOTIFY_SOCKET").is_some()
}

fn send_with(states: &[NotifyState<'_>], descriptors: &[BorrowedFd<'_>]) -> bool {
    sd_notify::notify_with_fds(states, descriptors)
        .inspect_err(
            |error| tracing::debug!(%error, "the service manager can't be handed descriptors"),
        )
        .is_ok()
}

/// A line break would begin another assignment of the message.
fn one_line(text: &str) -> String {
    text.replace(|c: char| c.is_control(), " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_can_not_smuggle_an_assignment() {
        assert_eq!(one_line("up\nMAINPID=1"), "up MAINPID=1");
    }
}
