//! The bastion's host key, as the provider's API gives it.

use russh::keys::{Algorithm, HashAlg, PublicKey};

/// The only key that a bastion may show. There is no trust on first use.
#[derive(Debug, Clone)]
pub struct HostKey(PublicKey);

// === impl HostKey ===

impl HostKey {
    /// From the API's `<format> <base64>`.
    ///
    /// # Errors
    /// A sentence's end, where the text is no SSH public key.
    pub fn parse(text: &str) -> Result<Self, String> {
        PublicKey::from_openssh(text.trim())
            .map(Self)
            .map_err(|error| format!("the API's SSH host key can't be read: {error}"))
    }

    /// Whether a server's key is this one. Only the key itself counts, not its comment.
    pub fn matches(&self, key: &PublicKey) -> bool {
        self.0.key_data() == key.key_data()
    }

    /// The algorithms to offer: only this key's, so that the server can't show another key
    /// that it also has. An RSA key signs with SHA-2 only.
    pub fn algorithms(&self) -> Vec<Algorithm> {
        match self.0.algorithm() {
            Algorithm::Rsa { .. } => vec![
                Algorithm::Rsa {
                    hash: Some(HashAlg::Sha512),
                },
                Algorithm::Rsa {
                    hash: Some(HashAlg::Sha256),
                },
            ],
            other => vec![other],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";

    #[test]
    fn a_comment_makes_no_difference() {
        let (Ok(plain), Ok(commented)) = (
            HostKey::parse(KEY),
            HostKey::parse(&format!(" {KEY} root@bastion\n")),
        ) else {
            panic!("both are valid keys");
        };
        assert!(plain.matches(&commented.0));
        assert_eq!(plain.algorithms(), vec![Algorithm::Ed25519]);
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for text in ["", "ssh-ed25519", "ssh-ed25519 !!!!", "garbage"] {
            assert!(HostKey::parse(text).is_err(), "{text:?}");
        }
    }
}
