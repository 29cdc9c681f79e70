//! Clients against the frontend over pipes: tokio-postgres where it can do what is tested,
//! bytes by hand elsewhere.

use std::{
    io,
    sync::{Arc, LazyLock},
};

use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
use proptest::prelude::*;
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, ServerName},
};
use secrecy::SecretString;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio_postgres::{NoTls, config::SslMode};
use tokio_rustls::TlsConnector;

use super::*;
use crate::postgres::{ALPN, PrefixedIo, ProtocolVersion, certificate};

const SSL_REQUEST: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x2f";
const GSSENC_REQUEST: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x30";
const STARTUP: &[u8] = b"\0\0\0\x14\0\x03\0\0user\0sushi\0\0";
/// ParameterStatus, BackendKeyData, ReadyForQuery.
const GREETING: &[u8] = b"S\0\0\0\x09a\0bc\0K\0\0\0\x0c\0\0\0\x01\0\0\0\x02Z\0\0\0\x05I";

fn session() -> SessionName {
    SessionName::parse("sushi").unwrap()
}

fn verifier() -> ScramVerifier {
    ScramVerifier::new(&SecretString::from("secret")).unwrap()
}

struct Tls {
    offer: TlsOffer,
    certificate: CertificateDer<'static>,
}

fn tls() -> Tls {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["localhost".into()])
        .unwrap()
        .self_signed(&key)
        .unwrap()
        .der()
        .clone();
    let key = key.serialize_der().try_into().unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    config.alpn_protocols = vec![ALPN.to_vec()];
    Tls {
        offer: TlsOffer::Offered(LocalTls::from_config(Arc::new(config), &certificate)),
        certificate,
    }
}

impl Tls {
    async fn connect<S: Stream>(
        &self,
        stream: S,
        alpn: &[&[u8]],
    ) -> io::Result<tokio_rustls::client::TlsStream<S>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
    }
}

/// Serves one client to the end of its log-in.
async fn serve(
    stream: DuplexStream,
    tls: &TlsOffer,
    auth: LocalAuth<'_>,
) -> Result<PrefixedIo<MaybeTls<DuplexStream>>, ClientError> {
    let Greeting::Startup(client) = greet(stream, tls).await? else {
        panic!("no startup packet");
    };
    let client = client.authenticate(&session(), auth).await?;
    Ok(client.finish(GREETING).await.unwrap())
}

async fn tokio_postgres(user: &str, password: &str) -> Result<(), tokio_postgres::Error> {
    let (client, server) = duplex(4096);
    let mut config = tokio_postgres::Config::new();
    config
        .user(user)
        .password(password)
        .ssl_mode(SslMode::Disable);
    let verifier = verifier();
    let (connected, _served) = tokio::join!(
        config.connect_raw(client, NoTls),
        serve(server, &TlsOffer::Declined, LocalAuth::Password(&verifier))
    );
    connected.map(drop)
}

#[tokio::test]
async fn the_sessions_user_and_password_get_in() {
    tokio_postgres("sushi", "secret").await.unwrap();
}

#[tokio::test]
async fn a_wrong_user_or_password_is_told_what_the_session_takes() {
    for (user, password) in [("sushi", "wrong"), ("ramen", "secret")] {
        let error = tokio_postgres(user, password).await.unwrap_err();
        let error = error.as_db_error().unwrap();
        if user == "sushi" {
            assert_eq!(error.code().code(), "28P01");
            let message = "password authentication failed for user \"sushi\"";
            assert_eq!(error.message(), message);
        } else {
            // It may be a client of somebody else, who has this port for his own.
            assert_eq!(error.code().code(), "28000");
            let message = error.message();
            assert!(
                message.starts_with("this is the session sushi of "),
                "{message}"
            );
            assert!(message.contains("user \"ramen\""), "{message}");
            assert!(
                message.ends_with("no session of yours listens here"),
                "{message}"
            );
        }
        let hint = error.hint().unwrap();
        assert!(hint.contains("borealisctl show sushi --reveal"), "{hint}");
    }
}

