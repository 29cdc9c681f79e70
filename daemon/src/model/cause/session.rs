//! The session.

use std::time::Duration;

use super::Words;

pub(super) fn rotation_timed_out(waited: Duration, step: &str) -> Words {
    Words::new(
        format!(
            "the new credentials were not in use within {} s ({})",
            waited.as_secs(),
            if step.is_empty() { "waiting" } else { step }
        ),
        "the session goes on with those that it has; see `borealisctl status`, and try again later",
    )
}

/// `because` is what is said of the reason why it did not.
pub(super) fn hold_timeout(waited: Duration, because: Option<Words>) -> Words {
    let seconds = waited.as_secs_f64().round();
    let came_not = format!("the session did not come up within {seconds} s");
    match because {
        Some(Words { sentence, hint }) => Words::new(format!("{came_not}: {sentence}"), hint),
        None => Words::new(came_not, "it goes on trying; see `borealisctl list`"),
    }
}

pub(super) fn too_many_connections(limit: u32) -> Words {
    Words::new(
        format!("the session has its {limit} connections already"),
        "close some, or raise max_connections in config.toml",
    )
}

pub(super) fn session_closing() -> Words {
    Words::new(
        "the session is being closed",
        "open it again with `borealisctl open`",
    )
}

pub(super) fn session_expired() -> Words {
    Words::new(
        "the time that the session was opened for is over",
        "open it again with `borealisctl open`",
    )
}

pub(super) fn daemon_stopping() -> Words {
    Words::new(
        "borealisd is stopping",
        "if it is not being restarted, start it again the way it was started: `borealisctl status` tells",
    )
}
