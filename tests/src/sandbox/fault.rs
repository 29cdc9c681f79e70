//! Faults of the HTTP APIs as data: for which requests, how often, and what happens to them.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

/// One of the provider's APIs.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Api {
    /// The Heroku Platform API.
    Heroku,
    /// The Borealis add-on API.
    Borealis,
}

/// What happens to which requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Only for this API; both where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<Api>,
    /// Only for this method; every one where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// `*` stands for anything within a segment, `**` for anything. A pattern that begins
    /// with `/` is the whole path, any other its last segments.
    #[serde(default = "everything")]
    pub path: String,
    /// For so many requests; until it is cleared where there is no number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
    /// Whether the API does what it is asked before it fails.
    #[serde(default)]
    pub moment: Moment,
    /// What happens.
    pub action: Action,
}

/// Whether the API does what it is asked before it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Moment {
    /// Nothing is done.
    #[default]
    Before,
    /// It is done, and only its answer suffers.
    After,
}

/// What happens to a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", deny_unknown_fields)]
pub enum Action {
    /// This answer.
    Status {
        /// The status code.
        status: u16,
        /// Headers beside the usual ones.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        headers: BTreeMap<String, String>,
        /// The body; a JSON error fitting the status where there is none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        body: Option<String>,
    },
    /// No answer until the fault is cleared; then the request goes on.
    Hang,
    /// The connection is closed without an answer.
    Drop,
    /// Bytes that are no HTTP, then the connection is closed.
    Garbage,
    /// The head and half of the body of the true answer, then the connection is closed.
    Truncate,
    /// A pause, then what would have happened without it.
    Delay {
        /// How long, in milliseconds.
        milliseconds: u64,
    },
}

fn everything() -> String {
    "**".into()
}

// === impl Fault ===

impl Fault {
    /// What happens to requests for `path` from now on, until it is cleared.
    pub fn on(path: &str, action: Action) -> Self {
        Self {
            api: None,
            method: None,
            path: path.to_owned(),
            times: None,
            moment: Moment::Before,
            action,
        }
    }

    /// The same for one API only.
    #[must_use]
    pub fn api(mut self, api: Api) -> Self {
        self.api = Some(api);
        self
    }

    /// The same for one method only.
    #[must_use]
    pub fn method(mut self, method: &str) -> Self {
        self.method = Some(method.to_owned());
        self
    }

    /// The same for so many requests.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    /// The same, but the API does what it is asked first.
    #[must_use]
    pub fn after(mut self) -> Self {
        self.moment = Moment::After;
        self
    }

    pub(crate) fn fits(&self, api: Api, method: &str, path: &str) -> bool {
        self.api.is_none_or(|wanted| wanted == api)
            && self
                .method
                .as_ref()
                .is_none_or(|wanted| wanted.eq_ignore_ascii_case(method))
            && path_fits(&self.path, path)
    }
}

// === impl Action ===

impl Action {
    /// An answer with this status and a body that fits it.
    pub fn status(status: u16) -> Self {
        Self::Status {
            status,
            headers: BTreeMap::new(),
            body: None,
        }
    }

    /// The same with a header. No effect on anything but an answer.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if let Self::Status { headers, .. } = &mut self {
            headers.insert(name.to_owned(), value.to_owned());
        }
        self
    }

    /// The same with a body. No effect on anything but an answer.
    #[must_use]
    pub fn body(mut self, text: &str) -> Self {
        if let Self::Status { body, .. } = &mut self {
            *body = Some(text.to_owned());
        }
        self
    }

    /// A pause.
    pub fn delay(time: Duration) -> Self {
        Self::Delay {
            milliseconds: u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

fn path_fits(pattern: &str, path: &str) -> bool {
    if pattern.starts_with('/') || pattern.starts_with("**") {
        return glob(pattern.as_bytes(), path.as_bytes());
    }
    path.match_indices('/')
        .any(|(slash, _)| glob(pattern.as_bytes(), &path.as_bytes()[slash + 1..]))
}

fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern, text) {
        ([], []) => true,
        ([b'*', b'*', rest @ ..], _) => {
            (0..=text.len()).any(|skipped| glob(rest, &text[skipped..]))
        }
        ([b'*', rest @ ..], _) => {
            let segment = text.iter().position(|b| *b == b'/').unwrap_or(text.len());
            (0..=segment).any(|skipped| glob(rest, &text[skipped..]))
        }
        ([wanted, pattern @ ..], [byte, text @ ..]) => wanted == byte && glob(pattern, text),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let path = "/heroku/resources/borealis-pg-hex-12345/personal-db-users";
        for fits in [
            "**",
            path,
            "personal-db-users",
            "*/personal-db-users",
            "/heroku/resources/*/personal-db-users",
            "/heroku/**",
            "personal-*",
        ] {
            assert!(path_fits(fits, path), "{fits}");
        }
        for differs in [
            "/heroku",
            "db-users",
            "/*",
            "/heroku/*",
            "personal-db-users/*",
            "",
        ] {
            assert!(!path_fits(differs, path), "{differs}");
        }
    }

    #[test]
    fn json_of_a_fault() {
        let fault: Fault = serde_json::from_str(
            r#"{"path": "personal-db-users", "times": 2, "action": {"kind": "status", "status": 429, "headers": {"Retry-After": "1"}}}"#,
        )
        .unwrap();
        assert_eq!(
            fault,
            Fault::on(
                "personal-db-users",
                Action::status(429).header("Retry-After", "1")
            )
            .times(2)
        );
        let unknown = r#"{"pth": "x", "action": {"kind": "hang"}}"#;
        assert!(serde_json::from_str::<Fault>(unknown).is_err());
    }
}
