//! What an answer's head means, and what kept one from coming: pure, by tables.

use std::{error::Error, io};

use rustls::CertificateError;

use crate::model::cause::TlsProblem;

/// What the head of an answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Its body is what was asked for.
    Usable,
    /// The API says no; asking again wouldn't change that.
    Refused,
    /// The API asks to be left alone for a while.
    TooMany,
    /// It isn't the API's own.
    Intercepted,
    /// The API fails, perhaps not for long.
    Failing,
    /// No such answer is known of the API.
    Nonsense,
}

/// By status and kind of body. The APIs speak JSON except where Heroku's router fails, whose
/// page comes with a status from 500 on; and they send nobody elsewhere.
pub(super) fn meaning(status: u16, is_html: bool) -> Meaning {
    match status {
        429 => Meaning::TooMany,
        300..=399 | 407 | 511 => Meaning::Intercepted,
        200..=499 if is_html => Meaning::Intercepted,
        200..=299 => Meaning::Usable,
        400..=499 => Meaning::Refused,
        500..=599 => Meaning::Failing,
        _ => Meaning::Nonsense,
    }
}

/// Whether a body that should be JSON is a web page.
pub(super) fn is_page(body: &[u8]) -> bool {
    body.trim_ascii_start().first() == Some(&b'<')
}

/// What is wrong with the server's certificate, if that is why there is no connection.
pub(super) fn tls_problem(error: &(dyn Error + 'static)) -> Option<TlsProblem> {
    let clock = || {
        jiff::Timestamp::try_from(std::time::SystemTime::now()).map_or_else(
            |_| "a year beyond 9999".to_owned(),
            |now| now.strftime("%Y-%m-%d %H:%M UTC").to_string(),
        )
    };
    Some(match certificate_error(error)? {
        CertificateError::UnknownIssuer => TlsProblem::UnknownIssuer {
            node_extra: std::env::var_os("NODE_EXTRA_CA_CERTS").is_some(),
        },
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            TlsProblem::Expired { clock: clock() }
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            TlsProblem::NotYetValid { clock: clock() }
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            TlsProblem::OtherName
        }
        // A certificate that signs itself is one that nobody knows.
        CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
            TlsProblem::UnknownIssuer {
                node_extra: std::env::var_os("NODE_EXTRA_CA_CERTS").is_some(),
            }
        }
        other => TlsProblem::Other {
            detail: other.to_string(),
        },
    })
}

/// An `io::Error` hides what it holds from [`Error::source`].
fn certificate_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a CertificateError> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(rustls::Error::InvalidCertificate(found)) = error.downcast_ref() {
            return Some(found);
        }
        let held = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        next = match held {
            Some(held) => Some(held),
            None => error.source(),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_statuses_mean() {
        use Meaning as M;
        for (statuses, json, html) in [
            (&[200, 201, 202, 204, 206][..], M::Usable, M::Intercepted),
            (
                &[301, 302, 303, 304, 307, 308],
                M::Intercepted,
                M::Intercepted,
            ),
            (
                &[400, 401, 402, 403, 404, 409, 422, 423, 451],
                M::Refused,
                M::Intercepted,
            ),
            (&[407, 511], M::Intercepted, M::Intercepted),
            (&[429], M::TooMany, M::TooMany),
            (&[500, 502, 503, 504, 530], M::Failing, M::Failing),
            (&[100, 600, 999], M::Nonsense, M::Nonsense),
        ] {
            for &status in statuses {
                assert_eq!(meaning(status, false), json, "{status}");
                assert_eq!(meaning(status, true), html, "{status} with a page");
            }
        }
    }

    #[test]
    fn a_page_is_known_by_its_beginning() {
        assert!(is_page(b"\r\n <!DOCTYPE html><html>"));
        assert!(!is_page(b"{\"a\": \"<\"}"));
        assert!(!is_page(b""));
    }

    #[test]
    fn certificates_are_refused_for_different_reasons() {
        let problem = |found: CertificateError| {
            // As reqwest hands it over: in an io::Error within others.
            let tls = rustls::Error::InvalidCertificate(found);
            tls_problem(&io::Error::other(io::Error::other(tls))).unwrap()
        };
        for (found, says, hint) in [
            (
                CertificateError::UnknownIssuer,
                "no authority",
                "SSL_CERT_FILE",
            ),
            (CertificateError::Expired, "has expired", "clock"),
            (CertificateError::NotValidYet, "not valid yet", "clock"),
            (
                CertificateError::NotValidForName,
                "another server",
                "network",
            ),
            (
                CertificateError::Revoked,
                "isn't accepted",
                "status.heroku.com",
            ),
        ] {
            let words = crate::model::Cause::ProviderTls {
                api: "Heroku API",
                host: "api.heroku.com".into(),
                problem: problem(found),
            }
            .words();
            assert!(words.sentence.contains(says), "{}", words.sentence);
            assert!(words.hint.contains(hint), "{}", words.hint);
        }
        assert_eq!(tls_problem(&io::Error::other("refused")), None);
    }
}
