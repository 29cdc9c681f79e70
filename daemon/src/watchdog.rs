//! What the service manager is told while the daemon runs: how the sessions are, and that
//! the daemon is alive.

use std::{future::pending, time::Duration};

use tokio::time::{MissedTickBehavior, interval};

use crate::{
    service_manager::notify,
    session::machine::Phase,
    supervisor::{Handle, Snapshot},
};

/// Tells the manager both until it is dropped.
pub(crate) async fn report(sessions: Handle) {
    tokio::join!(status(&sessions), watchdog(&sessions));
}

/// One line for each change, as `systemctl status` shows it.
async fn status(sessions: &Handle) {
    let mut snapshots = sessions.watch();
    let mut last = String::new();
    loop {
        let line = summary(&snapshots.borrow_and_update());
        if line != last {
            notify::status(&line);
            last = line;
        }
        if snapshots.changed().await.is_err() {
            return pending().await;
        }
    }
}

/// Feeds the watchdog for as long as the supervisor's loop answers: a daemon that can't
/// open or close sessions any more is to be started again.
async fn watchdog(sessions: &Handle) {
    let Some(every) = notify::watchdog_interval() else {
        return pending().await;
    };
    let mut ticks = interval(every.max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if sessions.ping().await.is_ok() {
            notify::watchdog();
        }
    }
}

fn summary(snapshot: &Snapshot) -> String {
    let count = |phase| {
        let of_it = snapshot
            .sessions
            .iter()
            .filter(|view| view.status.phase == phase);
        of_it.count()
    };
    let states = [
        (count(Phase::Up), "up"),
        (count(Phase::Opening), "opening"),
        (count(Phase::Reconnecting), "reconnecting"),
        (count(Phase::Failed), "failed"),
        (count(Phase::Closing), "closing"),
    ];
    let parts: Vec<_> = states
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, state)| format!("{count} {state}"))
        .collect();
    match snapshot.sessions.len() {
        0 => "no sessions open".to_owned(),
        1 => format!("1 session: {}", parts.join(", ")),
        open => format!("{open} sessions: {}", parts.join(", ")),
    }
}
