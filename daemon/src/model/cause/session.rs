//! The session.

use std::time::Duration;

use super::{Cause, Words};

pub(super) fn hold_timeout(waited: Duration, because: Option<&Cause>) -> Words {
    Words::new(
        match because {
            Some(cause) => format!(
                "the session did not come up within {} s: {}",
                waited.as_secs_f64().round(),
                cause.words().sentence
            ),
            None => format!(
                "the session did not come up within {} s",
                waited.as_secs_f64().round()
            ),
        },
        because.map_or_else(
            || "it goes on trying; see `borealisctl list`".to_owned(),
            |cause| cause.words().hint,
        ),
    )
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
        "start it again with `systemctl --user start borealisd`",
    )
}
