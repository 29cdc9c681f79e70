//! The daemon's own certificate authority and the certificate it shows to local clients
//! that ask for TLS. The authority is made once and lasts, so that a client which was told
//! to trust it (`sslrootcert`) goes on to; server certificates are made in memory.
//!
//! Of addresses the authority can speak for this machine's loopback only (RFC 5280 name
//! constraints). Of names it can't be limited in the same way: libpq before version 15 finds
//! an address only among a certificate's names, and a TLS library that minds constraints on
//! names (rustls) refuses a certificate with such a name under them. So it is to be trusted
//! for these connections (`sslrootcert`), and not by a whole system.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    NameConstraints, PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls::{
    RootCertStore, ServerConfig,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::CryptoProvider,
    pki_types::{
        CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime, pem::PemObject,
    },
};

use super::{
    Problem,
    disk::{self, Found},
};
use crate::{model::Cause, platform::clock};

/// The protocol that PostgreSQL 17 and later names in ALPN.
const ALPN: &[u8] = b"postgresql";

/// The names that a client may call this machine by. The last is for libpq before version 15,
/// which looks for an address among them.
const NAMES: [&str; 3] = ["localhost", "*.localhost", "127.0.0.1"];

/// How long a server certificate is valid: under the 398 days that the strictest clients
/// accept.
const LEAF_LIFE: SignedDuration = SignedDuration::from_hours(397 * 24);

/// How long before its end a server certificate is replaced.
const RENEW_BEFORE: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Clocks of two clients of one machine don't differ, but a virtual machine's may jump.
const BACKDATED: SignedDuration = SignedDuration::from_hours(24);

/// TLS towards local clients. Clones share one authority.
#[derive(Clone)]
pub struct LocalTls {
    authority: Arc<Authority>,
    current: Arc<Mutex<(Arc<LocalIdentity>, Timestamp)>>,
}

/// A server certificate and the configuration that shows it. A connection takes both at
/// once: SCRAM's channel binding needs the very certificate that its client saw.
#[derive(Debug, Clone)]
pub struct LocalIdentity {
    /// TLS 1.2 and 1.3 with ALPN `postgresql` for clients that ask for it.
    pub server_config: Arc<ServerConfig>,
    /// The certificate, signed with ECDSA and SHA-256.
    pub certificate: CertificateDer<'static>,
}

struct Authority {
    ca_file: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    provider: Arc<CryptoProvider>,
}

// === impl LocalTls ===

impl LocalTls {
    pub(super) fn open(
        state_dir: &Path,
        now: Timestamp,
        problems: &mut Vec<Problem>,
    ) -> Result<Self, Cause> {
        let authority = Authority::open(&state_dir.join("tls"), now, problems)?;
        let identity = authority.identity(now)?;
        Ok(Self {
            authority: Arc::new(authority),
            current: Arc::new(Mutex::new((
                Arc::new(identity),
                clock::shifted(now, LEAF_LIFE - RENEW_BEFORE),
            ))),
        })
    }

    /// The certificate of the moment; a new one where the last nears its end. Takes a
    /// signature's time then, and nothing otherwise.
    pub fn identity(&self, now: Timestamp) -> Arc<LocalIdentity> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if now >= current.1 {
            match self.authority.identity(now) {
                Ok(identity) => {
                    let again = clock::shifted(now, LEAF_LIFE - RENEW_BEFORE);
                    *current = (Arc::new(identity), again);
                }
                // The old one may still do; a client that minds its date says so.
                Err(cause) => tracing::error!(%cause, "the local certificate can't be renewed"),
            }
        }
        Arc::clone(&current.0)
    }

    /// The PEM file for a client's `sslrootcert`.
    pub fn ca_file(&self) -> &Path {
        &self.authority.ca_file
    }
}

impl fmt::Debug for LocalTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalTls")
            .field("ca_file", &self.authority.ca_file)
            .finish_non_exhaustive()
    }
}

// === impl Authority ===

impl Authority {
    /// Takes the authority that is in the directory, or makes one.
    fn open(dir: &Path, now: Timestamp, problems: &mut Vec<Problem>) -> Result<Self, Cause> {
        disk::private_dir(dir).map_err(|error| disk::unwritable(dir, &error))?;
        let key_file = dir.join("ca-key.pem");
        let key = match disk::read_private(&key_file) {
            Found::Nothing => None,
            Found::Contents(bytes) => match read_key(&bytes) {
                Some(key) => Some(key),
                None => {
                    disk::set_aside(&key_file, "it holds no ECDSA P-256 key", now, problems)?;
                    None
                }
            },
            Found::Unreadable(why) => {
                disk::set_aside(&key_file, &why, now, problems)?;
                None
            }
        };
        let key = match key {
            Some(key) => key,
            None => {
                let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
                disk::replace(&key_file, key.serialize_pem().as_bytes())?;
                key
            }
        };
        let params = authority_params(&key);
        let pem = params.self_signed(&key).map_err(failed)?.pem();
        let authority = Self {
            ca_file: dir.join("ca.pem"),
            issuer: Issuer::new(params, key),
            provider: Arc::new(rustls::crypto::ring::default_provider()),
        };
        // All certificates of one key are as good as each other: a client that keeps a copy
        // of an older one goes on to trust what the key signs.
        if !authority.file_is_good(now)? {
            disk::replace(&authority.ca_file, pem.as_bytes())?;
        }
        Ok(authority)
    }

