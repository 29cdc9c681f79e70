//! Tells the desktop what a session needs its user for, once for each cause: to sign in, that
//! access was revoked, that write access is about to end, that two machines fight over
//! credentials. What passes by itself isn't told.
//!
//! The daemon can do without: this reads snapshots, has a limit on every word to the desktop,
//! and where there is none it only tries again now and then.

mod desktop;
mod needs;

use std::{future::pending, time::Duration};

use tokio::{sync::watch, time::sleep};

use self::{desktop::Desktop, needs::Needs};
use crate::{platform::clock, supervisor::Handle};

/// The longest wait for a time to come: timers stand still while the machine sleeps.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Tells, while `wanted`, until the sessions end.
pub(crate) async fn tell(sessions: Handle, mut wanted: watch::Receiver<bool>) {
    let mut snapshots = sessions.watch();
    let (mut needs, mut desktop) = (Needs::default(), Desktop::default());
    loop {
        let is_wanted = *wanted.borrow_and_update();
        let steps = needs.look(&snapshots.borrow_and_update(), clock::timestamp());
        for passed in steps.passed {
            desktop.withdraw(&passed).await;
        }
        for (topic, message) in steps.to_tell.into_iter().filter(|_| is_wanted) {
            let told = desktop.show(&topic, &message).await;
            needs.told(&topic, told, clock::timestamp());
        }
        let next = needs.next_due().filter(|_| is_wanted);
        let pause = async {
            let Some(due) = next else {
                return pending().await;
            };
            let left = Duration::try_from(due.duration_since(clock::timestamp()));
            sleep(left.unwrap_or_default().min(LONGEST_PAUSE)).await;
        };
        let is_open = tokio::select! {
            changed = snapshots.changed() => changed.is_ok(),
            changed = wanted.changed() => changed.is_ok(),
            () = pause => true,
        };
        if !is_open {
            return;
        }
    }
}
