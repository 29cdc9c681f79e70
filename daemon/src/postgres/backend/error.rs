//! Why a log-in to the database failed, told apart by what follows from it: a new lease, a
//! new try, or the server's own words to the client.

use std::{fmt, io};

use bytes::Bytes;

use crate::{
    model::{Cause, HostPort, SessionName},
    postgres::{refusal, startup::Asks, wire},
};

/// Why a log-in to the database failed.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The server said no.
    #[error("the database refused the log-in ({0})")]
    Refused(DatabaseRefusal),
    /// The channel failed or was closed.
    #[error("the connection was lost during the log-in: {0}")]
    Lost(#[from] io::Error),
    /// TLS could not be had, or the certificate isn't what it should be.
    #[error("TLS: {0}")]
    Tls(String),
    /// What the server said isn't the protocol, or not a part of it that is known here.
    #[error("{0}")]
    Protocol(String),
}

/// An ErrorResponse of the server, kept as it came.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseRefusal {
    raw: Bytes,
    sqlstate: String,
    message: String,
    /// The server's function that refused. Unlike the message it is never translated.
    routine: String,
    blames: Blames,
}

/// Who could do something about a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blames {
    /// The credential: another lease may help.
    Credential,
    /// Anything else.
    Other,
}

// === impl LoginError ===

impl LoginError {
    pub(super) fn refused(response: Bytes, asks: Asks) -> Self {
        let mut refusal = DatabaseRefusal::parse(response);
        refusal.blames = refusal.who_is_to_blame(asks);
        Self::Refused(refusal)
    }

    /// The cause, for the database server that was to be reached.
    pub fn cause(&self, server: &HostPort) -> Cause {
        let refused = |sqlstate: &str, message: &str| Cause::DatabaseRefused {
            sqlstate: sqlstate.to_owned(),
            message: message.into(),
        };
        match self {
            Self::Refused(refusal) => match refusal.blames {
                Blames::Credential => Cause::DatabaseRefusedLogin {
                    sqlstate: refusal.sqlstate.clone(),
                    message: refusal.message.clone().into(),
                },
                Blames::Other => refused(&refusal.sqlstate, &refusal.message),
            },
            Self::Lost(error) => Cause::DatabaseUnreachable {
                server: server.clone(),
                detail: format!("the connection was lost during the log-in: {error}"),
            },
            Self::Tls(detail) => Cause::UpstreamTls {
                server: server.clone(),
                detail: detail.clone(),
            },
            Self::Protocol(problem) => refused("08P01", problem),
        }
    }

    /// What a client is told of it: the server's own ErrorResponse as it came, unless it is
    /// about the credential, of which the client knows nothing; else the cause. Where the client
    /// has chosen another database than `sessions_database`, a hint names that.
    pub fn error_response(
        &self,
        server: &HostPort,
        session: &SessionName,
        sessions_database: Option<&str>,
    ) -> Bytes {
        match (self, sessions_database) {
            (Self::Refused(refusal), Some(database)) if refusal.is_about_the_database() => {
                refusal.with_hint(&format!(
                    "the database of session \"{session}\" is {database}: connect to that, or name none"
                ))
            }
            (Self::Refused(refusal), _) if refusal.blames == Blames::Other => refusal.raw.clone(),
            _ => refusal::error_response(&self.cause(server), session),
        }
    }
}

// === impl DatabaseRefusal ===

impl DatabaseRefusal {
    /// Reads an ErrorResponse with its tag and length; fields that are missing or broken are
    /// empty.
    pub(in crate::postgres) fn parse(raw: Bytes) -> Self {
        let mut refusal = Self {
            sqlstate: String::new(),
            message: String::new(),
            routine: String::new(),
            blames: Blames::Other,
            raw,
        };
        let mut rest = refusal
            .raw
            .get(5..)
            .map_or_else(Bytes::new, |fields| refusal.raw.slice_ref(fields));
        while let Some(field) = wire::take_text(&mut rest).filter(|field| !field.is_empty()) {
            let text = || String::from_utf8_lossy(&field[1..]).into_owned();
            match field[0] {
                b'C' => refusal.sqlstate = text(),
                b'M' => refusal.message = text(),
                b'R' => refusal.routine = text(),
                _ => {}
            }
        }
        refusal
    }

    /// The whole message as it came, with its tag.
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// Whether the database that was asked for doesn't exist, or may not be connected to.
    fn is_about_the_database(&self) -> bool {
        self.blames == Blames::Other
            && matches!(self.sqlstate.as_str(), "3D000" | "42501" | "28000")
    }

