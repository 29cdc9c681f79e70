//! The log-in against servers that say what real ones seldom say. What real ones say is
//! tested against a real one.

use proptest::prelude::*;
use secrecy::SecretString;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;
use crate::model::{Cause, HostPort};

const AUTHENTICATION_OK: &[u8] = b"R\0\0\0\x08\0\0\0\0";
const GREETING: &[u8] = b"S\0\0\0\x09a\0bc\0K\0\0\0\x0c\0\0\0\x01\0\0\0\x02Z\0\0\0\x05I";

fn credential() -> DatabaseCredential {
    DatabaseCredential {
        server: HostPort {
            host: "db.internal".into(),
            port: 5432,
        },
        database: "d4f0".into(),
        username: "role".into(),
        password: SecretString::from("secret"),
    }
}

fn tls(mode: UpstreamTlsMode) -> UpstreamTls {
    UpstreamTls::new(mode).unwrap()
}

/// Logs in without TLS to a server that says all this at once; gives what it heard, too.
async fn log_in_to(says: &[u8]) -> (Result<LoggedIn<DuplexStream>, LoginError>, Vec<u8>) {
    let (channel, mut server) = duplex(2 * 1024 * 1024);
    server.write_all(says).await.unwrap();
    server.shutdown().await.unwrap();
    let startup = StartupParameters::new([("user", "sushi")]).unwrap();
    let tls = tls(UpstreamTlsMode::Disable);
    let result = log_in(channel, &tls, &credential(), &startup).await;
    let mut heard = Vec::new();
    if result.is_err() {
        server.read_to_end(&mut heard).await.unwrap();
    }
    (result, heard)
}

#[tokio::test]
async fn the_greeting_comes_byte_for_byte_and_nothing_behind_it_is_read() {
    let notice = wire::frame(Some(b'N'), b"SNOTICE\0Mhello\0\0");
    let greeting = [&notice, GREETING].concat();
    let says = [AUTHENTICATION_OK, &greeting, b"A what follows"].concat();
    let (result, _) = log_in_to(&says).await;
    let mut logged_in = result.unwrap();
    assert_eq!(logged_in.greeting, greeting);
    let cancel = logged_in.cancel.unwrap().encode();
    assert_eq!(&cancel[8..], b"\0\0\0\x01\0\0\0\x02");
    let mut rest = String::new();
    logged_in.stream.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "A what follows");
}

#[tokio::test]
async fn an_older_servers_negotiation_stays_here() {
    let negotiate = wire::frame(Some(b'v'), b"\0\x03\0\0\0\0\0\0");
    let (result, _) = log_in_to(&[&negotiate, AUTHENTICATION_OK, GREETING].concat()).await;
    assert_eq!(result.unwrap().greeting, GREETING);
}

#[tokio::test]
async fn a_server_that_skips_scrams_end_isnt_believed() {
    let offer = wire::frame(Some(b'R'), b"\0\0\0\x0aSCRAM-SHA-256\0\0");
    let says = [&offer, AUTHENTICATION_OK, GREETING].concat();
    let (result, _) = log_in_to(&says).await;
    assert!(matches!(result, Err(LoginError::Protocol(_))), "{result:?}");
}

#[tokio::test]
async fn what_isnt_supported_is_named() {
    let gss = wire::frame(Some(b'R'), b"\0\0\0\x07");
    let (result, _) = log_in_to(&gss).await;
    let cause = result.unwrap_err().cause(&credential().server);
    assert!(cause.to_string().contains("GSSAPI"), "{cause}");
}

#[tokio::test]
async fn every_way_to_break_off_has_its_cause() {
    let server = credential().server;
    let (lost, _) = log_in_to(b"").await;
    let cause = lost.unwrap_err().cause(&server);
    assert!(
        matches!(cause, Cause::DatabaseUnreachable { .. }),
        "{cause:?}"
    );
    let (half, _) = log_in_to(&AUTHENTICATION_OK[..7]).await;
    assert!(matches!(half, Err(LoginError::Lost(_))), "{half:?}");
    let (nonsense, _) = log_in_to(b"HTTP/1.1 400 Bad Request\r\n").await;
    assert!(
        matches!(nonsense, Err(LoginError::Protocol(_))),
        "{nonsense:?}"
    );

    let missing = wire::frame(
        Some(b'E'),
        b"SFATAL\0C3D000\0Mdatabase \"x\" does not exist\0\0",
    );
    let (refused, _) = log_in_to(&[AUTHENTICATION_OK, &missing].concat()).await;
    let Err(LoginError::Refused(refusal)) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(refusal.raw(), &missing);
}

#[tokio::test]
async fn a_greeting_without_end_is_given_up() {
    let parameter = wire::frame(Some(b'S'), &[b"a\0", &[b'x'; 60_000][..], b"\0"].concat());
    let says = [AUTHENTICATION_OK, &parameter.repeat(10)].concat();
    let (result, _) = log_in_to(&says).await;
    assert!(matches!(result, Err(LoginError::Protocol(_))), "{result:?}");
}

#[tokio::test]
async fn the_answer_to_the_request_for_tls_decides() {
    let startup = StartupParameters::new([("user", "sushi")]).unwrap();
    for (mode, answer, outcome) in [
        (UpstreamTlsMode::Prefer, &b"N"[..], "in"),
        (UpstreamTlsMode::Require, b"N", "tls"),
        (UpstreamTlsMode::Prefer, b"Eno\0", "protocol"),
        (UpstreamTlsMode::Prefer, b"H", "protocol"),
        // Plain text stuffed behind the yes goes into the handshake and breaks it.
        (UpstreamTlsMode::Prefer, b"S", "tls"),
        (UpstreamTlsMode::Prefer, b"", "lost"),
    ] {
        let (channel, mut server) = duplex(64 * 1024);
        let says = [answer, AUTHENTICATION_OK, GREETING].concat();
        let says = if answer.is_empty() { answer } else { &says };
        server.write_all(says).await.unwrap();
        server.shutdown().await.unwrap();
        let result = log_in(channel, &tls(mode.clone()), &credential(), &startup).await;
        let got = match &result {
            Ok(_) => "in",
            Err(LoginError::Tls(_)) => "tls",
            Err(LoginError::Protocol(_)) => "protocol",
            Err(LoginError::Lost(_)) => "lost",
            Err(LoginError::Refused(_)) => "refused",
        };
        assert_eq!(got, outcome, "{mode:?} {answer:?}: {result:?}");
    }
}

#[tokio::test]
async fn the_server_hears_the_sessions_user_and_database() {
    let gss = wire::frame(Some(b'R'), b"\0\0\0\x07");
    let (_, heard) = log_in_to(&gss).await;
    assert_eq!(&heard[4..], b"\0\x03\0\0user\0role\0database\0d4f0\0\0");
}

proptest! {
    #[test]
    fn arbitrary_servers_never_panic(
        prefix in proptest::sample::select(vec![
            &b""[..],
            AUTHENTICATION_OK,
            b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0",
        ]),
        tag in proptest::sample::select(b"RESKNZv".to_vec()),
        body in proptest::collection::vec(any::<u8>(), 0..100),
        rest in proptest::collection::vec(any::<u8>(), 0..100),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let says = [prefix, &wire::frame(Some(tag), &body), &rest].concat();
        let _ = runtime.block_on(log_in_to(&says));
    }
}
