//! What the config sets for sessions that run: a reload reaches them through a `watch`.

use tokio::sync::watch;

use crate::{
    config::Config,
    proxy::{CurrentLimits, Limits},
    ssh::Keepalive,
};

/// The writing ends.
#[derive(Debug)]
pub struct LiveSettings {
    limits: watch::Sender<Limits>,
    keepalive: watch::Sender<Keepalive>,
}

// === impl LiveSettings ===

impl LiveSettings {
    /// As a config sets them.
    pub fn new(config: &Config) -> Self {
        Self {
            limits: watch::Sender::new(limits(config)),
            keepalive: watch::Sender::new(keepalive(config)),
        }
    }

    /// The limits of every session, as they are at each time.
    pub fn limits(&self) -> CurrentLimits {
        self.limits.subscribe()
    }

    /// When a silent line counts as dead, as it is at each time.
    pub fn keepalive(&self) -> watch::Receiver<Keepalive> {
        self.keepalive.subscribe()
    }

    /// Takes another config's.
    pub(super) fn set(&self, config: &Config) {
        replace(&self.limits, limits(config));
        replace(&self.keepalive, keepalive(config));
    }
}

/// Tells those who watch where there is something new.
fn replace<T: PartialEq>(setting: &watch::Sender<T>, value: T) {
    setting.send_if_modified(|now| {
        let changes = *now != value;
        *now = value;
        changes
    });
}

fn limits(config: &Config) -> Limits {
    Limits {
        connect_timeout: config.connect_timeout,
        max_connections: config.max_connections,
        warm_connections: config.warm_connections,
    }
}

fn keepalive(config: &Config) -> Keepalive {
    Keepalive {
        interval: config.keepalive.interval,
        timeout: config.keepalive.timeout,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_reload_reaches_who_watches_and_no_change_is_no_news() {
        let mut config = Config::default();
        let live = LiveSettings::new(&config);
        let (mut limits, mut keepalive) = (live.limits(), live.keepalive());
        live.set(&config);
        assert!(!limits.has_changed().unwrap() && !keepalive.has_changed().unwrap());
        config.max_connections = 7;
        live.set(&config);
        assert_eq!(limits.borrow_and_update().max_connections, 7);
        assert!(!keepalive.has_changed().unwrap());
        config.keepalive.interval = Duration::from_secs(1);
        live.set(&config);
        assert!(!limits.has_changed().unwrap());
        assert_eq!(
            keepalive.borrow_and_update().interval,
            Duration::from_secs(1)
        );
    }
}
