//! Both log-ins against what they are for: a real PostgreSQL behind, libpq before.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test that can't go on fails there, and prints to the test's own output"
)]

mod gateway;
mod server;

use std::{
    process::{Output, Stdio},
    sync::{Arc, Mutex, OnceLock, Weak},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use borealisd::{
    model::Cause,
    postgres::{LoggedIn, LoginError, StartupParameters, UpstreamTls, UpstreamTlsMode, log_in},
};
use gateway::{SESSION_PASSWORD, TestGateway};
use rcgen::{CertificateParams, IsCa, Issuer, KeyPair};
use rustix::process::{Pid, Signal, kill_process};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use server::{DATABASE, Identity, Server, binary};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
    time::timeout,
};

/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(60);

const STARTUP: [(&str, &str); 2] = [("user", "sushi"), ("application_name", "test")];

/// The authority of the server's certificate, and the certificate.
struct Authority {
    ca: CertificateDer<'static>,
    leaf: CertificateDer<'static>,
    identity: Identity,
}

fn authority() -> &'static Authority {
    static AUTHORITY: OnceLock<Authority> = OnceLock::new();
    AUTHORITY.get_or_init(|| {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "authority");
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let ca = params.self_signed(&key).unwrap().der().clone();
        let issuer = Issuer::new(params, key);
        // A hash other than the default, and a name that nobody asks for.
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let leaf = CertificateParams::new(vec!["elsewhere".into()])
            .unwrap()
            .signed_by(&key, &issuer)
            .unwrap();
        Authority {
            ca,
            leaf: leaf.der().clone(),
            identity: Identity {
                certificate: leaf.pem(),
                key: key.serialize_pem(),
            },
        }
    })
}

/// One server for the tests that run side by side; ends with the last of them.
fn server() -> Arc<Server> {
    static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap();
    shared.upgrade().unwrap_or_else(|| {
        let server = Arc::new(Server::start(&authority().identity));
        *shared = Arc::downgrade(&server);
        server
    })
}

async fn log_in_as(
    server: &Server,
    role: &str,
    mode: UpstreamTlsMode,
    startup: &[(&'static str, &'static str)],
) -> Result<LoggedIn<TcpStream>, LoginError> {
    let tls = UpstreamTls::new(mode).unwrap();
    let startup = StartupParameters::new(startup.iter().copied()).unwrap();
    let credential = server.credential(role);
    let log_in = log_in(server.channel().await, &tls, &credential, &startup);
    timeout(LIMIT, log_in).await.unwrap()
}

/// The first column of the first row of a query.
async fn ask(database: &mut LoggedIn<TcpStream>, query: &str) -> String {
    let mut message = vec![b'Q'];
    message.extend(u32::try_from(query.len() + 5).unwrap().to_be_bytes());
    message.extend(query.as_bytes());
    message.push(0);
    database.stream.write_all(&message).await.unwrap();
    database.stream.flush().await.unwrap();
    let mut answer = String::new();
    loop {
        let tag = database.stream.read_u8().await.unwrap();
        let length = database.stream.read_u32().await.unwrap();
        let mut body = vec![0; length as usize - 4];
        database.stream.read_exact(&mut body).await.unwrap();
        match tag {
            b'D' => answer = String::from_utf8(body[6..].to_vec()).unwrap(),
            b'Z' => return answer,
            b'E' => panic!("{}", String::from_utf8_lossy(&body)),
            _ => {}
        }
    }
}

const WHERE: &str = "select concat_ws(' ', current_user, current_database(), ssl, \
    current_setting('application_name')) from pg_stat_ssl where pid = pg_backend_pid()";

#[tokio::test]
async fn every_way_to_log_in_with_every_way_to_secure_it() {
    let server = server();
    let authority = authority();
    for role in ["scram", "md5", "clear", "trusted", "plus"] {
        for (mode, ssl) in [
            (UpstreamTlsMode::Disable, "f"),
            (UpstreamTlsMode::Prefer, "t"),
            (UpstreamTlsMode::Require, "t"),
            (UpstreamTlsMode::VerifyCa(vec![authority.ca.clone()]), "t"),
            (UpstreamTlsMode::VerifyCa(vec![authority.leaf.clone()]), "t"),
        ] {
            // This role may come through TLS alone.
            if role == "plus" && mode == UpstreamTlsMode::Disable {
                continue;
            }
            let mut database = log_in_as(&server, role, mode, &STARTUP).await.unwrap();
            assert_eq!(database.greeting[0], b'S');
            assert!(database.greeting.ends_with(b"Z\0\0\0\x05I"));
            assert!(database.cancel.is_some());
            let answer = ask(&mut database, WHERE).await;
            assert_eq!(answer, format!("{role} {DATABASE} {ssl} test"));
        }
    }
}