#[tokio::test]
async fn on_the_unix_socket_any_name_gets_in_and_early_bytes_are_kept() {
    let (mut client, server) = duplex(4096);
    let early = [STARTUP, b"Q\0\0\0\x0dselect 1\0"].concat();
    client.write_all(&early).await.unwrap();
    let served = serve(server, &TlsOffer::Declined, LocalAuth::SameUser).await;
    let mut stream = served.unwrap();
    let mut query = [0; 14];
    stream.read_exact(&mut query).await.unwrap();
    assert_eq!(&query, b"Q\0\0\0\x0dselect 1\0");
    let mut heard = vec![0; 9 + GREETING.len()];
    client.read_exact(&mut heard).await.unwrap();
    assert_eq!(heard, [b"R\0\0\0\x08\0\0\0\0", GREETING].concat());
}

#[tokio::test]
async fn watching_a_client_loses_nothing() {
    let (mut client, server) = duplex(4096);
    client.write_all(STARTUP).await.unwrap();
    let Ok(Greeting::Startup(waiting)) = greet(server, &TlsOffer::Declined).await else {
        panic!("no startup packet");
    };
    let session = session();
    let mut waiting = waiting
        .authenticate(&session, LocalAuth::SameUser)
        .await
        .unwrap();
    client.read_exact(&mut [0; 9]).await.unwrap();
    assert!(futures_util::FutureExt::now_or_never(waiting.left()).is_none());
    client.write_all(b"early").await.unwrap();
    assert!(futures_util::FutureExt::now_or_never(waiting.left()).is_none());
    client.write_all(b" and later").await.unwrap();
    let mut stream = waiting.finish(GREETING).await.unwrap();
    drop(client);
    let mut all = String::new();
    stream.read_to_string(&mut all).await.unwrap();
    assert_eq!(all, "early and later");
}

#[tokio::test]
async fn a_client_that_leaves_is_seen() {
    let (mut client, server) = duplex(4096);
    client.write_all(STARTUP).await.unwrap();
    let Ok(Greeting::Startup(waiting)) = greet(server, &TlsOffer::Declined).await else {
        panic!("no startup packet");
    };
    let session = session();
    let mut waiting = waiting
        .authenticate(&session, LocalAuth::SameUser)
        .await
        .unwrap();
    drop(client);
    waiting.left().await;
}

#[tokio::test]
async fn somebody_else_on_the_unix_socket_is_refused() {
    let (mut client, server) = duplex(4096);
    client.write_all(STARTUP).await.unwrap();
    client.shutdown().await.unwrap();
    let auth = LocalAuth::OtherUser { uid: 4711 };
    let error = serve(server, &TlsOffer::Declined, auth).await.unwrap_err();
    let ClientError::Refused { sqlstate, message } = error else {
        panic!("{error:?}");
    };
    assert_eq!(sqlstate, "28000");
    assert!(message.contains("uid 4711"), "{message}");
}

#[tokio::test]
async fn psql_that_goes_to_ask_for_a_password_has_left() {
    let (mut client, server) = duplex(4096);
    let verifier = verifier();
    let asked = async {
        client.write_all(STARTUP).await.unwrap();
        assert_eq!(client.read_u8().await.unwrap(), b'R');
        drop(client);
    };
    let (served, ()) = tokio::join!(
        serve(server, &TlsOffer::Declined, LocalAuth::Password(&verifier)),
        asked
    );
    assert!(matches!(served, Err(ClientError::Left)), "{served:?}");
}

#[tokio::test]
async fn gss_is_declined_and_tls_may_follow() {
    let (mut client, server) = duplex(4096);
    let asked = async {
        for request in [GSSENC_REQUEST, SSL_REQUEST] {
            client.write_all(request).await.unwrap();
            assert_eq!(client.read_u8().await.unwrap(), b'N');
        }
        client.write_all(STARTUP).await.unwrap();
    };
    let (greeting, ()) = tokio::join!(greet(server, &TlsOffer::Declined), asked);
    let Ok(Greeting::Startup(client)) = greeting else {
        panic!("{greeting:?}");
    };
    assert_eq!(client.startup().user(), b"sushi");
}

