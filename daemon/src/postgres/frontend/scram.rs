//! The server's side of SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677), as a state
//! machine without IO, with PostgreSQL's particulars: the user's name is the startup packet's,
//! and an unknown user goes through the same exchange with a made-up secret.
//!
//! Written here because the crates for it don't fit: they hash the password at each log-in,
//! or leave out channel binding, or bring a second copy of the hash crates with them. The
//! client's side, for the database, is `postgres-protocol`'s.

use std::{fmt, str};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

pub(super) const SCRAM_SHA_256: &str = "SCRAM-SHA-256";
pub(super) const SCRAM_SHA_256_PLUS: &str = "SCRAM-SHA-256-PLUS";

const BINDING_TYPE: &str = "tls-server-end-point";
/// As long as PostgreSQL's own.
const NONCE_BYTES: usize = 18;

type Key = [u8; 32];

/// What a session keeps to check its password by: made once, since making it takes 4096 rounds
/// of hashing (a few milliseconds), after which each log-in costs next to nothing.
#[derive(Clone)]
pub struct ScramVerifier {
    secret: Secret,
    /// What secrets are made up from for users that don't exist, so that one user's is the
    /// same at each try, as an existing user's would be.
    mock: Key,
}

/// One user's secret in the form that a server stores.
#[derive(Clone)]
struct Secret {
    salt: Vec<u8>,
    iterations: u32,
    stored_key: Key,
    server_key: Key,
}

/// Why an exchange failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ScramError {
    /// The password was wrong, or the user.
    WrongPassword,
    /// The messages don't follow the protocol.
    Protocol {
        sqlstate: &'static str,
        message: &'static str,
    },
}

/// Whether the user that the client names is the session's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum User<'a> {
    Known,
    Unknown(&'a [u8]),
}

/// An exchange that waits for the client's last message.
pub(super) struct Exchange {
    secret: Secret,
    known: Choice,
    /// What the client must repeat as `c=`, decoded.
    binding: Vec<u8>,
    nonce: String,
    client_first_bare: String,
    server_first: String,
}

// === impl ScramVerifier ===

impl ScramVerifier {
    /// Hashes a password, with a new salt and PostgreSQL's 4096 rounds: drivers refuse
    /// fewer. Takes a few milliseconds of the processor's time.
    ///
    /// # Errors
    /// Never for what `postgres-protocol` gives; an error rather than a panic should its form
    /// change.
    pub fn new(password: &SecretString) -> Result<Self, ScramVerifierError> {
        let text = postgres_protocol::password::scram_sha_256(password.expose_secret().as_bytes());
        Ok(Self {
            secret: Secret::parse(&text).ok_or(ScramVerifierError)?,
            mock: rand::random(),
        })
    }

    fn secret_for(&self, user: User<'_>) -> (Secret, Choice) {
        match user {
            User::Known => (self.secret.clone(), Choice::from(1)),
            User::Unknown(name) => {
                let made_up = Secret {
                    salt: hmac(&self.mock, &[b"salt", name])[..self.secret.salt.len().min(32)]
                        .to_vec(),
                    iterations: self.secret.iterations,
                    stored_key: hmac(&self.mock, &[b"stored", name]),
                    server_key: hmac(&self.mock, &[b"server", name]),
                };
                (made_up, Choice::from(0))
            }
        }
    }
}

impl fmt::Debug for ScramVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScramVerifier")
    }
}

/// A password hash in a form that isn't known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the password's hash has an unknown form")]
pub struct ScramVerifierError;

// === impl Secret ===

impl Secret {
    /// `SCRAM-SHA-256$<iterations>:<salt>$<stored key>:<server key>`, as PostgreSQL stores it.
    fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix("SCRAM-SHA-256$")?;
        let (head, keys) = text.split_once('$')?;
        let (iterations, salt) = head.split_once(':')?;
        let (stored_key, server_key) = keys.split_once(':')?;
        Some(Self {
            salt: BASE64.decode(salt).ok()?,
            iterations: iterations.parse().ok()?,
            stored_key: BASE64.decode(stored_key).ok()?.try_into().ok()?,
            server_key: BASE64.decode(server_key).ok()?.try_into().ok()?,
        })
    }
}

