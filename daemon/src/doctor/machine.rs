//! The daemon's own ground: config, state, descriptors, ports, clock.

use std::{os::unix::fs::PermissionsExt as _, path::Path};

use rustix::{
    fs::{Access, access},
    process::{Resource, getrlimit},
};

use super::{Doctor, Report};
use crate::config::Config;

/// What a connection takes at most.
const DESCRIPTORS_EACH: u64 = 3;
/// What the daemon takes without connections.
const DESCRIPTORS_FIXED: u64 = 64;
/// By how much clocks may differ before anything that is dated looks odd, in seconds.
const SKEW: i64 = 60;

// === impl Doctor ===

impl Doctor {
    /// The file as it is now, which a reload would take.
    pub(super) async fn config(&self, report: &Report) {
        let file = self.config_file.clone();
        let shown = file.display().to_string();
        let there = file.exists();
        let loaded = tokio::task::spawn_blocking(move || Config::load(&file)).await;
        match loaded {
            Ok(Ok(_)) if there => report.ok("config", format!("{shown} is valid")).await,
            Ok(Ok(_)) => {
                let found = format!("there is no {shown}; the defaults hold");
                report.ok("config", found).await;
            }
            Ok(Err(error)) => {
                let hint = "mend the file, then `borealisctl reload`; until then the settings before stay in force";
                report.fail("config", error.to_string(), hint).await;
            }
            Err(error) => report.fail("config", error.to_string(), "").await,
        }
    }

    pub(super) async fn state(&self, report: &Report) {
        for dir in [&self.state_dir, &self.runtime_dir] {
            match private(dir) {
                Ok(()) => {}
                Err((found, hint)) => return report.fail("state", found, &hint).await,
            }
        }
        let problems = self.sessions.watch().borrow().problems.clone();
        match problems.first() {
            Some(problem) => report.fail_for("state", problem).await,
            None => {
                let dir = self.state_dir.display();
                report.ok("state", format!("{dir} can be written")).await;
            }
        }
    }

    pub(super) async fn descriptors(&self, report: &Report) {
        let limit = getrlimit(Resource::Nofile).current;
        let Some(limit) = limit else {
            return report.ok("descriptors", "as many as are needed").await;
        };
        let file = self.config_file.clone();
        let config = tokio::task::spawn_blocking(move || Config::load(&file)).await;
        let each = match config {
            Ok(Ok(config)) => config.max_connections,
            _ => Config::default().max_connections,
        };
        let sessions = self.sessions.watch().borrow().sessions.len().max(1) as u64;
        let needed = sessions * u64::from(each) * DESCRIPTORS_EACH + DESCRIPTORS_FIXED;
        if limit >= needed {
            let found = format!("{limit} may be open, {needed} may be needed");
            return report.ok("descriptors", found).await;
        }
        let found = format!(
            "{limit} file descriptors may be open, but {sessions} sessions with {each} connections each may need {needed}"
        );
        let hint = format!(
            "`systemctl --user edit borealisd` with LimitNOFILE={needed}, or a smaller max_connections in config.toml"
        );
        report.warn("descriptors", found, &hint).await;
    }

    pub(super) async fn ports(&self, report: &Report) {
        let sessions = self.sessions.watch().borrow().sessions.clone();
        let mut listening = 0;
        for view in &sessions {
            match (&view.address, &view.status.last_error) {
                (Some(_), _) => listening += 1,
                (None, Some(cause)) => {
                    let words = cause.words();
                    let hint = format!(
                        "end that program, or `borealisctl close {0}` and open it at another port",
                        view.name
                    );
                    let report = report.about(view.name.to_string());
                    report.fail("ports", words.sentence, &hint).await;
                }
                (None, None) => {}
            }
        }
        if listening == sessions.len() {
            let found = match listening {
                0 => "no session needs one".to_owned(),
                1 => "the open session has its own".to_owned(),
                _ => format!("all {listening} open sessions have their own"),
            };
            report.ok("ports", found).await;
        }
    }

    pub(super) async fn clock(&self, report: &Report) {
        let Some(skew) = self.broker.provider().clock_skew() else {
            return report
                .skip(&["clock"], "the Heroku API has not answered")
                .await;
        };
        let seconds = skew.as_secs();
        if seconds.abs() <= SKEW {
            return report.ok("clock", "agrees with the Heroku API's").await;
        }
        let direction = if seconds > 0 { "ahead of" } else { "behind" };
        let found = format!(
            "this machine's clock is {} s {direction} the Heroku API's",
            seconds.abs()
        );
        let hint = "set it: `timedatectl set-ntp true`";
        report.warn("clock", found, hint).await;
    }
}

/// Whether only this user can enter, and write.
fn private(dir: &Path) -> Result<(), (String, String)> {
    let shown = dir.display();
    let metadata = std::fs::metadata(dir).map_err(|error| {
        let found = format!("{shown} can't be looked at: {error}");
        (found, "restart borealisd, which makes it".to_owned())
    })?;
    if metadata.permissions().mode() & 0o077 != 0 {
        let found = format!("others may enter {shown}");
        return Err((found, format!("`chmod 700 {shown}`")));
    }
    access(dir, Access::WRITE_OK | Access::EXEC_OK).map_err(|error| {
        let found = format!("{shown} can't be written: {error}");
        (
            found,
            format!("see its owner and rights with `ls -ld {shown}`"),
        )
    })
}
