//! Why a call failed, and which [`Cause`] that is for whom.
//!
//! A [`Failure`] is what one call met; what a 404 means depends on what was asked for, so
//! callers that know look at [`Failure::status`] before they fall back on the tables here.

use std::{fmt, time::Duration};

use serde_json::Value;

use crate::model::{Cause, Foreign, cause::TlsProblem};

/// Which of the two APIs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// The Heroku Platform API.
    Heroku,
    /// The Borealis add-on API.
    Borealis,
}

/// Why a call has no usable answer. Holds no secret.
#[derive(Debug, Clone, PartialEq)]
pub enum Failure {
    /// The API said no; asking again wouldn't change that.
    Refused(Box<Refusal>),
    /// The API asks to be left alone for a while.
    RateLimited {
        /// Which one.
        api: Api,
        /// For how long, where it says so.
        retry_after: Option<Duration>,
    },
    /// No answer, or none that makes sense, after all attempts.
    Unavailable {
        /// Which one.
        api: Api,
        /// What happened at the last attempt.
        detail: String,
    },
    /// Something on the way answered instead: a network that wants its user to sign in, a
    /// company's proxy.
    Intercepted {
        /// Which one was asked.
        api: Api,
        /// What the answer was.
        detail: String,
    },
    /// The server's certificate isn't accepted. Nothing was sent.
    Tls {
        /// Which one was asked.
        api: Api,
        /// Where it is.
        host: String,
        /// Why not.
        problem: TlsProblem,
    },
    /// The answer to a call that must not be made twice is lost: it may have been carried
    /// out.
    Lost {
        /// Which one.
        api: Api,
        /// What happened.
        detail: String,
    },
}

/// An answer with an error status.
#[derive(Clone, PartialEq)]
pub struct Refusal {
    /// Which API.
    pub api: Api,
    /// The HTTP status, 400 to 499.
    pub status: u16,
    /// Heroku's machine-readable `id` of the error.
    pub id: Option<String>,
    /// The API's own words, else the status'.
    pub message: Foreign,
    /// What the API's operators can find the request by.
    pub request_id: Option<String>,
    /// The whole body; null where it is no JSON.
    pub body: Value,
}

// === impl Api ===

impl Api {
    /// As sentences name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Heroku => "Heroku API",
            Self::Borealis => "Borealis add-on API",
        }
    }
}

impl Api {
    /// As metrics name it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Heroku => "heroku",
            Self::Borealis => "borealis",
        }
    }
}

impl fmt::Display for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// === impl Failure ===

impl Failure {
    /// The status of a refusal.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused(refusal) => Some(refusal.status),
            _ => None,
        }
    }

    /// A refusal's text, such as the Borealis API's `resourceType`.
    pub fn text(&self, key: &str) -> Option<&str> {
        match self {
            Self::Refused(refusal) => refusal.text(key),
            _ => None,
        }
    }

    /// The same for a call that may have been carried out.
    pub(super) fn lost(self) -> Self {
        match self {
            Self::Unavailable { api, detail } => Self::Lost { api, detail },
            other => other,
        }
    }

    /// What it means for a Heroku call that was made with the token from `source`.
    pub fn heroku_cause(self, source: &str) -> Cause {
        match self {
            Self::Refused(refusal) => match (refusal.status, refusal.id.as_deref()) {
                (401 | 403, Some(id)) if id.contains("sso") => Cause::SsoRequired {
                    source: source.to_owned(),
                },
                (401, _) => Cause::TokenRefused {
                    source: source.to_owned(),
                },
                (403, Some("two_factor")) => Cause::TwoFactorRequired,
                _ => refusal.into_cause(),
            },
            other => other.common_cause(),
        }
    }

    /// What it means for a Borealis call about `addon`, by the statuses that all of its
    /// calls share; any other is "temporarily unavailable".
    pub fn addon_cause(self, addon: &str) -> Cause {
        let addon = addon.to_owned();
        match self {
            Self::Refused(refusal) => match refusal.status {
                403 => Cause::AccessRevoked { addon },
                404 => Cause::OtherService { addon },
                422 => Cause::Provisioning { addon },
                423 => Cause::Upgrading { addon },
                _ => Cause::ProviderUnavailable {
                    api: refusal.api.as_str(),
                    detail: refusal.to_string(),
                },
            },
            other => other.common_cause(),
        }
    }

    fn common_cause(self) -> Cause {
        match self {
            Self::Refused(refusal) => refusal.into_cause(),
            Self::RateLimited {
                api: Api::Heroku,
                retry_after,
            } => Cause::RateLimited { retry_after },
            Self::RateLimited { api, .. } => Cause::ProviderUnavailable {
                api: api.as_str(),
                detail: "it answered 429, too many requests".into(),
            },
            Self::Unavailable { api, detail } => Cause::ProviderUnavailable {
                api: api.as_str(),
                detail,
            },
            Self::Intercepted { api, detail } => Cause::Intercepted {
                api: api.as_str(),
                detail,
            },
            Self::Tls { api, host, problem } => Cause::ProviderTls {
                api: api.as_str(),
                host,
                problem,
            },
            Self::Lost { api, detail } => Cause::OutcomeUnknown {
                doing: format!("the {api} did what it was asked"),
                detail,
                look: None,
            },
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => write!(f, "the {}: {refusal}", refusal.api),
            Self::RateLimited { api, .. } => write!(f, "the {api} answered 429, too many requests"),
            Self::Unavailable { api, detail }
            | Self::Intercepted { api, detail }
            | Self::Lost { api, detail } => write!(f, "the {api}: {detail}"),
            Self::Tls { api, host, problem } => write!(f, "the {api} ({host}): {problem}"),
        }
    }
}

