//! What the log-ins need to know of a certificate: its hash for channel binding, and its key
//! and validity where TLS' own library doesn't take the certificate. Pure.

use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer, UnixTime};
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};
use x509_cert::{
    Certificate,
    der::{
        Decode, Encode, Reader, SliceReader, TagNumber,
        asn1::{AnyRef, ContextSpecific, ObjectIdentifier},
        oid::db::rfc5912,
    },
    spki::AlgorithmIdentifierRef,
};

/// The hash that stands for a certificate in `tls-server-end-point` channel binding (RFC
/// 5929, section 4.1): by the hash function of its signature, SHA-256 in the place of MD5
/// and SHA-1. `None` where the signature has no hash of its own (Ed25519) or isn't known, and
/// channel binding is therefore undefined.
pub(super) fn end_point_hash(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let parsed = Certificate::from_der(certificate).ok()?;
    let signature = parsed.signature_algorithm();
    let algorithm = if signature.oid == rfc5912::ID_RSASSA_PSS {
        pss_hash(&signature.parameters.as_ref()?.to_der().ok()?)?
    } else {
        signature.oid
    };
    let hash = match algorithm {
        rfc5912::MD_5_WITH_RSA_ENCRYPTION
        | rfc5912::SHA_1_WITH_RSA_ENCRYPTION
        | rfc5912::ID_SHA_1
        | rfc5912::SHA_256_WITH_RSA_ENCRYPTION
        | rfc5912::ECDSA_WITH_SHA_256
        | rfc5912::ID_SHA_256 => Sha256::digest(certificate).to_vec(),
        rfc5912::SHA_224_WITH_RSA_ENCRYPTION
        | rfc5912::ECDSA_WITH_SHA_224
        | rfc5912::ID_SHA_224 => Sha224::digest(certificate).to_vec(),
        rfc5912::SHA_384_WITH_RSA_ENCRYPTION
        | rfc5912::ECDSA_WITH_SHA_384
        | rfc5912::ID_SHA_384 => Sha384::digest(certificate).to_vec(),
        rfc5912::SHA_512_WITH_RSA_ENCRYPTION
        | rfc5912::ECDSA_WITH_SHA_512
        | rfc5912::ID_SHA_512 => Sha512::digest(certificate).to_vec(),
        _ => return None,
    };
    Some(hash)
}

/// The public key of a certificate of any X.509 version.
pub(super) fn public_key(
    certificate: &CertificateDer<'_>,
) -> Option<SubjectPublicKeyInfoDer<'static>> {
    let parsed = Certificate::from_der(certificate).ok()?;
    let key = parsed.tbs_certificate().subject_public_key_info();
    Some(SubjectPublicKeyInfoDer::from(key.to_der().ok()?))
}

/// Whether `now` lies in the time that a certificate was issued for.
pub(super) fn is_valid_at(certificate: &CertificateDer<'_>, now: UnixTime) -> bool {
    let Ok(parsed) = Certificate::from_der(certificate) else {
        return false;
    };
    let validity = parsed.tbs_certificate().validity();
    let from = validity.not_before.to_unix_duration().as_secs();
    let until = validity.not_after.to_unix_duration().as_secs();
    (from..=until).contains(&now.as_secs())
}

/// The hash function in RSASSA-PSS' parameters (RFC 4055, section 3.1): field 0, SHA-1 where
/// it is left out.
fn pss_hash(parameters: &[u8]) -> Option<ObjectIdentifier> {
    let mut reader = SliceReader::new(AnyRef::from_der(parameters).ok()?.value()).ok()?;
    if reader.is_finished() {
        return Some(rfc5912::ID_SHA_1);
    }
    let hash: Option<ContextSpecific<AlgorithmIdentifierRef<'_>>> =
        ContextSpecific::decode_explicit(&mut reader, TagNumber(0)).ok()?;
    Some(hash.map_or(rfc5912::ID_SHA_1, |hash| hash.value.oid))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn certificate(algorithm: &'static rcgen::SignatureAlgorithm) -> CertificateDer<'static> {
        let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
        rcgen::CertificateParams::new(vec!["localhost".into()])
            .unwrap()
            .self_signed(&key)
            .unwrap()
            .der()
            .clone()
    }

    #[test]
    fn the_hash_is_the_signatures_own() {
        let p256 = certificate(&rcgen::PKCS_ECDSA_P256_SHA256);
        assert_eq!(end_point_hash(&p256), Some(Sha256::digest(&p256).to_vec()));
        let p384 = certificate(&rcgen::PKCS_ECDSA_P384_SHA384);
        assert_eq!(end_point_hash(&p384), Some(Sha384::digest(&p384).to_vec()));
        assert_eq!(end_point_hash(&certificate(&rcgen::PKCS_ED25519)), None);
    }

    #[test]
    fn pss_names_its_hash_in_the_parameters() {
        // SEQUENCE { [0] { SEQUENCE { id-sha384, NULL } } }, and an empty one.
        let sha384 = b"\x30\x11\xa0\x0f\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x02\x05\0";
        assert_eq!(pss_hash(sha384), Some(rfc5912::ID_SHA_384));
        assert_eq!(pss_hash(b"\x30\0"), Some(rfc5912::ID_SHA_1));
        assert_eq!(pss_hash(b"\x30\x01\xff"), None);
    }

    #[test]
    fn keys_and_validity_are_read() {
        let certificate = certificate(&rcgen::PKCS_ECDSA_P256_SHA256);
        assert!(public_key(&certificate).is_some());
        assert!(is_valid_at(&certificate, UnixTime::now()));
        let era = UnixTime::since_unix_epoch(std::time::Duration::ZERO);
        assert!(!is_valid_at(&certificate, era));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = pss_hash(&bytes);
            let certificate = CertificateDer::from(bytes);
            assert_eq!(end_point_hash(&certificate), None);
            assert!(public_key(&certificate).is_none());
            assert!(!is_valid_at(&certificate, UnixTime::now()));
        }
    }
}