#[tokio::test]
async fn certificates_that_have_no_channel_binding_or_are_old_will_do() {
    let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let certificate = CertificateParams::default().self_signed(&key).unwrap();
    // The seed alone: OpenSSL 3.0 doesn't read a key that has its public half beside it.
    let seed = &key.serialize_der()[16..48];
    let der = [
        &b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20"[..],
        seed,
    ];
    let ed25519 = Identity {
        certificate: certificate.pem(),
        key: format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
            BASE64.encode(der.concat())
        ),
    };
    // As `openssl x509 -req` makes it.
    let version_1 = Identity {
        certificate: include_str!("x509v1.crt").into(),
        key: include_str!("x509v1.key").into(),
    };
    for identity in [ed25519, version_1] {
        let server = Server::start(&identity);
        let mode = UpstreamTlsMode::Prefer;
        let mut database = log_in_as(&server, "scram", mode, &STARTUP).await.unwrap();
        let answer = ask(&mut database, WHERE).await;
        assert_eq!(answer, format!("scram {DATABASE} t test"));
    }
}

#[tokio::test]
async fn a_server_that_somebody_else_vouches_for_is_no_server() {
    let server = server();
    let other = CertificateDer::from_pem_slice(include_bytes!("x509v1.crt")).unwrap();
    let key = KeyPair::generate().unwrap();
    let stranger = CertificateParams::default().self_signed(&key).unwrap();
    let mode = UpstreamTlsMode::VerifyCa(vec![other, stranger.der().clone()]);
    let refused = log_in_as(&server, "scram", mode, &STARTUP).await;
    let error = refused.unwrap_err();
    assert!(matches!(error, LoginError::Tls(_)), "{error:?}");
}

#[tokio::test]
async fn refusals_are_told_apart() {
    let server = server();
    let own = &STARTUP[..];
    let elsewhere = |database| [("user", "sushi"), ("database", database)];
    let wal = [("user", "sushi"), ("replication", "true")];
    let parameter = [("user", "sushi"), ("session_preload_libraries", "x")];
    for (role, startup, sqlstate, credential) in [
        ("nobody", own, "28P01", true),
        ("no_login", own, "28000", true),
        ("plus", own, "28P01", true),
        ("full", own, "53300", false),
        ("scram", &elsewhere("missing")[..], "3D000", false),
        ("scram", &elsewhere("closed")[..], "42501", false),
        ("scram", &wal[..], "28000", false),
        ("scram", &parameter[..], "42501", false),
    ] {
        // Without TLS, which role `plus` isn't let in by: the last line of HBA then asks
        // nobody else, so the password is what is wrong.
        let mut wrong = server.credential(role);
        if role == "plus" {
            wrong.password = secrecy::SecretString::from("wrong");
        }
        let tls = UpstreamTls::new(UpstreamTlsMode::Disable).unwrap();
        let startup = StartupParameters::new(startup.iter().copied()).unwrap();
        let channel = server.channel().await;
        let error = log_in(channel, &tls, &wrong, &startup).await.unwrap_err();
        let LoginError::Refused(refusal) = &error else {
            panic!("{role}: {error:?}");
        };
        assert_eq!(refusal.sqlstate(), sqlstate, "{role}: {error}");
        let cause = error.cause(&wrong.server);
        let blamed = matches!(cause, Cause::DatabaseRefusedLogin { .. });
        assert_eq!(blamed, credential, "{role}: {error}");
    }
}