    /// Whether a client that trusts `ca.pem` accepts what the key signs.
    fn file_is_good(&self, now: Timestamp) -> Result<bool, Cause> {
        let Found::Contents(pem) = disk::read_private(&self.ca_file) else {
            return Ok(false);
        };
        let Ok(ca) = CertificateDer::from_pem_slice(&pem) else {
            return Ok(false);
        };
        let (leaf, _) = self.leaf(now)?;
        Ok(verifies(&self.provider, ca, &leaf, now))
    }

    fn identity(&self, now: Timestamp) -> Result<LocalIdentity, Cause> {
        let (certificate, key) = self.leaf(now)?;
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .map_err(failed)?
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.clone()],
                PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
            )
            .map_err(failed)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(LocalIdentity {
            server_config: Arc::new(config),
            certificate,
        })
    }

    /// A new key and its certificate for every name and address of the loopback interface.
    fn leaf(&self, now: Timestamp) -> Result<(CertificateDer<'static>, KeyPair), Cause> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let mut params = CertificateParams::default();
        for name in NAMES {
            let name = name.try_into().map_err(failed)?;
            params.subject_alt_names.push(SanType::DnsName(name));
        }
        for address in [
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(Ipv6Addr::LOCALHOST),
        ] {
            params.subject_alt_names.push(SanType::IpAddress(address));
        }
        params.distinguished_name = common_name("localhost");
        // Whole days are what rcgen takes without a further crate of dates.
        let day = |at: Timestamp| {
            let date = at.to_zoned(TimeZone::UTC).date();
            let [month, day] = [date.month(), date.day()].map(i8::unsigned_abs);
            rcgen::date_time_ymd(i32::from(date.year()), month, day)
        };
        params.not_before = day(clock::shifted(now, -BACKDATED));
        params.not_after = day(clock::shifted(now, LEAF_LIFE));
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        Ok((certificate.der().clone(), key))
    }
}

/// The same for the same key, whenever it is made: the certificate in the file and the
/// issuer that signs must go by one name.
fn authority_params(key: &KeyPair) -> CertificateParams {
    let mut params = CertificateParams::default();
    let id: String = params
        .key_identifier(key)
        .iter()
        .take(4)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    params.distinguished_name = common_name(&format!("borealisd on this machine {id}"));
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    // RFC 5280, 4.1.2.5: no well-defined expiration date. The key, not a date, ends it.
    params.not_after = rcgen::date_time_ymd(9999, 12, 31);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: vec![
            GeneralSubtree::IpAddress(CidrSubnet::from_v4_prefix([127, 0, 0, 0], 8)),
            GeneralSubtree::IpAddress(CidrSubnet::from_v6_prefix(
                Ipv6Addr::LOCALHOST.octets(),
                128,
            )),
        ],
        excluded_subtrees: Vec::new(),
    });
    params
}

fn read_key(pem: &[u8]) -> Option<KeyPair> {
    let key = KeyPair::from_pem(std::str::from_utf8(pem).ok()?).ok()?;
    key.is_compatible(&PKCS_ECDSA_P256_SHA256).then_some(key)
}

fn verifies(
    provider: &Arc<CryptoProvider>,
    ca: CertificateDer<'static>,
    leaf: &CertificateDer<'_>,
    now: Timestamp,
) -> bool {
    let mut roots = RootCertStore::empty();
    if roots.add(ca).is_err() {
        return false;
    }
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
    let now = UnixTime::since_unix_epoch(
        std::time::Duration::try_from(now.as_duration()).unwrap_or_default(),
    );
    verifier.is_ok_and(|verifier| {
        ["localhost", "127.0.0.1", "::1"].into_iter().all(|name| {
            ServerName::try_from(name).is_ok_and(|name| {
                verifier
                    .verify_server_cert(leaf, &[], &name, &[], now)
                    .is_ok()
            })
        })
    })
}