// === impl Exchange ===

impl Exchange {
    /// Takes the mechanism that the client chose and its first message. `end_point` is the
    /// hash of the certificate it saw, where it came through TLS and PLUS was offered.
    pub(super) fn begin(
        verifier: &ScramVerifier,
        user: User<'_>,
        mechanism: &[u8],
        client_first: &[u8],
        end_point: Option<&Bytes>,
    ) -> Result<Self, ScramError> {
        let message = str::from_utf8(client_first).map_err(|_| malformed())?;
        let (flag, rest) = message.split_once(',').ok_or_else(malformed)?;
        let (identity, bare) = rest.split_once(',').ok_or_else(malformed)?;
        let mut binding = format!("{flag},{identity},").into_bytes();
        match (flag, mechanism) {
            ("n", m) if m == SCRAM_SHA_256.as_bytes() => {}
            ("y", m) if m == SCRAM_SHA_256.as_bytes() => {
                if end_point.is_some() {
                    return Err(protocol(
                        "28000",
                        "SCRAM channel binding negotiation error: the client supports channel binding but thinks the server does not",
                    ));
                }
            }
            (flag, m) if m == SCRAM_SHA_256_PLUS.as_bytes() => {
                let kind = flag.strip_prefix("p=").ok_or_else(malformed)?;
                if kind != BINDING_TYPE {
                    return Err(protocol("08P01", "unsupported SCRAM channel-binding type"));
                }
                binding.extend_from_slice(end_point.ok_or_else(unknown_mechanism)?);
            }
            (_, m) if m == SCRAM_SHA_256.as_bytes() => return Err(malformed()),
            _ => return Err(unknown_mechanism()),
        }
        if !identity.is_empty() {
            return Err(protocol(
                "0A000",
                "client uses authorization identity, but it is not supported",
            ));
        }
        let nonce = client_nonce(bare)?;
        let (secret, known) = verifier.secret_for(user);
        let own: [u8; NONCE_BYTES] = rand::random();
        let nonce = format!("{nonce}{}", BASE64.encode(own));
        let server_first = format!(
            "r={nonce},s={},i={}",
            BASE64.encode(&secret.salt),
            secret.iterations
        );
        Ok(Self {
            secret,
            known,
            binding,
            nonce,
            client_first_bare: bare.to_owned(),
            server_first,
        })
    }

    /// The server's first message.
    pub(super) fn challenge(&self) -> &str {
        &self.server_first
    }

    /// Takes the client's last message; gives the server's, by which the client knows that
    /// the server has the secret too.
    pub(super) fn finish(self, client_final: &[u8]) -> Result<String, ScramError> {
        let message = str::from_utf8(client_final).map_err(|_| malformed())?;
        let (unproven, proof) = message.rsplit_once(",p=").ok_or_else(malformed)?;
        let mut attributes = unproven.split(',');
        let mut attribute = |name| attributes.next().and_then(|text| text.strip_prefix(name));
        let binding = attribute("c=").ok_or_else(malformed)?;
        let nonce = attribute("r=").ok_or_else(malformed)?;
        if BASE64.decode(binding).ok().as_ref() != Some(&self.binding) {
            return Err(protocol("28000", "SCRAM channel binding check failed"));
        }
        if nonce != self.nonce {
            return Err(protocol(
                "08P01",
                "invalid SCRAM response: nonce does not match",
            ));
        }
        let proof: Key = BASE64
            .decode(proof)
            .ok()
            .and_then(|proof| proof.try_into().ok())
            .ok_or_else(malformed)?;

        let auth_message = [
            self.client_first_bare.as_bytes(),
            b",",
            self.server_first.as_bytes(),
            b",",
            unproven.as_bytes(),
        ];
        let mut client_key = hmac(&self.secret.stored_key, &auth_message);
        for (byte, proof) in client_key.iter_mut().zip(proof) {
            *byte ^= proof;
        }
        let stored_key: Key = Sha256::digest(client_key).into();
        if !bool::from(stored_key.ct_eq(&self.secret.stored_key) & self.known) {
            return Err(ScramError::WrongPassword);
        }
        let signature = hmac(&self.secret.server_key, &auth_message);
        Ok(format!("v={}", BASE64.encode(signature)))
    }
}

