//! Waiting for what nobody announces.

use std::{
    sync::mpsc,
    time::{Duration, Instant},
};

use super::PATIENCE;

/// Between two looks: short beside what is waited for, long beside what a look costs others.
const PAUSE: Duration = Duration::from_millis(20);

/// Looks again and again until there is something, with a pause in between; what was seen last
/// is the failure's message once [`PATIENCE`] is over.
#[track_caller]
pub fn eventually<T>(mut look: impl FnMut() -> Result<T, String>) -> T {
    let began = Instant::now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) => assert!(began.elapsed() < PATIENCE, "{seen}"),
        }
        pause(PAUSE);
    }
}

/// Lets time pass.
fn pause(time: Duration) {
    let (_kept, never) = mpsc::channel::<()>();
    let _ = never.recv_timeout(time);
}
