//! Makes what a provider issues: names, ids, passwords, tokens and keys. All of it is
//! random, so that nothing issued by one sandbox is of use in another.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::SystemTime,
};

use jiff::Timestamp;
use rand::RngExt as _;
use russh::keys::{
    Algorithm, PrivateKey,
    ssh_key::{LineEnding, Result as KeyResult},
};

/// Has the characters that URLs, pgpass files and shells treat specially, and none that
/// the config variable's own format does.
const PASSWORD_CHARACTERS: &[u8] =
    b"ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789@/:%+&=#?!-_.~";
const TOKEN_CHARACTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// `length` lower-case hexadecimal digits.
pub(crate) fn hex(length: usize) -> String {
    pick(b"0123456789abcdef", length)
}

/// A role's name: hexadecimal, and beginning with a letter.
pub(crate) fn role_name() -> String {
    pick(b"abcdef", 1) + &hex(15)
}

/// A password for a database role.
pub(crate) fn password() -> String {
    pick(PASSWORD_CHARACTERS, 32)
}

/// A user's token of the form that Heroku gives out since 2024.
pub(crate) fn user_token() -> String {
    format!("HRKU-{}", pick(TOKEN_CHARACTERS, 60))
}

/// The token of a short-lived authorization, and other opaque tokens.
pub(crate) fn opaque_token() -> String {
    format!("HRKU-{}", pick(TOKEN_CHARACTERS, 58))
}

/// A UUID. Its first group counts upwards, so that a list ordered by id is in the order
/// in which things were made.
pub(crate) fn id() -> String {
    static MADE: AtomicU32 = AtomicU32::new(0x0b0e_a115);
    let count = MADE.fetch_add(1, Ordering::Relaxed);
    format!("{count:08x}-{}-4{}-a{}-{}", hex(4), hex(3), hex(3), hex(12))
}

/// The time, to the second, as the APIs tell it.
pub(crate) fn now() -> Timestamp {
    let now = Timestamp::try_from(SystemTime::now()).unwrap_or(Timestamp::MAX);
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

/// An Ed25519 key pair.
pub(crate) fn key() -> KeyResult<PrivateKey> {
    PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519)
}

/// A private key as OpenSSH writes it.
pub(crate) fn key_text(key: &PrivateKey) -> KeyResult<String> {
    Ok(key.to_openssh(LineEnding::LF)?.to_string())
}

fn pick(characters: &[u8], length: usize) -> String {
    let mut rng = rand::rng();
    (0..length)
        .map(|_| char::from(characters[rng.random_range(0..characters.len())]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_ordered_by_age() {
        let (first, second) = (id(), id());
        assert!(first < second, "{first} {second}");
        assert_eq!(first.len(), 36);
    }

    #[test]
    fn passwords_fit_into_the_config_variable() {
        for _ in 0..200 {
            let password = password();
            assert!(!password.contains(['|', '\\', '\'', '"', ' ']));
        }
    }

    #[test]
    fn role_names_begin_with_a_letter() {
        for _ in 0..50 {
            assert!(role_name().starts_with(|c: char| c.is_ascii_alphabetic()));
        }
    }
}
