//! The packet that opens a connection: what a client asks for, kept as it said it, and the
//! same as the daemon asks it of the database. Pure; who reads and answers is elsewhere.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use super::{cancel::CancelRequest, wire};

const SSL_REQUEST: u32 = 80_877_103;
const GSSENC_REQUEST: u32 = 80_877_104;

/// What parameters of the protocol itself begin with; a server that doesn't know one says so.
const PROTOCOL_OPTION: &[u8] = b"_pq_.";

/// A version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProtocolVersion {
    /// The number before the dot.
    pub major: u16,
    /// The number behind it.
    pub minor: u16,
}

/// The startup packet of a client: the version it speaks and its parameters, names and
/// values byte for byte and in its own order.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct StartupParameters {
    version: ProtocolVersion,
    pairs: Vec<(Bytes, Bytes)>,
}

/// What the first packet of a connection is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FirstPacket {
    SslRequest,
    GssencRequest,
    Cancel(CancelRequest),
    Startup(StartupParameters),
}

/// Why a first packet makes no sense. Worded as PostgreSQL words it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartupError {
    /// A major version other than 3.
    #[error(
        "unsupported frontend protocol {0}: server supports {min} to {max}",
        min = ProtocolVersion::OLDEST,
        max = ProtocolVersion::NEWEST
    )]
    Version(ProtocolVersion),
    /// Names and values that don't pair up or don't end where the packet does.
    #[error("invalid startup packet layout: expected terminator as last byte")]
    Layout,
    /// A cancel request of a wrong length.
    #[error("invalid length of query cancel packet")]
    CancelLength,
    /// No user, or an empty one.
    #[error("no PostgreSQL user name specified in startup packet")]
    NoUser,
    /// A name or value that holds a zero byte can't be sent.
    #[error("a startup parameter can't hold a zero byte")]
    ZeroByte,
}

/// What a client asks for that the session's own credential can't answer for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asks {
    /// The session's database, plainly.
    SessionsDatabase,
    /// Another database, or a replication connection.
    Otherwise,
}

// === impl StartupError ===

impl StartupError {
    /// A request for TLS where none can be made.
    pub(super) const SSL_REQUEST: Self = Self::Version(ProtocolVersion::from_wire(SSL_REQUEST));
    /// A request for GSSAPI encryption where none can be made.
    pub(super) const GSSENC_REQUEST: Self =
        Self::Version(ProtocolVersion::from_wire(GSSENC_REQUEST));
}

// === impl ProtocolVersion ===

impl ProtocolVersion {
    /// The oldest that is spoken here, since PostgreSQL 7.4.
    pub const OLDEST: Self = Self { major: 3, minor: 0 };
    /// The newest that is spoken here, since PostgreSQL 18. It differs from 3.0 in the
    /// length of cancel keys alone.
    pub const NEWEST: Self = Self { major: 3, minor: 2 };

    const fn from_wire(number: u32) -> Self {
        let [a, b, c, d] = number.to_be_bytes();
        Self {
            major: u16::from_be_bytes([a, b]),
            minor: u16::from_be_bytes([c, d]),
        }
    }

    fn to_wire(self) -> u32 {
        u32::from(self.major) << 16 | u32::from(self.minor)
    }
}

impl fmt::Display for ProtocolVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

// === impl StartupParameters ===

impl StartupParameters {
    /// Parameters of the daemon's own, for a log-in that no client asked for. `user` may be
    /// left out, since the credential's takes its place. Speaks protocol 3.0.
    ///
    /// # Errors
    /// When a name is empty, or a zero byte anywhere.
    pub fn new<N, V>(pairs: impl IntoIterator<Item = (N, V)>) -> Result<Self, StartupError>
    where
        N: Into<Bytes>,
        V: Into<Bytes>,
    {
        let pairs: Vec<(Bytes, Bytes)> = pairs
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        if pairs.iter().any(|(name, _)| name.is_empty()) {
            return Err(StartupError::Layout);
        }
        if pairs
            .iter()
            .any(|(name, value)| name.contains(&0) || value.contains(&0))
        {
            return Err(StartupError::ZeroByte);
        }
        Ok(Self {
            version: ProtocolVersion::OLDEST,
            pairs,
        })
    }

