//! The provider's APIs.

use std::time::Duration;

use super::{TlsProblem, Words};
use crate::model::Foreign;

pub(super) fn rate_limited(retry_after: Option<Duration>) -> Words {
    Words::new(
        match retry_after {
            Some(wait) => format!(
                "Heroku's rate limit is reached; it asks to wait {} s",
                wait.as_secs()
            ),
            None => "Heroku's rate limit is reached".to_owned(),
        },
        "borealisd tries again by itself",
    )
}

pub(super) fn provider_unavailable(api: &str, detail: &str) -> Words {
    Words::new(
        format!("the {api} is temporarily unavailable: {detail}"),
        "try again later; see https://status.heroku.com if it lasts",
    )
}

pub(super) fn provider_refused(
    api: &str,
    status: u16,
    message: &Foreign,
    request_id: Option<&str>,
) -> Words {
    Words::new(
        match request_id {
            Some(id) => format!("the {api} answered {status}: {message} (request {id})"),
            None => format!("the {api} answered {status}: {message}"),
        },
        "",
    )
}

pub(super) fn outcome_unknown(doing: &str, detail: &str, look: Option<&str>) -> Words {
    Words::new(
        format!("it is not known whether {doing}: {detail}"),
        match look {
            Some(command) => format!("see `borealisctl {command}` before asking again"),
            None => "look before asking again".to_owned(),
        },
    )
}

pub(super) fn intercepted(api: &str, detail: &str) -> Words {
    Words::new(
        format!("something between this machine and the {api} answered instead of it: {detail}"),
        "if this network wants you to sign in, do so in a browser; else see the proxy's settings (HTTPS_PROXY)",
    )
}

pub(super) fn provider_tls(api: &str, host: &str, problem: &TlsProblem) -> Words {
    Words::new(
        format!("no secure connection to the {api} ({host}): {problem}"),
        problem.hint(),
    )
}