#[tokio::test]
async fn encryption_is_asked_for_once() {
    for (request, version) in [(GSSENC_REQUEST, "1234.5680"), (SSL_REQUEST, "1234.5679")] {
        let (mut client, server) = duplex(4096);
        let asked = async {
            client.write_all(&request.repeat(2)).await.unwrap();
            client.shutdown().await.unwrap();
            let mut heard = Vec::new();
            client.read_to_end(&mut heard).await.unwrap();
            heard
        };
        let (greeting, heard) = tokio::join!(greet(server, &TlsOffer::Declined), asked);
        let Err(ClientError::Refused { sqlstate, message }) = greeting else {
            panic!("{greeting:?}");
        };
        assert_eq!(sqlstate, "0A000");
        assert!(message.contains(version), "{message}");
        let heard = String::from_utf8_lossy(&heard);
        assert!(
            heard.starts_with('N') && heard.contains(&message),
            "{heard}"
        );
    }
}

/// What a client hears that says `bytes` once there is TLS, up to the end, which must be one
/// that TLS knows.
async fn heard_within_tls(bytes: &[u8], is_dropped: bool) -> Vec<u8> {
    let tls = tls();
    let (mut client, server) = duplex(64 * 1024);
    let verifier = verifier();
    let asked = async {
        client.write_all(SSL_REQUEST).await.unwrap();
        assert_eq!(client.read_u8().await.unwrap(), b'S');
        let mut client = tls.connect(client, &[ALPN]).await.unwrap();
        client.write_all(bytes).await.unwrap();
        let mut heard = Vec::new();
        let ended = client.read_to_end(&mut heard).await;
        ended.unwrap_or_else(|error| panic!("{error} after {heard:?}"));
        heard
    };
    let serving = async {
        let serving = serve(server, &tls.offer, LocalAuth::Password(&verifier));
        if is_dropped {
            let dropped = tokio::time::timeout(std::time::Duration::from_secs(1), serving).await;
            assert!(dropped.is_err());
        } else {
            assert!(serving.await.is_err());
        }
    };
    tokio::join!(serving, asked).1
}