/// psql as a user has it, with nothing of the environment's own.
fn psql(gateway: &TestGateway, variables: &[(&str, &str)], arguments: &[&str]) -> Command {
    let mut command = Command::new(binary("psql"));
    command
        .env_clear()
        .env("HOME", &gateway.socket_dir)
        .env("PGHOST", "127.0.0.1")
        .env("PGPORT", gateway.port.to_string())
        .env("PGUSER", "sushi")
        .env("PGPASSWORD", SESSION_PASSWORD)
        .envs(variables.iter().copied())
        .args(["-XAtqw", "-v", "ON_ERROR_STOP=1"])
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

async fn run(mut command: Command) -> Output {
    timeout(LIMIT, command.output()).await.unwrap().unwrap()
}

#[track_caller]
fn answer(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[tokio::test]
async fn libpq_with_every_sslmode() {
    let server = server();
    let gateway = TestGateway::open(&server, "scram", UpstreamTlsMode::Prefer).await;
    let ca = gateway.ca.to_str().unwrap();
    for (variables, encrypted) in [
        (&[("PGSSLMODE", "disable")][..], false),
        (&[("PGSSLMODE", "allow")], false),
        (&[("PGSSLMODE", "prefer")], true),
        (&[("PGSSLMODE", "require")], true),
        (&[("PGSSLMODE", "verify-ca"), ("PGSSLROOTCERT", ca)], true),
        (&[("PGSSLMODE", "verify-full"), ("PGSSLROOTCERT", ca)], true),
        (
            &[
                ("PGSSLMODE", "require"),
                ("PGCHANNELBINDING", "require"),
                ("PGSSLMINPROTOCOLVERSION", "TLSv1.2"),
                ("PGSSLMAXPROTOCOLVERSION", "TLSv1.2"),
            ],
            true,
        ),
        (
            &[("PGSSLMODE", "require"), ("PGCHANNELBINDING", "require")],
            true,
        ),
        (
            &[("PGSSLMODE", "require"), ("PGCHANNELBINDING", "disable")],
            true,
        ),
        (&[("PGGSSENCMODE", "prefer")], true),
    ] {
        let query = "select current_user, current_database()";
        let arguments = ["-c", query, "-c", "\\conninfo"];
        let output = run(psql(&gateway, variables, &arguments)).await;
        let answer = answer(&output);
        let (row, connection) = answer.split_once('\n').unwrap();
        assert_eq!(row, format!("scram|{DATABASE}"), "{variables:?}");
        let tls = connection.contains("SSL connection");
        assert_eq!(tls, encrypted, "{variables:?}: {connection}");
    }
}

#[tokio::test]
async fn the_unix_socket_takes_any_name_and_no_password() {
    let server = server();
    let gateway = TestGateway::open(&server, "scram", UpstreamTlsMode::Prefer).await;
    let socket_dir = gateway.socket_dir.to_str().unwrap();
    for user in ["sushi", "ann"] {
        let variables = [
            ("PGHOST", socket_dir),
            ("PGPORT", "5432"),
            ("PGUSER", user),
            ("PGPASSWORD", ""),
        ];
        let query = "select current_user, current_database()";
        let output = run(psql(&gateway, &variables, &["-c", query])).await;
        assert_eq!(answer(&output), format!("scram|{DATABASE}\n"));
    }
}

#[tokio::test]
async fn what_the_client_asks_of_the_server_arrives() {
    let server = server();
    let gateway = TestGateway::open(&server, "streams", UpstreamTlsMode::Prefer).await;
    let variables = [
        ("PGOPTIONS", "-c work_mem=123MB -c DateStyle=ISO,\\ DMY"),
        ("PGAPPNAME", "a name"),
        ("PGTZ", "Asia/Tokyo"),
        ("PGDATABASE", "postgres"),
    ];
    let query = "select current_setting('work_mem'), current_setting('DateStyle'), \
        current_setting('application_name'), current_setting('TimeZone'), current_database()";
    let output = run(psql(&gateway, &variables, &["-c", query])).await;
    assert_eq!(
        answer(&output),
        "123MB|ISO, DMY|a name|Asia/Tokyo|postgres\n"
    );

    let connection = "dbname=sushi replication=database";
    let output = run(psql(&gateway, &[], &["-c", "IDENTIFY_SYSTEM", connection])).await;
    assert!(answer(&output).trim_end().ends_with(DATABASE));
}

#[tokio::test]
async fn what_is_wrong_is_said_in_psql() {
    let server = server();
    let gateway = TestGateway::open(&server, "scram", UpstreamTlsMode::Prefer).await;
    let closed = TestGateway::open(&server, "no_login", UpstreamTlsMode::Prefer).await;
    let strict = TestGateway::open(
        &server,
        "scram",
        UpstreamTlsMode::VerifyCa(vec![
            CertificateParams::default()
                .self_signed(&KeyPair::generate().unwrap())
                .unwrap()
                .der()
                .clone(),
        ]),
    )
    .await;
    for (gateway, variables, says) in [
        (
            &gateway,
            ("PGPASSWORD", "wrong"),
            &[
                "FATAL:  password authentication failed for user \"sushi\"",
                "HINT:  ",
                "`borealisctl show sushi --reveal`",
            ][..],
        ),
        (
            &gateway,
            ("PGUSER", "ramen"),
            &[
                "FATAL:  this is the session sushi of",
                "user \"ramen\" is not let in to",
            ],
        ),
        (
            &gateway,
            ("PGDATABASE", "missing"),
            &["FATAL:  database \"missing\" does not exist"],
        ),
        (
            &closed,
            ("PGAPPNAME", "psql"),
            &[
                "FATAL:  session \"sushi\": the database refused the credentials",
                "is not permitted to log in",
            ],
        ),
        (
            &strict,
            ("PGAPPNAME", "psql"),
            &["FATAL:  session \"sushi\": TLS with the database server"],
        ),
    ] {
        let output = run(psql(gateway, &[variables], &["-c", "select 1"])).await;
        assert_eq!(output.status.code(), Some(2));
        let said = String::from_utf8(output.stderr).unwrap();
        for part in says {
            assert!(said.contains(part), "{said}");
        }
        // What comes after the log-in to the session isn't taken for TLS' fault.
        let once = !["password authentication", "no session of yours"]
            .iter()
            .any(|refused| said.contains(refused));
        assert_eq!(said.matches("FATAL").count() == 1, once, "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn control_c_in_psql_cancels() {
    let server = server();
    let gateway = TestGateway::open(&server, "scram", UpstreamTlsMode::Prefer).await;
    let socket_dir = gateway.socket_dir.to_str().unwrap();
    let way = |name, mode, host, port| {
        [
            ("PGAPPNAME", name),
            ("PGSSLMODE", mode),
            ("PGHOST", host),
            ("PGPORT", port),
        ]
    };
    let port = gateway.port.to_string();
    for variables in [
        way("plain", "disable", "127.0.0.1", port.as_str()),
        way("tls", "require", "127.0.0.1", &port),
        way("unix", "disable", socket_dir, "5432"),
    ] {
        let mut command = psql(&gateway, &variables, &["-c", "select pg_sleep(600)"]);
        let child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let running = format!(
            "select count(*) from pg_stat_activity where state = 'active' \
             and query like '%pg_sleep(600)%' and application_name = '{}'",
            variables[0].1
        );
        let asked = std::time::Instant::now();
        while server.admin(&running) != "1\n" {
            assert!(asked.elapsed() < LIMIT);
        }
        let pid = Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
        kill_process(pid, Signal::INT).unwrap();
        let output = timeout(LIMIT, child.wait_with_output()).await.unwrap();
        let said = String::from_utf8(output.unwrap().stderr).unwrap();
        assert!(
            said.contains("canceling statement due to user request"),
            "{said}"
        );
    }
}

#[tokio::test]
async fn much_goes_through_both_ways() {
    let server = server();
    let gateway = TestGateway::open(&server, "scram", UpstreamTlsMode::Prefer).await;
    let query = "copy (select i, repeat('x', 100) from generate_series(1, 200000) i) to stdout";
    let output = run(psql(&gateway, &[], &["-c", query])).await;
    let lines = answer(&output);
    assert_eq!(lines.lines().count(), 200_000);

    let mut command = psql(
        &gateway,
        &[],
        &[
            "-c",
            "create temp table t (i int, x text)",
            "-c",
            "copy t from stdin",
            "-c",
            "select count(*), sum(length(x)) from t",
        ],
    );
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(lines.as_bytes()).await.unwrap();
    drop(stdin);
    let output = timeout(LIMIT, child.wait_with_output()).await.unwrap();
    assert_eq!(answer(&output.unwrap()), "200000|20000000\n");
}

#[tokio::test]
async fn pg_isready_is_answered() {
    let server = server();
    let gateway = TestGateway::open(&server, "scram", UpstreamTlsMode::Prefer).await;
    let mut command = Command::new(binary("pg_isready"));
    command
        .env_clear()
        .args(["-h", "127.0.0.1", "-p", &gateway.port.to_string()]);
    assert_eq!(run(command).await.status.code(), Some(0));
}

#[tokio::test]
async fn tokio_postgres_gets_in() {
    let server = server();
    let gateway = TestGateway::open(&server, "scram", UpstreamTlsMode::Require).await;
    let config = format!(
        "host=127.0.0.1 port={} user=sushi password='session\\'s own'",
        gateway.port
    );
    let (client, connection) = tokio_postgres::connect(&config, tokio_postgres::NoTls)
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    let row = client.query_one("select $1::text", &[&"é"]).await.unwrap();
    assert_eq!(row.get::<_, &str>(0), "é");
    drop(client);
    connection.await.unwrap().unwrap();
}
