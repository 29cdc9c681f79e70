//! TLS towards clients, with the daemon's own certificate.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use rustls::{ServerConfig, pki_types::CertificateDer};
use tokio_rustls::TlsAcceptor;

use super::ClientError;
use crate::postgres::{ALPN, MaybeTls, PrefixedIo, Stream, certificate, wire};

/// What a client that asks for TLS gets.
#[derive(Debug, Clone)]
pub enum TlsOffer {
    /// A no, with which clients of `sslmode=prefer` go on in plain text. For Unix sockets,
    /// where libpq doesn't ask.
    Declined,
    /// TLS.
    Offered(LocalTls),
}

/// A certificate with its key, ready to be served, and its hash for channel binding. Cheap
/// to clone.
#[derive(Clone)]
pub struct LocalTls {
    acceptor: TlsAcceptor,
    end_point: Option<Bytes>,
}

// === impl LocalTls ===

impl LocalTls {
    /// From a configuration that shows this certificate and no other, and that offers the
    /// ALPN protocol `postgresql`, without which direct TLS is refused.
    pub fn from_config(config: Arc<ServerConfig>, own: &CertificateDer<'_>) -> Self {
        Self {
            acceptor: TlsAcceptor::from(config),
            end_point: certificate::end_point_hash(own).map(Bytes::from),
        }
    }

    async fn accept<S: Stream>(&self, first: Bytes, stream: S) -> Result<MaybeTls<S>, ClientError> {
        let stream = self
            .acceptor
            .accept(PrefixedIo::new(first, stream))
            .await
            .map_err(|error| ClientError::Tls(error.to_string()))?;
        Ok(MaybeTls::within(stream))
    }
}

impl fmt::Debug for LocalTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LocalTls")
    }
}

// === impl TlsOffer ===

impl TlsOffer {
    /// The hash of the certificate that clients see.
    pub(super) fn end_point(&self) -> Option<Bytes> {
        match self {
            Self::Declined => None,
            Self::Offered(tls) => tls.end_point.clone(),
        }
    }

    /// Answers a request for TLS.
    pub(super) async fn answer<S: Stream>(
        &self,
        mut stream: S,
    ) -> Result<MaybeTls<S>, ClientError> {
        let answer = match self {
            Self::Declined => b"N",
            Self::Offered(_) => b"S",
        };
        wire::send(&mut stream, answer)
            .await
            .map_err(ClientError::Lost)?;
        match self {
            Self::Declined => Ok(MaybeTls::Plain(stream)),
            Self::Offered(tls) => tls.accept(Bytes::new(), stream).await,
        }
    }

    /// Takes a client that begins with TLS at once, of which `first` has been read. It must
    /// name the protocol, so that TLS meant for something else can't end up here.
    pub(super) async fn accept_direct<S: Stream>(
        &self,
        first: Bytes,
        stream: S,
    ) -> Result<MaybeTls<S>, ClientError> {
        let Self::Offered(tls) = self else {
            return Err(ClientError::Tls("TLS isn't offered here".into()));
        };
        let stream = tls.accept(first, stream).await?;
        match &stream {
            MaybeTls::Tls(tls) if tls.alpn_protocol() == Some(ALPN) => Ok(stream),
            _ => Err(ClientError::Tls(
                "direct TLS without the ALPN protocol \"postgresql\"".into(),
            )),
        }
    }
}
