//! Certificates of the provider's API that aren't accepted, each for its own reason.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener},
    path::Path,
    sync::Arc,
    thread,
};

use borealis_tests::{harness::TestMachine, sandbox::Options};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

// === impl Authority ===

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            pem,
            issuer: Issuer::new(params, key),
        }
    }

    /// Serves refusals over HTTPS with such a certificate, until the test ends; its port.
    fn serve(&self, params: CertificateParams) -> u16 {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
            )
            .unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let config = Arc::new(config);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
                let mut stream = StreamOwned::new(connection, stream.unwrap());
                let mut request = [0; 4096];
                // A client that refuses the certificate ends here.
                if !matches!(stream.read(&mut request), Ok(1..)) {
                    continue;
                }
                let body = r#"{"id":"unauthorized","message":"words"}"#;
                let answer = format!(
                    "HTTP/1.1 401 Unauthorized\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                );
                let _ = stream.write_all(answer.as_bytes());
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        });
        port
    }
}

fn named(name: &str) -> CertificateParams {
    CertificateParams::new([name.to_owned()]).unwrap()
}

fn dated(from: i32, to: i32) -> CertificateParams {
    let mut params = named("localhost");
    params.not_before = date_time_ymd(from, 1, 1);
    params.not_after = date_time_ymd(to, 1, 1);
    params
}

/// What `whoami` fails with where the API is at this port.
fn refusal(port: u16, trusted: Option<&Path>, code: i32, words: &[&str]) {
    let mut machine = TestMachine::without_daemon(Options::default());
    machine.set("HEROKU_API_URL", &format!("https://localhost:{port}"));
    match trusted {
        Some(file) => machine.set("SSL_CERT_FILE", &file.display().to_string()),
        None => machine.set("NODE_EXTRA_CA_CERTS", "/etc/company.pem"),
    }
    machine.start_daemon();
    machine.ctl(&["open", "sushi"]).expect_failure(code, words);
    machine.stop_daemon();
}

#[test]
fn each_reason_is_told_with_what_helps() {
    let authority = Authority::new();
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, &authority.pem).unwrap();
    let good = authority.serve(named("localhost"));
    // A company's proxy: its authority can be named, as with other programs.
    refusal(
        good,
        None,
        1,
        &["no authority", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS"],
    );
    refusal(good, Some(&ca), 4, &["refused the API token"]);
    let expired = authority.serve(dated(2001, 2002));
    refusal(expired, Some(&ca), 1, &["has expired", "clock"]);
    let early = authority.serve(dated(4000, 4001));
    refusal(early, Some(&ca), 1, &["not valid yet", "clock"]);
    let other = authority.serve(named("airport.test"));
    refusal(other, Some(&ca), 1, &["another server"]);
}
