//! TLS towards the database, as libpq's `sslmode` has it.

use std::{
    collections::HashSet,
    fmt,
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{
        CryptoProvider, ring::kx_group, verify_tls12_signature, verify_tls13_signature,
        verify_tls13_signature_with_raw_key,
    },
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};
use tokio::io::AsyncReadExt;
use tokio_rustls::TlsConnector;

use super::LoginError;
use crate::model::HostPort;
use crate::postgres::{ALPN, MaybeTls, PrefixedIo, Stream, certificate, startup, wire};

/// What is asked of the connection to the database, inside the tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpstreamTlsMode {
    /// TLS where the server has it, else plain text. The certificate isn't verified. Unlike
    /// libpq, a handshake that fails isn't followed by a second try in plain text.
    Prefer,
    /// TLS. The certificate isn't verified, but a server that offers channel binding proves
    /// with SCRAM that it knows the password's secret and holds the certificate.
    Require,
    /// Plain text; the server isn't asked.
    Disable,
    /// TLS with a certificate that one of these authorities signed, whatever its name: the
    /// name that the provider gives the server is one within its own network.
    VerifyCa(Vec<CertificateDer<'static>>),
}

/// A mode, ready to be used for any number of connections. Cheap to clone.
#[derive(Clone)]
pub struct UpstreamTls {
    mode: Demand,
    connector: Option<TlsConnector>,
    /// Servers that have had TLS. One that has none any more may be somebody else.
    had_tls: Arc<Mutex<HashSet<HostPort>>>,
}

/// Why a mode can't be used.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamTlsError {
    /// The file of authorities has none.
    #[error("there is no certificate to verify the database's against")]
    NoAuthority,
    /// A certificate of the file, or TLS' own setup.
    #[error("the certificate to verify the database's against can't be used: {0}")]
    Unusable(#[from] Error),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Demand {
    Disable,
    Prefer,
    Require,
}

// === impl UpstreamTls ===

impl UpstreamTls {
    /// Sets a mode up.
    ///
    /// # Errors
    /// When `VerifyCa` has no certificate, or one that isn't any.
    pub fn new(mode: UpstreamTlsMode) -> Result<Self, UpstreamTlsError> {
        let (mode, authorities) = match mode {
            UpstreamTlsMode::Disable => {
                return Ok(Self {
                    mode: Demand::Disable,
                    connector: None,
                    had_tls: Arc::default(),
                });
            }
            UpstreamTlsMode::Prefer => (Demand::Prefer, None),
            UpstreamTlsMode::Require => (Demand::Require, None),
            UpstreamTlsMode::VerifyCa(authorities) => {
                (Demand::Require, Some(Authorities::new(authorities)?))
            }
        };
        let provider = Arc::new(CryptoProvider {
            // PostgreSQL up to 17 knows only this one unless it is told (`ssl_ecdh_curve`); any
            // other first guess costs a round trip more.
            kx_groups: vec![kx_group::SECP256R1, kx_group::X25519, kx_group::SECP384R1],
            ..rustls::crypto::ring::default_provider()
        });
        let verifier = Verifier {
            provider: Arc::clone(&provider),
            authorities,
        };
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        config.alpn_protocols = vec![ALPN.to_vec()];
        // PostgreSQL resumes no sessions, and a resumed one would show no certificate to bind
        // the log-in to.
        config.resumption = Resumption::disabled();
        Ok(Self {
            mode,
            connector: Some(TlsConnector::from(Arc::new(config))),
            had_tls: Arc::default(),
        })
    }

    /// The same, which knows what the one before it has seen of servers.
    #[must_use]
    pub fn after(self, before: &Self) -> Self {
        let had_tls = Arc::clone(&before.had_tls);
        Self { had_tls, ..self }
    }

    /// Whether the server has had TLS, and should still have it: a user who wants none of it
    /// knows why it is gone.
    pub(super) fn has_lost_tls(&self, server: &HostPort) -> bool {
        self.mode != Demand::Disable && self.servers().contains(server)
    }

