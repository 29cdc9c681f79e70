//! Why a server's certificate isn't accepted.

use std::fmt;

/// Why the certificate of a provider's API isn't accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsProblem {
    /// No authority that this machine knows has issued it.
    UnknownIssuer {
        /// Whether `NODE_EXTRA_CA_CERTS` is set, which the Heroku CLI reads.
        node_extra: bool,
    },
    /// By this machine's clock, whose time is given, it is over.
    Expired {
        /// What the clock says.
        clock: String,
    },
    /// By this machine's clock, whose time is given, it has not begun.
    NotYetValid {
        /// What the clock says.
        clock: String,
    },
    /// It is for another server.
    OtherName,
    /// Anything else.
    Other {
        /// The TLS library's words.
        detail: String,
    },
}

// === impl TlsProblem ===

impl TlsProblem {
    /// What to do next.
    pub(super) fn hint(&self) -> String {
        match self {
            Self::UnknownIssuer { node_extra } => {
                let node = if *node_extra {
                    "; NODE_EXTRA_CA_CERTS, which is set here, is read by the Heroku CLI only"
                } else {
                    ""
                };
                format!(
                    "a company's proxy may encrypt the connection anew: put its CA into the system's store, or name a file with all CAs in SSL_CERT_FILE, and start borealisd again{node}"
                )
            }
            Self::Expired { .. } | Self::NotYetValid { .. } => {
                "set this machine's clock; if it is right, try from another network".to_owned()
            }
            Self::OtherName => {
                "this network may lead to another server: sign in to it in a browser, or try from another one".to_owned()
            }
            Self::Other { .. } => {
                "try from another network; see https://status.heroku.com if it lasts".to_owned()
            }
        }
    }
}

impl fmt::Display for TlsProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownIssuer { .. } => {
                f.write_str("no authority that this machine trusts has issued its certificate")
            }
            Self::Expired { clock } => write!(
                f,
                "its certificate has expired by this machine's clock, which says {clock}"
            ),
            Self::NotYetValid { clock } => write!(
                f,
                "its certificate is not valid yet by this machine's clock, which says {clock}"
            ),
            Self::OtherName => f.write_str("its certificate is for another server"),
            Self::Other { detail } => write!(f, "its certificate isn't accepted: {detail}"),
        }
    }
}