    /// The protocol's version: what the client asked for, or what was negotiated.
    pub fn version(&self) -> ProtocolVersion {
        self.version
    }

    /// A parameter's value; where it was given twice the last, as PostgreSQL takes it.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.pairs
            .iter()
            .rev()
            .find(|(known, _)| known == name.as_bytes())
            .map(|(_, value)| &value[..])
    }

    /// The user that the client names. Empty in parameters of the daemon's own alone.
    pub fn user(&self) -> &[u8] {
        self.get("user").unwrap_or_default()
    }

    /// Names and values in the client's order.
    pub fn pairs(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.pairs
            .iter()
            .map(|(name, value)| (&name[..], &value[..]))
    }

    /// The database that the client chose. `None` where it named none, or its own user's
    /// name, which is what clients fill in where nobody named one.
    pub fn chosen_database(&self) -> Option<&[u8]> {
        self.get("database")
            .filter(|database| !database.is_empty() && *database != self.user())
    }

    /// The packet for the database server: the same version and parameters, with the
    /// session's user in the place of the client's, and the session's database unless the
    /// client chose one.
    ///
    /// # Errors
    /// When `user` or `database` holds a zero byte.
    pub fn encode_as(&self, user: &str, database: &str) -> Result<Bytes, StartupError> {
        let database = self.chosen_database().unwrap_or(database.as_bytes());
        if user.as_bytes().contains(&0) || database.contains(&0) {
            return Err(StartupError::ZeroByte);
        }
        let replaced = [(&b"user"[..], user.as_bytes()), (b"database", database)];
        let kept = self
            .pairs()
            .filter(|(name, _)| !matches!(*name, b"user" | b"database"));
        Ok(encode(self.version, replaced.into_iter().chain(kept)))
    }

    /// Brings the request down to what is spoken here: [`ProtocolVersion::NEWEST`] and no
    /// protocol options. Gives the NegotiateProtocolVersion message to answer with, where
    /// that is less than the client asked for.
    ///
    /// What is left can be promised whatever the database server speaks: 3.2 allows longer
    /// cancel keys than 3.0 and demands none, so a server that falls back to 3.0 leaves a
    /// client right that was promised 3.2.
    pub(super) fn negotiate(&mut self) -> Option<Bytes> {
        let asked = self.version;
        self.version = asked.min(ProtocolVersion::NEWEST);
        let (options, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut self.pairs)
            .into_iter()
            .partition(|(name, _)| name.starts_with(PROTOCOL_OPTION));
        self.pairs = kept;
        if self.version == asked && options.is_empty() {
            return None;
        }
        let mut body = BytesMut::new();
        // The manual says "newest minor version"; server and libpq have always meant the
        // whole number.
        body.put_u32(self.version.to_wire());
        body.put_u32(u32::try_from(options.len()).unwrap_or(u32::MAX));
        for (name, _) in &options {
            body.put_slice(name);
            body.put_u8(0);
        }
        Some(wire::frame(Some(b'v'), &body))
    }

    /// Whether it asks for a replication connection.
    pub fn is_replication(&self) -> bool {
        self.get("replication").is_some_and(|value| {
            !matches!(
                value.to_ascii_lowercase().as_slice(),
                b"" | b"false" | b"off" | b"no" | b"0" | b"f" | b"n"
            )
        })
    }

    pub(super) fn asks_for(&self, database: &str) -> Asks {
        let elsewhere = self
            .chosen_database()
            .is_some_and(|chosen| chosen != database.as_bytes());
        if self.is_replication() || elsewhere {
            Asks::Otherwise
        } else {
            Asks::SessionsDatabase
        }
    }

    fn parse(version: ProtocolVersion, mut rest: Bytes) -> Result<Self, StartupError> {
        let mut pairs = Vec::new();
        loop {
            let name = wire::take_text(&mut rest).ok_or(StartupError::Layout)?;
            if name.is_empty() {
                break;
            }
            let value = wire::take_text(&mut rest).ok_or(StartupError::Layout)?;
            pairs.push((name, value));
        }
        if !rest.is_empty() {
            return Err(StartupError::Layout);
        }
        let startup = Self { version, pairs };
        if startup.user().is_empty() {
            return Err(StartupError::NoUser);
        }
        Ok(startup)
    }
}

