//! What was asked for makes no sense, or stands against what is there.

use super::Words;
use crate::model::SessionName;

pub(super) fn target_missing() -> Words {
    Words::new(
        "no app and no add-on was named",
        "name an app (`sushi` or --app sushi) or an add-on (`sushi::ATTACHMENT` or --addon NAME)",
    )
}

pub(super) fn invalid_request(problem: &str) -> Words {
    Words::new(problem, "")
}

pub(super) fn no_such_session(name: &str, open: &[String]) -> Words {
    Words::new(
        format!("no session is open for {name}"),
        if open.is_empty() {
            format!("open one with `borealisctl open {name}`")
        } else {
            format!(
                "open ones are: {}; another is opened with `borealisctl open`",
                open.join(", ")
            )
        },
    )
}

pub(super) fn several_sessions(target: &str, names: &[String]) -> Words {
    Words::new(
        format!("several sessions are open for {target}"),
        format!("name one of them: {}", names.join(", ")),
    )
}

pub(super) fn name_taken(name: &SessionName, by: &str) -> Words {
    Words::new(
        format!("a session named {name} is open already, for {by}"),
        format!("give another name with --name, or `borealisctl close {name}` first"),
    )
}

pub(super) fn session_differs(name: &SessionName, is: &str) -> Words {
    Words::new(
        format!("the session {name} is for {is}"),
        format!("open another beside it with --name, or `borealisctl close {name}` first"),
    )
}

pub(super) fn port_differs(name: &SessionName, port: u16) -> Words {
    Words::new(
        format!("the session {name} is open already, at port {port}"),
        format!("`borealisctl close {name}` first, then open it with --port"),
    )
}

pub(super) fn port_in_use(port: u16, holder: Option<&str>) -> Words {
    Words::new(
        match holder {
            Some(holder) => format!("port {port} is in use by {holder}"),
            None => format!("port {port} is in use"),
        },
        "end what listens there, or choose another port with --port",
    )
}

pub(super) fn port_range_used_up(range: &str) -> Words {
    Words::new(
        format!("every port of port_range {range} is in use"),
        "widen port_range in config.toml, or choose a port with --port",
    )
}