    /// The message with a hint, unless the server has given one.
    fn with_hint(&self, hint: &str) -> Bytes {
        let fields = self.raw.get(5..).unwrap_or_default();
        let has_hint = fields
            .split(|byte| *byte == 0)
            .any(|field| field.first() == Some(&b'H'));
        match fields.split_last() {
            Some((0, fields)) if !has_hint => {
                let hint = [b"H", hint.as_bytes(), b"\0\0"].concat();
                wire::frame(Some(b'E'), &[fields, &hint].concat())
            }
            _ => self.raw.clone(),
        }
    }

    /// The SQLSTATE, such as `3D000`.
    pub fn sqlstate(&self) -> &str {
        &self.sqlstate
    }

    /// The server's sentence, in the server's language.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// A wrong password (28P01) is the credential's fault. A role that is gone or may not log
    /// in (28000) is too, but a line missing in `pg_hba.conf` for a database or a replication
    /// connection that the client chose isn't; nor is the privilege (42501) to set a
    /// parameter, or to use a database, that the client chose.
    fn who_is_to_blame(&self, asks: Asks) -> Blames {
        let own = asks == Asks::SessionsDatabase;
        let credential = match (self.sqlstate.as_str(), self.routine.as_str()) {
            ("28P01", _) => true,
            ("28000", "ClientAuthentication") => own,
            ("28000", _) => true,
            // The right to connect, which is looked at here alone. Poolers give no routine.
            ("42501", "CheckMyDatabase" | "") => own,
            _ => false,
        };
        if credential {
            Blames::Credential
        } else {
            Blames::Other
        }
    }
}

impl fmt::Display for DatabaseRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.sqlstate, self.message)
    }
}

impl fmt::Debug for DatabaseRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseRefusal({self})")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refused(sqlstate: &str, routine: &str, asks: Asks) -> LoginError {
        let fields = format!("SFATAL\0VFATAL\0C{sqlstate}\0Mno\0R{routine}\0\0");
        LoginError::refused(wire::frame(Some(b'E'), fields.as_bytes()), asks)
    }

    fn server() -> HostPort {
        HostPort {
            host: "db".into(),
            port: 5432,
        }
    }

    #[test]
    fn only_what_the_credential_is_to_blame_for_asks_for_another() {
        use Asks::{Otherwise, SessionsDatabase};
        for (sqlstate, routine, asks, credential) in [
            ("28P01", "auth_failed", SessionsDatabase, true),
            ("28P01", "auth_failed", Otherwise, true),
            ("28000", "InitializeSessionUserId", Otherwise, true),
            ("28000", "ClientAuthentication", SessionsDatabase, true),
            ("28000", "ClientAuthentication", Otherwise, false),
            ("42501", "CheckMyDatabase", SessionsDatabase, true),
            ("42501", "CheckMyDatabase", Otherwise, false),
            ("42501", "set_config_option", SessionsDatabase, false),
            ("3D000", "InitPostgres", SessionsDatabase, false),
            ("53300", "InitPostgres", SessionsDatabase, false),
            ("57P03", "ProcessStartupPacket", SessionsDatabase, false),
        ] {
            let error = refused(sqlstate, routine, asks);
            let blamed = matches!(error.cause(&server()), Cause::DatabaseRefusedLogin { .. });
            assert_eq!(blamed, credential, "{sqlstate} {routine}");
        }
    }

    #[test]
    fn a_client_hears_the_servers_own_words_but_never_a_wrong_password() {
        let session = SessionName::parse("sushi").unwrap();
        let missing = refused("3D000", "InitPostgres", Asks::SessionsDatabase);
        let LoginError::Refused(refusal) = &missing else {
            panic!("{missing:?}");
        };
        let told = missing.error_response(&server(), &session, None);
        assert_eq!(&told, refusal.raw());
        // A client that chose the database itself hears which one is the session's.
        for sqlstate in ["3D000", "42501", "28000"] {
            let other = refused(sqlstate, "ClientAuthentication", Asks::Otherwise);
            let told = other.error_response(&server(), &session, Some("d4f0"));
            let text = String::from_utf8_lossy(&told);
            assert!(
                text.contains("Mno\0") && text.ends_with("or name none\0\0"),
                "{text}"
            );
            assert!(
                text.contains("Hthe database of session \"sushi\" is d4f0"),
                "{text}"
            );
            assert_eq!(wire::frame(Some(b'E'), &told[5..]), told);
        }
        let password = refused("28P01", "auth_failed", Asks::SessionsDatabase);
        let told = password.error_response(&server(), &session, Some("d4f0"));
        let told = DatabaseRefusal::parse(told);
        assert_eq!(told.sqlstate(), "57P03");
    }

    proptest! {
        #[test]
        fn arbitrary_errors_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let raw = Bytes::from(bytes);
            let refusal = DatabaseRefusal::parse(raw.clone());
            prop_assert_eq!(refusal.raw(), &raw);
        }
    }
}