/// Values aren't shown: `options` may hold what a user takes for private.
impl fmt::Debug for StartupParameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.pairs.iter().map(|(name, _)| name.escape_ascii());
        write!(f, "StartupParameters({}", self.version)?;
        for name in names {
            write!(f, ", {name}")?;
        }
        f.write_str(")")
    }
}

// === impl FirstPacket ===

impl FirstPacket {
    /// Parses what follows the length. Takes at most a few times the packet's own memory.
    pub(super) fn parse(packet: Bytes) -> Result<Self, StartupError> {
        let mut rest = packet;
        let code = wire::take_u32(&mut rest).ok_or(StartupError::Layout)?;
        match code {
            SSL_REQUEST if rest.is_empty() => Ok(Self::SslRequest),
            GSSENC_REQUEST if rest.is_empty() => Ok(Self::GssencRequest),
            CancelRequest::CODE => CancelRequest::parse(rest)
                .map(Self::Cancel)
                .ok_or(StartupError::CancelLength),
            code => {
                let version = ProtocolVersion::from_wire(code);
                if version.major != ProtocolVersion::NEWEST.major {
                    return Err(StartupError::Version(version));
                }
                StartupParameters::parse(version, rest).map(Self::Startup)
            }
        }
    }
}

// === impl StartupError ===

impl StartupError {
    /// The SQLSTATE that PostgreSQL gives it.
    pub fn sqlstate(&self) -> &'static str {
        match self {
            Self::Version(_) => "0A000",
            Self::Layout | Self::CancelLength | Self::ZeroByte => "08P01",
            Self::NoUser => "28000",
        }
    }
}

fn encode<'a>(
    version: ProtocolVersion,
    pairs: impl Iterator<Item = (&'a [u8], &'a [u8])>,
) -> Bytes {
    let mut body = BytesMut::new();
    body.put_u32(version.to_wire());
    for text in pairs.flat_map(|(name, value)| [name, value]) {
        body.put_slice(text);
        body.put_u8(0);
    }
    body.put_u8(0);
    wire::frame(None, &body)
}