/// `n=<ignored>,r=<nonce>`, and extensions, which are ignored. `m=` would be one that mustn't.
fn client_nonce(bare: &str) -> Result<&str, ScramError> {
    let mut attributes = bare.split(',');
    let first = attributes.next().ok_or_else(malformed)?;
    if first.starts_with("m=") {
        return Err(protocol(
            "0A000",
            "client requires an unsupported SCRAM extension",
        ));
    }
    if !first.starts_with("n=") {
        return Err(malformed());
    }
    attributes
        .next()
        .and_then(|attribute| attribute.strip_prefix("r="))
        .filter(|nonce| !nonce.is_empty() && nonce.bytes().all(|b| matches!(b, 0x21..=0x7e)))
        .ok_or_else(malformed)
}

fn hmac(key: &Key, parts: &[&[u8]]) -> Key {
    // HMAC fills a short key up with zeros itself; a whole block can't be refused.
    let mut block = [0; 64];
    block[..key.len()].copy_from_slice(key);
    let mut mac = Hmac::<Sha256>::new(&block.into());
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

fn protocol(sqlstate: &'static str, message: &'static str) -> ScramError {
    ScramError::Protocol { sqlstate, message }
}

fn malformed() -> ScramError {
    protocol("08P01", "malformed SCRAM message")
}

fn unknown_mechanism() -> ScramError {
    protocol(
        "08P01",
        "client selected an invalid SASL authentication mechanism",
    )
}

#[cfg(test)]
mod tests {
    use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
    use proptest::prelude::*;

    use super::*;

    /// Runs postgres-protocol's client against the exchange; the outcome of both sides.
    fn log_in(
        verifier: &ScramVerifier,
        user: User<'_>,
        password: &str,
        mechanism: &str,
        client: ChannelBinding,
        end_point: Option<&Bytes>,
    ) -> Result<(), ScramError> {
        let mut client = ScramSha256::new(password.as_bytes(), client);
        let exchange = Exchange::begin(
            verifier,
            user,
            mechanism.as_bytes(),
            client.message(),
            end_point,
        )?;
        client.update(exchange.challenge().as_bytes()).unwrap();
        let last = exchange.finish(client.message())?;
        client.finish(last.as_bytes()).unwrap();
        Ok(())
    }

    fn verifier(password: &str) -> ScramVerifier {
        ScramVerifier::new(&SecretString::from(password)).unwrap()
    }

    fn plain(verifier: &ScramVerifier, user: User<'_>, password: &str) -> Result<(), ScramError> {
        let binding = ChannelBinding::unsupported();
        log_in(verifier, user, password, SCRAM_SHA_256, binding, None)
    }

    #[test]
    fn only_the_right_user_with_the_right_password_gets_in() {
        let verifier = verifier("right");
        assert_eq!(plain(&verifier, User::Known, "right"), Ok(()));
        let wrong = Err(ScramError::WrongPassword);
        assert_eq!(plain(&verifier, User::Known, "wrong"), wrong);
        assert_eq!(plain(&verifier, User::Unknown(b"ann"), "right"), wrong);
    }

    #[test]
    fn an_unknown_user_looks_like_a_known_one() {
        let verifier = verifier("right");
        let shape = |user| {
            let exchange =
                Exchange::begin(&verifier, user, b"SCRAM-SHA-256", b"n,,n=,r=x", None).unwrap();
            let (_, rest) = exchange.challenge().split_once(",s=").unwrap();
            rest.to_owned()
        };
        assert_eq!(shape(User::Unknown(b"ann")), shape(User::Unknown(b"ann")));
        assert_ne!(shape(User::Unknown(b"ann")), shape(User::Unknown(b"bob")));
        let length = |user| shape(user).len();
        assert_eq!(length(User::Known), length(User::Unknown(b"ann")));
    }

    #[test]
    fn channel_binding_is_checked() {
        let verifier = verifier("right");
        let end_point = Bytes::from_static(b"hash");
        let run = |mechanism, client, server: Option<&Bytes>| {
            log_in(&verifier, User::Known, "right", mechanism, client, server)
        };
        let bound = |hash: &[u8]| ChannelBinding::tls_server_end_point(hash.to_vec());
        assert_eq!(
            run(SCRAM_SHA_256_PLUS, bound(b"hash"), Some(&end_point)),
            Ok(())
        );
        assert!(run(SCRAM_SHA_256_PLUS, bound(b"other"), Some(&end_point)).is_err());
        assert!(run(SCRAM_SHA_256_PLUS, bound(b"hash"), None).is_err());
        assert!(run(SCRAM_SHA_256, bound(b"hash"), Some(&end_point)).is_err());
        // A client whose offer of PLUS was taken away on the way.
        assert!(
            run(
                SCRAM_SHA_256,
                ChannelBinding::unrequested(),
                Some(&end_point)
            )
            .is_err()
        );
        assert_eq!(
            run(SCRAM_SHA_256, ChannelBinding::unrequested(), None),
            Ok(())
        );
    }

    #[test]
    fn a_changed_nonce_or_binding_is_refused() {
        let verifier = verifier("right");
        for change in ["r=", "c="] {
            let mut client = ScramSha256::new(b"right", ChannelBinding::unsupported());
            let exchange = Exchange::begin(
                &verifier,
                User::Known,
                b"SCRAM-SHA-256",
                client.message(),
                None,
            )
            .unwrap();
            client.update(exchange.challenge().as_bytes()).unwrap();
            let last = str::from_utf8(client.message()).unwrap();
            let changed = last.replacen(change, &format!("{change}A"), 1);
            assert!(exchange.finish(changed.as_bytes()).is_err(), "{change}");
        }
    }

    #[test]
    fn what_the_client_may_not_ask_is_refused() {
        let verifier = verifier("right");
        for first in [
            "n,a=root,n=,r=x",
            "n,,m=new,n=,r=x",
            "n,,n=,r=",
            "n,,r=x",
            "p=tls-unique,,n=,r=x",
            "",
        ] {
            let begun = Exchange::begin(
                &verifier,
                User::Known,
                b"SCRAM-SHA-256",
                first.as_bytes(),
                None,
            );
            assert!(begun.is_err(), "{first}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn any_password_works_and_no_other(password in "\\PC{1,40}", other in "\\PC{1,40}") {
            let verifier = verifier(&password);
            prop_assert_eq!(plain(&verifier, User::Known, &password), Ok(()));
            // SASLprep maps some different texts to one.
            let prepared = |text: &str| {
                stringprep::saslprep(text).map_or_else(|_| text.to_owned(), |text| text.into_owned())
            };
            if prepared(&other) != prepared(&password) {
                prop_assert!(plain(&verifier, User::Known, &other).is_err());
            }
        }
    }

    proptest! {
        #[test]
        fn arbitrary_messages_never_panic_and_never_get_in(
            first in "[nyp][,=a-z]{0,20}r=[a-z]{0,9}.{0,20}",
            last in "(c=biws,r=)?.{0,60}(,p=[A-Za-z0-9+/=]{0,50})?",
        ) {
            let secret = Secret { salt: vec![0; 16], iterations: 1, stored_key: [1; 32], server_key: [2; 32] };
            let verifier = ScramVerifier { secret, mock: [3; 32] };
            for first in [first.as_str(), "n,,n=,r=x"] {
                if let Ok(exchange) = Exchange::begin(
                    &verifier, User::Known, b"SCRAM-SHA-256", first.as_bytes(), None,
                ) {
                    prop_assert!(exchange.finish(last.as_bytes()).is_err());
                }
            }
        }
    }
}
