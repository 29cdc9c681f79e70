//! Where the two APIs are, by the variables that the reference client reads.

use std::net::IpAddr;

use url::{Host, Url};

/// `HEROKU_API_URL`: the Heroku API's base URL.
pub const HEROKU_API_URL: &str = "HEROKU_API_URL";
/// `HEROKU_HOST`: a host whose `api.` subdomain is the Heroku API, or its URL.
pub const HEROKU_HOST: &str = "HEROKU_HOST";
/// `BOREALIS_PG_API_BASE_URL`: the add-on API's base URL.
pub const BOREALIS_PG_API_BASE_URL: &str = "BOREALIS_PG_API_BASE_URL";
/// `BOREALIS_PG_ADDON_SERVICE_NAME`: which add-on service is ours.
pub const BOREALIS_PG_ADDON_SERVICE_NAME: &str = "BOREALIS_PG_ADDON_SERVICE_NAME";

const DEFAULT_HEROKU_API: &str = "https://api.heroku.com";
const DEFAULT_BOREALIS_API: &str = "https://pg-heroku-addon-api.borealis-data.com";
const DEFAULT_SERVICE: &str = "borealis-pg";

/// Where the provider is. Both URLs are https, or http to a loopback host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoints {
    heroku: Url,
    borealis: Url,
    service: String,
}

/// Why a variable names no endpoint. Never repeats a value that holds a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Not a URL with a host.
    #[error("{variable} is no URL: {value:?} ({problem}); write it as https://HOST")]
    NoUrl {
        /// The variable's name.
        variable: &'static str,
        /// What it holds.
        value: String,
        /// What the parser says.
        problem: String,
    },
    /// Tokens would cross the network in plain text.
    #[error(
        "{variable} must begin with https:// (plain http:// is for loopback hosts only, such as http://127.0.0.1:8080): {value:?}"
    )]
    NotEncrypted {
        /// The variable's name.
        variable: &'static str,
        /// What it holds.
        value: String,
    },
    /// A user, a password, a query or a fragment.
    #[error("{variable} must be a base URL without user, password, query or fragment")]
    NotABase {
        /// The variable's name.
        variable: &'static str,
    },
}

// === impl Endpoints ===

impl Endpoints {
    /// Reads the four variables through `variable`; an empty value counts as none.
    ///
    /// # Errors
    /// When a variable holds no URL, or one that isn't encrypted and not loopback.
    pub fn from_variables(
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, EndpointError> {
        let value = |name: &str| {
            variable(name)
                .map(|v| v.trim().to_owned())
                .filter(|v| !v.is_empty())
        };
        let heroku = match (value(HEROKU_API_URL), value(HEROKU_HOST)) {
            (Some(url), _) => base(HEROKU_API_URL, &url)?,
            (None, Some(host)) if host.contains("://") => base(HEROKU_HOST, &host)?,
            (None, Some(host)) => base(HEROKU_HOST, &format!("https://api.{host}"))?,
            (None, None) => base(HEROKU_API_URL, DEFAULT_HEROKU_API)?,
        };
        let borealis = base(
            BOREALIS_PG_API_BASE_URL,
            value(BOREALIS_PG_API_BASE_URL)
                .as_deref()
                .unwrap_or(DEFAULT_BOREALIS_API),
        )?;
        Ok(Self {
            heroku,
            borealis,
            service: value(BOREALIS_PG_ADDON_SERVICE_NAME)
                .unwrap_or_else(|| DEFAULT_SERVICE.into()),
        })
    }

    /// The Heroku Platform API.
    pub fn heroku(&self) -> &Url {
        &self.heroku
    }

    /// The Borealis add-on API.
    pub fn borealis(&self) -> &Url {
        &self.borealis
    }

    /// The name of the add-on service that is ours.
    pub fn service(&self) -> &str {
        &self.service
    }

    /// The machine under which netrc holds the Heroku token.
    pub fn netrc_machine(&self) -> &str {
        self.heroku.host_str().unwrap_or_default()
    }
}

/// Whether a URL's host is this machine, so that nothing on the network can listen in and
/// no proxy has a place in between.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::V6(address).is_loopback(),
        None => false,
    }
}

fn base(variable: &'static str, value: &str) -> Result<Url, EndpointError> {
    let no_url = |problem: String| EndpointError::NoUrl {
        variable,
        value: if value.contains('@') {
            "(not shown)".into()
        } else {
            value.to_owned()
        },
        problem,
    };
    let url = Url::parse(value).map_err(|error| no_url(error.to_string()))?;
    if !url.has_host() {
        return Err(no_url("it has no host".into()));
    }
    let bare = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    if !bare {
        return Err(EndpointError::NotABase { variable });
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        _ => Err(EndpointError::NotEncrypted {
            variable,
            value: value.to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(variables: &[(&str, &str)]) -> Result<Endpoints, EndpointError> {
        Endpoints::from_variables(|name| {
            variables
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        })
    }

    fn heroku(variables: &[(&str, &str)]) -> String {
        endpoints(variables).unwrap().heroku().to_string()
    }

    #[test]
    fn defaults_and_overrides() {
        let defaults = endpoints(&[(HEROKU_HOST, " "), (HEROKU_API_URL, "")]).unwrap();
        assert_eq!(defaults.heroku().as_str(), "https://api.heroku.com/");
        assert_eq!(
            defaults.borealis().as_str(),
            "https://pg-heroku-addon-api.borealis-data.com/"
        );
        assert_eq!(defaults.service(), "borealis-pg");
        assert_eq!(defaults.netrc_machine(), "api.heroku.com");

        assert_eq!(heroku(&[(HEROKU_HOST, "x.test")]), "https://api.x.test/");
        assert_eq!(
            heroku(&[(HEROKU_HOST, "http://[::1]:5000")]),
            "http://[::1]:5000/"
        );
        assert_eq!(
            heroku(&[
                (HEROKU_HOST, "x.test"),
                (HEROKU_API_URL, "https://y.test/h")
            ]),
            "https://y.test/h"
        );
    }

    #[test]
    fn plain_http_is_for_loopback_hosts_only() {
        for good in [
            "http://127.0.0.1:1",
            "http://127.8.0.1",
            "http://localhost:80",
        ] {
            assert!(
                endpoints(&[(BOREALIS_PG_API_BASE_URL, good)]).is_ok(),
                "{good}"
            );
        }
        for bad in [
            "http://api.heroku.com",
            "http://localhost.evil.test",
            "http://127.0.0.1.evil.test",
            "http://10.0.0.1",
            "http://[::2]",
            "ftp://localhost",
        ] {
            let error = endpoints(&[(BOREALIS_PG_API_BASE_URL, bad)]).unwrap_err();
            assert!(
                matches!(error, EndpointError::NotEncrypted { .. }),
                "{bad}: {error}"
            );
            assert!(error.to_string().contains(BOREALIS_PG_API_BASE_URL));
        }
    }

    #[test]
    fn what_is_no_base_url_is_refused_without_showing_a_password() {
        for bad in [
            "https://me:hunter2@api.heroku.com",
            "https://me:hunter2@",
            "me:hunter2@api.heroku.com",
            "https://api.heroku.com?hunter2",
            "api.heroku.com",
            "https://",
        ] {
            let error = endpoints(&[(HEROKU_API_URL, bad)]).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
