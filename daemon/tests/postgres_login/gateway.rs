//! A session in small: listeners on TCP and a Unix socket, both log-ins, and a plain splice.

use std::{os::unix::fs::MetadataExt, path::PathBuf, sync::Arc};

use borealisd::{
    model::SessionName,
    postgres::{
        ClientError, Greeting, LocalAuth, LocalTls, ScramVerifier, Stream, TlsOffer, UpstreamTls,
        UpstreamTlsMode, forward_cancel, greet, log_in,
    },
};
use rustls::{ServerConfig, pki_types::CertificateDer};
use secrecy::SecretString;
use tempfile::TempDir;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, UnixListener},
    task::JoinSet,
};

use crate::server::Server;

pub(crate) const SESSION_PASSWORD: &str = "session's own";

/// Ends, with every connection, when it is dropped.
pub(crate) struct TestGateway {
    pub(crate) port: u16,
    pub(crate) socket_dir: PathBuf,
    /// The authority of the certificate that clients see.
    pub(crate) ca: PathBuf,
    _home: TempDir,
    _listeners: JoinSet<()>,
}

/// What its connections share.
struct Shared {
    server: Arc<Server>,
    role: String,
    session: SessionName,
    verifier: ScramVerifier,
    tls: TlsOffer,
    upstream: UpstreamTls,
}

// === impl TestGateway ===

impl TestGateway {
    pub(crate) async fn open(server: &Arc<Server>, role: &str, upstream: UpstreamTlsMode) -> Self {
        let home = tempfile::Builder::new().prefix("gw").tempdir().unwrap();
        let (tls, ca_pem) = certificate();
        let ca = home.path().join("ca.pem");
        std::fs::write(&ca, ca_pem).unwrap();
        let shared = Arc::new(Shared {
            server: Arc::clone(server),
            role: role.to_owned(),
            session: SessionName::parse("sushi").unwrap(),
            verifier: ScramVerifier::new(&SecretString::from(SESSION_PASSWORD)).unwrap(),
            tls: TlsOffer::Offered(tls),
            upstream: UpstreamTls::new(upstream).unwrap(),
        });
        let tcp = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let unix = UnixListener::bind(home.path().join(".s.PGSQL.5432")).unwrap();
        let owner = home.path().metadata().unwrap().uid();
        let port = tcp.local_addr().unwrap().port();
        let mut listeners = JoinSet::new();
        listeners.spawn(accept_tcp(tcp, Arc::clone(&shared)));
        listeners.spawn(accept_unix(unix, shared, owner));
        Self {
            port,
            socket_dir: home.path().to_owned(),
            ca,
            _home: home,
            _listeners: listeners,
        }
    }
}

async fn accept_tcp(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let auth = LocalAuth::Password(&shared.verifier);
            report(shared.serve(stream, &shared.tls, auth).await);
        });
    }
}

async fn accept_unix(listener: UnixListener, shared: Arc<Shared>, owner: u32) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let uid = stream.peer_cred().unwrap().uid();
            let auth = if uid == owner {
                LocalAuth::SameUser
            } else {
                LocalAuth::OtherUser { uid }
            };
            report(shared.serve(stream, &TlsOffer::Declined, auth).await);
        });
    }
}

fn report(outcome: Result<(), ClientError>) {
    if let Err(error) = outcome {
        println!("{error}");
    }
}

// === impl Shared ===

impl Shared {
    async fn serve<S: Stream>(
        &self,
        stream: S,
        tls: &TlsOffer,
        auth: LocalAuth<'_>,
    ) -> Result<(), ClientError> {
        let client = match greet(stream, tls).await? {
            Greeting::Startup(client) => client,
            Greeting::Cancel(request, stream) => {
                let channel = self.server.channel().await;
                forward_cancel(channel, &request).await.unwrap();
                drop(stream);
                return Ok(());
            }
            Greeting::Gone => return Ok(()),
        };
        let client = client.authenticate(&self.session, auth).await?;
        let credential = self.server.credential(&self.role);
        let channel = self.server.channel().await;
        match log_in(channel, &self.upstream, &credential, client.startup()).await {
            Ok(mut database) => {
                let mut client = client
                    .finish(&database.greeting)
                    .await
                    .map_err(ClientError::Lost)?;
                let _ended = copy_bidirectional(&mut client, &mut database.stream).await;
            }
            Err(error) => {
                let response = error.error_response(&credential.server, &self.session, None);
                client.refuse_with(&response).await;
            }
        }
        Ok(())
    }
}

/// A certificate for the gateway, and the authority that signed it.
fn certificate() -> (LocalTls, String) {
    let mut params = rcgen::CertificateParams::default();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "authority");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let ca_pem = params.self_signed(&key).unwrap().pem();
    let issuer = rcgen::Issuer::new(params, key);
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec!["127.0.0.1".into(), "localhost".into()])
        .unwrap()
        .signed_by(&key, &issuer)
        .unwrap();
    let leaf: CertificateDer<'static> = leaf.der().clone();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.clone()], key.serialize_der().try_into().unwrap())
        .unwrap();
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    (LocalTls::from_config(Arc::new(config), &leaf), ca_pem)
}