#[tokio::test(start_paused = true)]
async fn whatever_ends_it_a_client_within_tls_is_told_that_it_is_the_end() {
    let heard = heard_within_tls(SSL_REQUEST, false).await;
    let refusal = crate::postgres::DatabaseRefusal::parse(heard.into());
    assert_eq!(refusal.sqlstate(), "0A000");
    assert!(refusal.message().contains("1234.5679"), "{refusal}");
    // Lengths that can't be, and TLS within TLS, end it without a word, as in PostgreSQL.
    for nonsense in [&b"\0\0\0\x03"[..], b"\0\0\x4e\x20", b"\x16\x03\x01\0"] {
        assert_eq!(heard_within_tls(nonsense, false).await, b"");
    }
    // A log-in that goes wrong, or takes too long.
    for (said, is_dropped) in [
        (&b"p\0\0\0\x03"[..], false),
        (b"x\0\0\0\x04", false),
        (b"", true),
    ] {
        let heard = heard_within_tls(&[STARTUP, said].concat(), is_dropped).await;
        assert_eq!(heard.first(), Some(&b'R'), "{heard:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_no_greeting_is_not_waited_for() {
    let (mut client, server) = duplex(24);
    client.write_all(STARTUP).await.unwrap();
    let served = async {
        let Ok(Greeting::Startup(client)) = greet(server, &TlsOffer::Declined).await else {
            panic!("no startup packet");
        };
        let client = client.authenticate(&session(), LocalAuth::SameUser).await;
        client.unwrap().finish(GREETING).await
    };
    let error = served.await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
}

#[tokio::test]
async fn a_bound_log_in_through_tls() {
    for direct in [false, true] {
        let tls = tls();
        let (mut client, server) = duplex(64 * 1024);
        let verifier = verifier();
        let asked = async {
            if !direct {
                client.write_all(SSL_REQUEST).await.unwrap();
                assert_eq!(client.read_u8().await.unwrap(), b'S');
            }
            let mut client = tls.connect(client, &[ALPN]).await.unwrap();
            client.write_all(STARTUP).await.unwrap();
            let hash = certificate::end_point_hash(&tls.certificate).unwrap();
            let binding = ChannelBinding::tls_server_end_point(hash);
            scram(&mut client, "SCRAM-SHA-256-PLUS", binding).await;
            let mut heard = vec![0; 9 + GREETING.len()];
            client.read_exact(&mut heard).await.unwrap();
            assert!(heard.ends_with(GREETING));
        };
        let served = serve(server, &tls.offer, LocalAuth::Password(&verifier));
        let (served, ()) = tokio::join!(served, asked);
        assert!(served.unwrap().get_ref().is_tls());
    }
}

async fn scram<S: Stream>(stream: &mut S, mechanism: &str, binding: ChannelBinding) {
    use postgres_protocol::message::frontend;
    let offered = question(stream, 10).await;
    assert!(
        offered
            .split(|byte| *byte == 0)
            .any(|name| name == mechanism.as_bytes())
    );
    let mut scram = ScramSha256::new(b"secret", binding);
    let mut message = bytes::BytesMut::new();
    frontend::sasl_initial_response(mechanism, scram.message(), &mut message).unwrap();
    wire::send(stream, &message).await.unwrap();
    scram.update(&question(stream, 11).await).unwrap();
    message.clear();
    frontend::sasl_response(scram.message(), &mut message).unwrap();
    wire::send(stream, &message).await.unwrap();
    scram.finish(&question(stream, 12).await).unwrap();
}

async fn question<S: AsyncRead + Unpin>(stream: &mut S, code: u32) -> Bytes {
    let message = wire::read_message(stream, 4096).await.unwrap();
    assert_eq!(message.tag(), b'R');
    let mut body = message.body();
    assert_eq!(wire::take_u32(&mut body), Some(code));
    body
}

#[tokio::test]
async fn direct_tls_must_name_the_protocol() {
    for alpn in [&[][..], &[&b"h2"[..]]] {
        let tls = tls();
        let (client, server) = duplex(64 * 1024);
        let (greeting, _client) = tokio::join!(greet(server, &tls.offer), async {
            let mut client = tls.connect(client, alpn).await?;
            client.write_all(STARTUP).await?;
            io::Result::Ok(client)
        });
        assert!(matches!(greeting, Err(ClientError::Tls(_))), "{greeting:?}");
    }
    let tls = tls();
    let (client, server) = duplex(64 * 1024);
    let (greeting, _client) = tokio::join!(
        greet(server, &TlsOffer::Declined),
        tls.connect(client, &[ALPN])
    );
    assert!(matches!(greeting, Err(ClientError::Tls(_))), "{greeting:?}");
}

#[tokio::test]
async fn plain_text_stuffed_before_the_handshake_never_counts_as_encrypted() {
    let tls = tls();
    let (mut client, server) = duplex(64 * 1024);
    let asked = async {
        // An attacker on the way adds a startup packet of its own to the client's request.
        client
            .write_all(&[SSL_REQUEST, STARTUP].concat())
            .await
            .unwrap();
        assert_eq!(client.read_u8().await.unwrap(), b'S');
        let _fails = tls.connect(client, &[ALPN]).await;
    };
    let (greeting, ()) = tokio::join!(greet(server, &tls.offer), asked);
    assert!(matches!(greeting, Err(ClientError::Tls(_))), "{greeting:?}");
}

#[tokio::test]
async fn cancel_requests_come_plain_and_through_tls() {
    let packet = b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x01\0\0\0\x02";
    let (mut client, server) = duplex(4096);
    client.write_all(packet).await.unwrap();
    let greeting = greet(server, &TlsOffer::Declined).await;
    let Ok(Greeting::Cancel(request, _)) = greeting else {
        panic!("{greeting:?}");
    };
    assert_eq!(&request.encode()[..], packet);

    let tls = tls();
    let (mut client, server) = duplex(64 * 1024);
    let asked = async {
        client.write_all(SSL_REQUEST).await.unwrap();
        client.read_u8().await.unwrap();
        let mut client = tls.connect(client, &[]).await.unwrap();
        client.write_all(packet).await.unwrap();
        client.flush().await.unwrap();
        client
    };
    let (greeting, _client) = tokio::join!(greet(server, &tls.offer), asked);
    let Ok(Greeting::Cancel(request, _)) = greeting else {
        panic!("{greeting:?}");
    };
    assert_eq!(&request.encode()[..], packet);
}

#[tokio::test]
async fn silence_is_no_error_and_half_a_packet_is() {
    for (bytes, quiet) in [
        (&b""[..], true),
        (SSL_REQUEST, true),
        (b"\0", false),
        (&STARTUP[..9], false),
        (b"GET / HTTP/1.1\r\n\r\n", false),
        (b"\x7f\xff\xff\xff", false),
    ] {
        let (mut client, server) = duplex(4096);
        client.write_all(bytes).await.unwrap();
        client.shutdown().await.unwrap();
        let greeting = greet(server, &TlsOffer::Declined).await;
        assert_eq!(
            matches!(greeting, Ok(Greeting::Gone)),
            quiet,
            "{greeting:?}"
        );
    }
}

#[tokio::test]
async fn newer_protocols_are_negotiated_before_anything_else() {
    let (mut client, server) = duplex(4096);
    client
        .write_all(b"\0\0\0\x19\0\x03\0\x07_pq_.x\0y\0user\0u\0\0")
        .await
        .unwrap();
    let greeting = greet(server, &TlsOffer::Declined).await;
    let Ok(Greeting::Startup(waiting)) = greeting else {
        panic!("{greeting:?}");
    };
    assert_eq!(waiting.startup().version(), ProtocolVersion::NEWEST);
    let mut heard = [0; 20];
    client.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"v\0\0\0\x13\0\x03\0\x02\0\0\0\x01_pq_.x\0");
}

#[tokio::test]
async fn an_older_protocol_is_refused_in_postgres_words() {
    let (mut client, server) = duplex(4096);
    client
        .write_all(b"\0\0\0\x0f\0\x02\0\0user\0u\0")
        .await
        .unwrap();
    client.shutdown().await.unwrap();
    let error = greet(server, &TlsOffer::Declined).await.unwrap_err();
    let mut heard = Vec::new();
    client.read_to_end(&mut heard).await.unwrap();
    let ClientError::Refused { sqlstate, message } = error else {
        panic!("{error:?}");
    };
    assert_eq!(sqlstate, "0A000");
    assert!(String::from_utf8(heard).unwrap().contains(&message));
}

proptest! {
    #[test]
    fn arbitrary_clients_never_panic_and_never_get_in(
        prefix in proptest::sample::select(vec![&b""[..], SSL_REQUEST, GSSENC_REQUEST, STARTUP]),
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        static VERIFIER: LazyLock<ScramVerifier> = LazyLock::new(verifier);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let (mut client, server) = duplex(64 * 1024);
            client.write_all(&[prefix, &bytes].concat()).await.unwrap();
            client.shutdown().await.unwrap();
            if let Ok(Greeting::Startup(client)) = greet(server, &TlsOffer::Declined).await {
                let auth = LocalAuth::Password(&VERIFIER);
                assert!(client.authenticate(&session(), auth).await.is_err());
            }
        });
    }
}