    fn servers(&self) -> MutexGuard<'_, HashSet<HostPort>> {
        self.had_tls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the server for TLS as the mode says. Gives the stream and the hash of the
    /// server's certificate for channel binding.
    pub(super) async fn secure<S: Stream>(
        &self,
        mut channel: S,
        server: &HostPort,
    ) -> Result<(MaybeTls<S>, Option<Vec<u8>>), LoginError> {
        let Some(connector) = &self.connector else {
            return Ok((MaybeTls::Plain(channel), None));
        };
        wire::send(&mut channel, &startup::ssl_request()).await?;
        match channel.read_u8().await? {
            b'S' => {}
            b'N' if self.mode == Demand::Prefer => return Ok((MaybeTls::Plain(channel), None)),
            b'N' => return Err(LoginError::Tls("the server doesn't offer TLS".into())),
            // What follows is an error without protection, in a form that depends on how far
            // the server got. libpq doesn't show it either (CVE-2024-10977).
            b'E' => {
                return Err(LoginError::Protocol(
                    "the server answered the request for TLS with an error; it may be short of resources".into(),
                ));
            }
            other => {
                return Err(LoginError::Protocol(format!(
                    "the server answered the request for TLS with {:?}; it may not be PostgreSQL",
                    char::from(other)
                )));
            }
        }
        // An address sends no server name, which is what libpq does for addresses too.
        let name = ServerName::try_from(server.host.clone())
            .unwrap_or_else(|_| ServerName::from(Ipv4Addr::LOCALHOST));
        let stream = connector
            .connect(name, PrefixedIo::new(bytes::Bytes::new(), channel))
            .await
            .map_err(|error| match error.downcast::<Error>() {
                Ok(error) => LoginError::Tls(error.to_string()),
                Err(error) => LoginError::Lost(error),
            })?;
        let end_point = stream
            .get_ref()
            .1
            .peer_certificates()
            .and_then(<[_]>::first)
            .and_then(certificate::end_point_hash);
        self.servers().insert(server.clone());
        Ok((MaybeTls::within(stream), end_point))
    }
}

impl fmt::Debug for UpstreamTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UpstreamTls({:?})", self.mode)
    }
}

/// Verifies the server's certificate against authorities where there are any, never its
/// name; and always that the server holds the certificate's key, which channel binding
/// rests on.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    authorities: Option<Authorities>,
}

#[derive(Debug)]
struct Authorities {
    certificates: Vec<CertificateDer<'static>>,
    roots: RootCertStore,
}

// === impl Authorities ===

impl Authorities {
    fn new(certificates: Vec<CertificateDer<'static>>) -> Result<Self, UpstreamTlsError> {
        if certificates.is_empty() {
            return Err(UpstreamTlsError::NoAuthority);
        }
        let mut roots = RootCertStore::empty();
        for certificate in &certificates {
            roots.add(certificate.clone())?;
        }
        Ok(Self {
            certificates,
            roots,
        })
    }
}

// === impl Verifier ===

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(authorities) = &self.authorities else {
            return Ok(ServerCertVerified::assertion());
        };
        // A server's self-signed certificate that was given as the authority: OpenSSL, and so
        // libpq, takes it, where the web's rules want two.
        let given = authorities.certificates.iter().any(|ca| ca == end_entity);
        if given && certificate::is_valid_at(end_entity, now) {
            return Ok(ServerCertVerified::assertion());
        }
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(end_entity)?,
            &authorities.roots,
            intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        )
        .map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        match verify_tls13_signature(message, cert, dss, algorithms) {
            // An X.509 version 1 certificate, as `openssl x509 -req` makes them and as
            // PostgreSQL's manual had it for long, isn't parsed by TLS' library; its key is
            // as good as any.
            Err(Error::InvalidCertificate(error)) => {
                let key = certificate::public_key(cert).ok_or(Error::InvalidCertificate(error))?;
                verify_tls13_signature_with_raw_key(message, &key, dss, algorithms)
            }
            outcome => outcome,
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_are_checked_when_they_are_set() {
        let none = UpstreamTls::new(UpstreamTlsMode::VerifyCa(vec![]));
        assert!(
            matches!(none, Err(UpstreamTlsError::NoAuthority)),
            "{none:?}"
        );
        let garbage = vec![CertificateDer::from(vec![1, 2, 3])];
        let garbage = UpstreamTls::new(UpstreamTlsMode::VerifyCa(garbage));
        assert!(
            matches!(garbage, Err(UpstreamTlsError::Unusable(_))),
            "{garbage:?}"
        );
    }
}