/// The request for TLS.
pub(super) fn ssl_request() -> Bytes {
    wire::frame(None, &SSL_REQUEST.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packet(version: (u16, u16), pairs: &[(&str, &str)]) -> Bytes {
        let version = ProtocolVersion {
            major: version.0,
            minor: version.1,
        };
        let pairs = pairs.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes()));
        encode(version, pairs).slice(4..)
    }

    fn startup(version: (u16, u16), pairs: &[(&str, &str)]) -> StartupParameters {
        match FirstPacket::parse(packet(version, pairs)) {
            Ok(FirstPacket::Startup(startup)) => startup,
            other => panic!("{other:?}"),
        }
    }

    fn sent(startup: &StartupParameters) -> Vec<(String, String)> {
        let packet = startup.encode_as("role", "d4f0").unwrap().slice(4..);
        match FirstPacket::parse(packet) {
            Ok(FirstPacket::Startup(startup)) => startup
                .pairs()
                .map(|(n, v)| (n.escape_ascii().to_string(), v.escape_ascii().to_string()))
                .collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn everything_but_user_and_database_reaches_the_server_as_it_came() {
        let startup = startup(
            (3, 0),
            &[
                ("application_name", "psql"),
                ("user", "sushi"),
                ("options", "-c geqo=off"),
                ("options", "-c work_mem=1MB"),
                ("replication", "database"),
                ("database", "other"),
            ],
        );
        let pair = |n: &str, v: &str| (n.to_owned(), v.to_owned());
        assert_eq!(
            sent(&startup),
            [
                pair("user", "role"),
                pair("database", "other"),
                pair("application_name", "psql"),
                pair("options", "-c geqo=off"),
                pair("options", "-c work_mem=1MB"),
                pair("replication", "database"),
            ]
        );
    }

    #[test]
    fn no_database_or_the_users_name_means_the_sessions() {
        for pairs in [
            &[("user", "sushi")][..],
            &[("user", "sushi"), ("database", "sushi")],
            &[("database", "ann"), ("user", "ann")],
            &[("user", "ann"), ("database", "")],
        ] {
            let startup = startup((3, 0), pairs);
            assert_eq!(sent(&startup)[1].1, "d4f0", "{pairs:?}");
            assert_eq!(startup.asks_for("d4f0"), Asks::SessionsDatabase);
        }
        let other = startup((3, 0), &[("user", "ann"), ("database", "postgres")]);
        assert_eq!(sent(&other)[1].1, "postgres");
        assert_eq!(other.asks_for("d4f0"), Asks::Otherwise);
    }

    #[test]
    fn what_isnt_spoken_here_is_negotiated_away() {
        let mut plain = startup((3, 0), &[("user", "u")]);
        assert_eq!(plain.negotiate(), None);
        let mut newest = startup((3, 2), &[("user", "u")]);
        assert_eq!(newest.negotiate(), None);
        assert_eq!(newest.version(), ProtocolVersion::NEWEST);

        let mut grease = startup((3, 9999), &[("user", "u"), ("_pq_.a", "1"), ("_pq_.b", "")]);
        assert_eq!(
            grease.negotiate().as_deref(),
            Some(&b"v\0\0\0\x1a\0\x03\0\x02\0\0\0\x02_pq_.a\0_pq_.b\0"[..])
        );
        assert_eq!(sent(&grease).len(), 2);

        let mut option = startup((3, 0), &[("user", "u"), ("_pq_.a", "1")]);
        let told = option.negotiate().unwrap();
        assert_eq!(&told[5..9], b"\0\x03\0\0");
    }

    #[test]
    fn what_postgres_refuses_is_refused() {
        let parse = |bytes: &'static [u8]| FirstPacket::parse(Bytes::from_static(bytes));
        assert_eq!(
            FirstPacket::parse(packet((2, 0), &[("user", "u")])),
            Err(StartupError::Version(ProtocolVersion {
                major: 2,
                minor: 0
            }))
        );
        assert_eq!(parse(b"\0\x03\0\0\0"), Err(StartupError::NoUser));
        assert_eq!(parse(b"\0\x03\0\0user\0\0\0"), Err(StartupError::NoUser));
        for layout in [
            &b"\0\x03\0\0user\0u\0"[..],
            b"\0\x03\0\0user\0u",
            b"\0\x03\0\0user\0u\0\0x",
            b"\0\x03\0\0user",
            b"\0\x03\0\0",
        ] {
            assert_eq!(parse(layout), Err(StartupError::Layout), "{layout:?}");
        }
    }

    #[test]
    fn the_daemons_own_parameters() {
        assert!(StartupParameters::new([("user", "role")]).is_ok());
        let zero = StartupParameters::new([("user", "role\0")]);
        assert_eq!(zero, Err(StartupError::ZeroByte));
        let none = StartupParameters::new([("", "d")]);
        assert_eq!(none, Err(StartupError::Layout));
        let own = StartupParameters::new([("application_name", "borealisd")]).unwrap();
        assert_eq!(
            sent(&own)[..2],
            [
                ("user".to_owned(), "role".to_owned()),
                ("database".to_owned(), "d4f0".to_owned()),
            ]
        );
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = FirstPacket::parse(bytes.clone().into());
            let startup = [&b"\0\x03\0\0"[..], &bytes].concat();
            if let Ok(FirstPacket::Startup(mut startup)) = FirstPacket::parse(startup.into()) {
                startup.negotiate();
                startup.encode_as("role", "d").unwrap();
            }
        }

        #[test]
        fn what_parses_is_what_was_encoded(
            pairs in proptest::collection::vec(("[^\0]{1,20}", "[^\0]{0,20}"), 0..20),
        ) {
            let pairs: Vec<_> = [("user".to_owned(), "u".to_owned())].into_iter().chain(pairs).collect();
            let borrowed: Vec<_> = pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            prop_assume!(!borrowed.contains(&("user", "")));
            let parsed = startup((3, 2), &borrowed);
            let got: Vec<_> = parsed.pairs().collect();
            let want: Vec<_> = borrowed.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())).collect();
            prop_assert_eq!(got, want);
        }
    }
}
