//! The machine that the daemon runs on.

use borealis_proto::socket_path;

use super::Words;

pub(super) fn config_invalid(problem: &str) -> Words {
    Words::new(
        problem,
        "mend the file, then `borealisctl reload`; until then the settings before stay in force",
    )
}

pub(super) fn state_unwritable(path: &str, detail: &str) -> Words {
    Words::new(
        format!("can't write {path}: {detail}"),
        "the file there before is untouched; free some space or mend its rights",
    )
}

pub(super) fn socket_path_too_long(path: &str) -> Words {
    Words::new(
        format!(
            "the path of the session's Unix socket is {} bytes longer than the system allows ({}): {path}",
            socket_path::excess(path.as_ref()),
            socket_path::LONGEST,
        ),
        "set XDG_RUNTIME_DIR to a shorter directory of your own and start borealisd again, or choose a shorter name with --name",
    )
}

pub(super) fn metrics_unserved(address: &str, detail: &str) -> Words {
    Words::new(
        format!("metrics can't be served at {address}: {detail}"),
        "choose another metrics_listen in config.toml, then `borealisctl reload`",
    )
}

pub(super) fn internal(detail: &str) -> Words {
    Words::new(
        format!("borealisd failed at something that should not fail: {detail}"),
        "please report it with the daemon's log",
    )
}
