//! Tells the service manager how the daemon is (sd_notify(3)). Without one, that is
//! without `NOTIFY_SOCKET`, nothing happens; a message that can't be delivered is logged
//! and changes nothing else.

use std::time::Duration;

use sd_notify::NotifyState;

/// Listeners are bound, or a reload is done; `status` as in [`status`].
pub fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
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

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager can't be notified");
    }
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
