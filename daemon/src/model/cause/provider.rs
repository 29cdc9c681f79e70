//! The provider's APIs.

use std::time::Duration;

use super::Words;

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
    message: &str,
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