impl std::error::Error for Failure {}

// === impl Refusal ===

impl Refusal {
    /// A text of the body, such as the Borealis API's `reason` and `resourceType`.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.body.get(key)?.as_str()
    }

    fn into_cause(self) -> Cause {
        Cause::ProviderRefused {
            api: self.api.as_str(),
            status: self.status,
            message: self.message,
            request_id: self.request_id,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it answered {}, {}", self.status, self.message)?;
        match &self.request_id {
            Some(id) => write!(f, " (request {id})"),
            None => Ok(()),
        }
    }
}

/// Leaves the body out: what an API puts there is not ours to log.
impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refusal")
            .field("api", &self.api)
            .field("status", &self.status)
            .field("id", &self.id)
            .field("message", &self.message)
            .field("request_id", &self.request_id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(api: Api, status: u16, id: Option<&str>) -> Failure {
        Failure::Refused(Box::new(Refusal {
            api,
            status,
            id: id.map(str::to_owned),
            message: "words".into(),
            request_id: Some("r-1".into()),
            body: Value::Null,
        }))
    }

    #[test]
    fn statuses_of_the_borealis_api() {
        let code = |status| {
            refused(Api::Borealis, status, None)
                .addon_cause("a-1")
                .kind()
                .code
        };
        assert_eq!(code(403), "access-revoked");
        assert_eq!(code(404), "other-service");
        assert_eq!(code(422), "provisioning");
        assert_eq!(code(423), "upgrading");
        for other in [400, 401, 402, 405, 409, 410, 418, 451] {
            assert_eq!(code(other), "provider-unavailable", "{other}");
        }
    }

    #[test]
    fn statuses_of_the_heroku_api() {
        let cause = |status, id| refused(Api::Heroku, status, id).heroku_cause("~/.netrc");
        assert_eq!(
            cause(401, Some("unauthorized")),
            Cause::TokenRefused {
                source: "~/.netrc".into()
            }
        );
        assert_eq!(cause(403, Some("two_factor")), Cause::TwoFactorRequired);
        for (status, id, code) in [
            (401, None, "token-refused"),
            (401, Some("unauthorized"), "token-refused"),
            (401, Some("sso_required"), "sso-required"),
            (401, Some("sso_session_expired"), "sso-required"),
            (403, Some("sso_required"), "sso-required"),
            (403, None, "provider-refused"),
            (402, Some("verification_required"), "provider-refused"),
            (451, None, "provider-refused"),
        ] {
            assert_eq!(cause(status, id).kind().code, code, "{status} {id:?}");
        }
        let Cause::ProviderRefused {
            status: 403,
            message,
            request_id,
            ..
        } = cause(403, Some("forbidden"))
        else {
            panic!("a plain 403 is shown as it came");
        };
        assert_eq!(
            (message.raw(), request_id.as_deref()),
            ("words", Some("r-1"))
        );
    }

    #[test]
    fn what_is_passing_says_so() {
        let limited = |api| Failure::RateLimited {
            api,
            retry_after: Some(Duration::from_secs(9)),
        };
        assert_eq!(
            limited(Api::Heroku).heroku_cause("x"),
            Cause::RateLimited {
                retry_after: Some(Duration::from_secs(9))
            }
        );
        assert_eq!(
            limited(Api::Borealis).addon_cause("a").kind().code,
            "provider-unavailable"
        );
    }
}
