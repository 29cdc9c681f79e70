//! How programs that know libpq's ways find a session: connection URLs and environment
//! variables.

use borealis_proto::v1;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::client::Opened;

/// What RFC 3986 calls unreserved needs no encoding.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
/// In a query a path may keep its slashes (RFC 3986, section 3.4).
const RESERVED_IN_PATH: &AsciiSet = &RESERVED.remove(b'/');

/// The port in the names of sessions' sockets: `.s.PGSQL.5432`.
pub(crate) const SOCKET_PORT: &str = "5432";

/// Variables of libpq (its manual, "Environment Variables") that say where and how to connect.
/// What a user has set for another database must not lead a command of ours astray, so a
/// command gets those that [`variables`] sets and none of the others.
///
/// The rest of libpq's variables stay: PGAPPNAME, PGCLIENTENCODING, PGDATESTYLE, PGTZ and
/// PGGEQO are the user's taste, PGCONNECT_TIMEOUT is their patience, and PGSYSCONFDIR,
/// PGLOCALEDIR and PGOAUTHDEBUG name no connection.
pub(crate) const CONNECTION_VARIABLES: [&str; 36] = [
    // Where.
    "PGHOST",
    "PGHOSTADDR",
    "PGPORT",
    "PGDATABASE",
    "PGUSER",
    "PGPASSWORD",
    "PGPASSFILE",
    "PGSERVICE",
    "PGSERVICEFILE",
    "DATABASE_URL",
    // To which of several servers, and with what settings: a role or a search path of
    // another database may not exist in this one.
    "PGTARGETSESSIONATTRS",
    "PGLOADBALANCEHOSTS",
    "PGOPTIONS",
    "PGMINPROTOCOLVERSION",
    "PGMAXPROTOCOLVERSION",
    // Who the server has to be, and how to prove oneself to it.
    "PGREQUIREAUTH",
    "PGREQUIREPEER",
    "PGCHANNELBINDING",
    "PGGSSENCMODE",
    "PGGSSDELEGATION",
    "PGGSSLIB",
    "PGKRBSRVNAME",
    "PGREALM",
    // TLS.
    "PGSSLMODE",
    "PGREQUIRESSL",
    "PGSSLNEGOTIATION",
    "PGSSLCOMPRESSION",
    "PGSSLCERT",
    "PGSSLKEY",
    "PGSSLCERTMODE",
    "PGSSLROOTCERT",
    "PGSSLCRL",
    "PGSSLCRLDIR",
    "PGSSLSNI",
    "PGSSLMINPROTOCOLVERSION",
    "PGSSLMAXPROTOCOLVERSION",
];

/// Which of a session's two ways in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// The Unix socket. Nobody else can listen there, and a managed session asks for no
    /// password.
    Socket,
    /// The loopback address, for programs that know nothing else.
    Tcp,
}

// === impl Way ===

impl Way {
    /// The Unix socket where its client needs no password there.
    pub(crate) fn safest(session: &v1::Session) -> Self {
        if session.mode() == v1::Mode::Managed && !session.socket_dir.is_empty() {
            Self::Socket
        } else {
            Self::Tcp
        }
    }
}

/// The variables that lead libpq, and most drivers, to a session.
pub(crate) fn variables(opened: &Opened, way: Way) -> Vec<(&'static str, String)> {
    let session = &opened.session;
    let (host, port) = match way {
        Way::Socket => (session.socket_dir.clone(), SOCKET_PORT.to_owned()),
        Way::Tcp => (session.host.clone(), session.port.to_string()),
    };
    vec![
        ("PGHOST", host),
        ("PGPORT", port),
        ("PGDATABASE", session.database.clone()),
        ("PGUSER", session.user.clone()),
        ("PGPASSWORD", opened.secrets.password.clone()),
    ]
}

/// The same and the variable that most other programs read, which holds a URL over TCP: few
/// of them know one over a socket.
pub(crate) fn all_variables(opened: &Opened, way: Way) -> Vec<(&'static str, String)> {
    let mut all = variables(opened, way);
    all.push(("DATABASE_URL", opened.secrets.url.clone()));
    all
}

/// The URL over the Unix socket, without a password. Empty while the database isn't known.
///
/// A managed session takes any user there; a passthrough session's is the database's own.
pub(crate) fn socket_url(session: &v1::Session) -> String {
    if session.database.is_empty() || session.socket_dir.is_empty() {
        return String::new();
    }
    let user = match session.mode() {
        v1::Mode::Passthrough => format!("{}@", encoded(&session.user)),
        _ => String::new(),
    };
    // The port is named because PGPORT may name another.
    format!(
        "postgresql://{user}/{}?host={}&port={SOCKET_PORT}",
        encoded(&session.database),
        utf8_percent_encode(&session.socket_dir, RESERVED_IN_PATH)
    )
}

/// `text` as a part of a URL.
pub(crate) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(mode: v1::Mode) -> v1::Session {
        v1::Session {
            mode: mode.into(),
            user: "u@x".into(),
            database: "d/4".into(),
            socket_dir: "/run/me & you/pg/sushi".into(),
            ..v1::Session::default()
        }
    }

    #[test]
    fn socket_urls_hold_no_password() {
        assert_eq!(
            socket_url(&session(v1::Mode::Managed)),
            "postgresql:///d%2F4?host=/run/me%20%26%20you/pg/sushi&port=5432"
        );
        assert_eq!(
            socket_url(&session(v1::Mode::Passthrough)),
            "postgresql://u%40x@/d%2F4?host=/run/me%20%26%20you/pg/sushi&port=5432"
        );
        assert_eq!(socket_url(&v1::Session::default()), "");
    }

    #[test]
    fn every_variable_that_is_set_is_one_that_is_taken_away() {
        for way in [Way::Socket, Way::Tcp] {
            for (name, _) in all_variables(&Opened::default(), way) {
                assert!(CONNECTION_VARIABLES.contains(&name), "{name}");
            }
        }
    }
}