fn common_name(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

/// Keys and certificates are made without any input from outside.
fn failed(error: impl fmt::Display) -> Cause {
    Cause::Internal {
        detail: format!("the local certificate can't be made: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn now() -> Timestamp {
        "2026-11-22T17:37:57Z".parse().unwrap()
    }

    fn open(dir: &Path) -> (LocalTls, Vec<Problem>) {
        let mut problems = Vec::new();
        (LocalTls::open(dir, now(), &mut problems).unwrap(), problems)
    }

    fn accepted(tls: &LocalTls, ca_pem: &[u8], at: Timestamp) -> bool {
        let ca = CertificateDer::from_pem_slice(ca_pem).unwrap();
        verifies(
            &tls.authority.provider,
            ca,
            &tls.identity(at).certificate,
            at,
        )
    }

    #[test]
    fn the_authority_lasts_and_its_certificates_are_renewed() {
        let dir = tempfile::tempdir().unwrap();
        let (tls, problems) = open(dir.path());
        assert_eq!(problems, []);
        let ca = fs::read(tls.ca_file()).unwrap();
        let first = tls.identity(now()).certificate.clone();
        assert!(accepted(&tls, &ca, now()));
        assert_eq!(tls.identity(now()).certificate, first);

        let near_the_end = now() + LEAF_LIFE - RENEW_BEFORE;
        assert!(accepted(&tls, &ca, near_the_end));
        assert_ne!(tls.identity(near_the_end).certificate, first);
        for years in [3, 30] {
            assert!(accepted(
                &tls,
                &ca,
                now() + SignedDuration::from_hours(years * 365 * 24)
            ));
        }

        let (again, problems) = open(dir.path());
        assert_eq!(problems, []);
        assert_eq!(fs::read(again.ca_file()).unwrap(), ca);
        assert!(accepted(&again, &ca, now()));
    }

    #[test]
    fn a_lost_certificate_comes_back_with_the_same_key() {
        let dir = tempfile::tempdir().unwrap();
        let (tls, _) = open(dir.path());
        let copy_of_a_client = fs::read(tls.ca_file()).unwrap();
        for damaged in ["", "garbage"] {
            fs::write(tls.ca_file(), damaged).unwrap();
            let (again, problems) = open(dir.path());
            assert_eq!(problems, []);
            assert!(accepted(&again, &copy_of_a_client, now()));
            assert!(accepted(&again, &fs::read(again.ca_file()).unwrap(), now()));
        }
    }

    #[test]
    fn a_damaged_key_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let (tls, _) = open(dir.path());
        let old_ca = fs::read(tls.ca_file()).unwrap();
        fs::write(dir.path().join("tls/ca-key.pem"), "garbage").unwrap();
        let (again, problems) = open(dir.path());
        assert_eq!(problems.len(), 1);
        assert!(!accepted(&again, &old_ca, now()));
        assert!(accepted(&again, &fs::read(again.ca_file()).unwrap(), now()));
    }

    #[test]
    fn the_authority_speaks_for_loopback_addresses_only() {
        let dir = tempfile::tempdir().unwrap();
        let (tls, _) = open(dir.path());
        let ca = CertificateDer::from_pem_file(tls.ca_file()).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let elsewhere = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
        params.subject_alt_names.push(SanType::IpAddress(elsewhere));
        let foreign = params.signed_by(&key, &tls.authority.issuer).unwrap();
        assert!(!verifies(&tls.authority.provider, ca, foreign.der(), now()));
    }

    /// libpq before version 15 compares the host with names only, and takes the common name
    /// only where there is none.
    #[test]
    fn an_old_libpq_finds_the_address_among_the_names() {
        use x509_cert::{
            Certificate,
            der::Decode as _,
            ext::pkix::{SubjectAltName, name::GeneralName},
        };
        let dir = tempfile::tempdir().unwrap();
        let (tls, _) = open(dir.path());
        let shown = tls.identity(now());
        let certificate = Certificate::from_der(&shown.certificate).unwrap();
        let (_, found) = certificate
            .tbs_certificate()
            .get_extension::<SubjectAltName>()
            .unwrap()
            .unwrap();
        let names: Vec<_> = found
            .0
            .iter()
            .filter_map(|name| match name {
                GeneralName::DnsName(name) => Some(name.as_str().to_owned()),
                _ => None,
            })
            .collect();
        assert_eq!(names, NAMES);
    }

    /// An authority whose certificate allows only the names of an earlier version.
    #[test]
    fn a_certificate_that_lacks_the_names_is_made_anew_with_the_same_key() {
        let dir = tempfile::tempdir().unwrap();
        let (tls, _) = open(dir.path());
        let key_file = dir.path().join("tls/ca-key.pem");
        let key_before = fs::read(&key_file).unwrap();
        let key = read_key(&key_before).unwrap();
        let mut params = authority_params(&key);
        if let Some(constraints) = &mut params.name_constraints {
            let names = GeneralSubtree::DnsName("localhost".to_owned());
            constraints.permitted_subtrees.push(names);
        }
        fs::write(tls.ca_file(), params.self_signed(&key).unwrap().pem()).unwrap();
        let (again, problems) = open(dir.path());
        assert_eq!(problems, []);
        assert_eq!(fs::read(&key_file).unwrap(), key_before);
        let ca = fs::read(again.ca_file()).unwrap();
        assert!(accepted(&again, &ca, now()));
    }

    #[test]
    fn a_clock_near_the_end_of_time_makes_no_panic() {
        let dir = tempfile::tempdir().unwrap();
        LocalTls::open(dir.path(), Timestamp::MAX, &mut Vec::new()).unwrap();
    }
}
