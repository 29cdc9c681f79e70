//! The SSH side against OpenSSH's own server, with every kind of key that it makes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that meets the unexpected has failed"
)]

mod server;

use std::time::Duration;

use borealisd::{
    model::{Cause, Generation, HostPort, Lease, SshCredential},
    ssh::{self, Keepalive},
};
use jiff::Timestamp;
use server::Sshd;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

const KEEPALIVE: Keepalive = Keepalive {
    interval: Duration::from_secs(5),
    timeout: Duration::from_secs(5),
};

fn lease(sshd: &Sshd, host_key: &str, private_key: &str) -> Lease<SshCredential> {
    Lease {
        generation: Generation(1),
        issued_at: Timestamp::now(),
        rotates_at: None,
        credential: SshCredential {
            bastion: HostPort {
                host: "127.0.0.1".into(),
                port: sshd.port(),
            },
            username: sshd.username(),
            private_key: private_key.into(),
            host_key: host_key.into(),
        },
    }
}

/// A server that sends back what it gets, once.
async fn echo() -> HostPort {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut reader, mut writer) = stream.split();
                let _ = tokio::io::copy(&mut reader, &mut writer).await;
                let _ = writer.shutdown().await;
            });
        }
    });
    HostPort {
        host: "127.0.0.1".into(),
        port,
    }
}

async fn speaks(sshd: &Sshd, host_key: &str, private_key: &str) -> Result<(), Cause> {
    let tunnel = ssh::dial(&lease(sshd, host_key, private_key), KEEPALIVE, 0).await?;
    let server = echo().await;
    let mut channel = tunnel.reserve().open(&server).await?;
    channel.write_all(b"there and back").await.unwrap();
    // Half-closed: the answer still comes.
    channel.shutdown().await.unwrap();
    let mut answer = String::new();
    channel.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "there and back");
    assert_eq!(tunnel.channels(), 1);
    drop(channel);
    assert_eq!(tunnel.channels(), 0);
    Ok(())
}

#[tokio::test]
async fn every_kind_of_host_key() {
    for kind in ["ed25519", "ecdsa-256", "ecdsa-384", "ecdsa-521", "rsa-3072"] {
        let sshd = Sshd::start(&[kind], "ed25519");
        let outcome = speaks(&sshd, &sshd.host_key(kind), &sshd.user_key()).await;
        assert_eq!(outcome, Ok(()), "{kind}");
    }
}

#[tokio::test]
async fn every_kind_of_user_key() {
    for kind in [
        "ed25519",
        "ecdsa-256",
        "ecdsa-521",
        "rsa-3072",
        "rsa-2048-pem",
        "ecdsa-256-pem",
    ] {
        let sshd = Sshd::start(&["ed25519"], kind);
        let outcome = speaks(&sshd, &sshd.host_key("ed25519"), &sshd.user_key()).await;
        assert_eq!(outcome, Ok(()), "{kind}");
    }
}

#[tokio::test]
async fn a_server_with_several_host_keys_shows_the_pinned_one() {
    let kinds = ["rsa-3072", "ecdsa-256", "ed25519"];
    let sshd = Sshd::start(&kinds, "ed25519");
    for kind in kinds {
        let outcome = speaks(&sshd, &sshd.host_key(kind), &sshd.user_key()).await;
        assert_eq!(outcome, Ok(()), "{kind}");
    }
}

#[tokio::test]
async fn another_key_is_refused_whatever_its_kind() {
    let sshd = Sshd::start(&["ed25519"], "ed25519");
    let other = Sshd::start(&["ed25519", "rsa-3072"], "ed25519");
    for kind in ["ed25519", "rsa-3072"] {
        let outcome = speaks(&sshd, &other.host_key(kind), &sshd.user_key()).await;
        assert!(
            matches!(outcome, Err(Cause::HostKeyDiffers { .. })),
            "{kind}: {outcome:?}"
        );
    }
}

#[tokio::test]
async fn a_key_that_the_server_does_not_know_is_a_refused_log_in() {
    let sshd = Sshd::start(&["ed25519"], "ed25519");
    let other = Sshd::start(&["ed25519"], "ed25519");
    let outcome = speaks(&sshd, &sshd.host_key("ed25519"), &other.user_key()).await;
    assert!(
        matches!(outcome, Err(Cause::BastionRefusedKey { .. })),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn a_database_that_is_down_is_told_from_a_lost_line() {
    let sshd = Sshd::start(&["ed25519"], "ed25519");
    let lease = lease(&sshd, &sshd.host_key("ed25519"), &sshd.user_key());
    let tunnel = ssh::dial(&lease, KEEPALIVE, 0).await.unwrap();
    // A port that was free a moment ago.
    let port = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap().port()
    };
    let nobody = HostPort {
        host: "127.0.0.1".into(),
        port,
    };
    let refused = tunnel.reserve().open(&nobody).await.err();
    assert!(
        matches!(refused, Some(Cause::DatabaseUnreachable { .. })),
        "{refused:?}"
    );
    let closing = tunnel.closing();
    drop(sshd);
    assert!(matches!(closing.closed().await, Cause::TunnelLost { .. }));
    let lost = tunnel.reserve().open(&nobody).await.err();
    assert!(matches!(lost, Some(Cause::TunnelLost { .. })), "{lost:?}");
}

#[tokio::test]
async fn what_is_no_ssh_server_is_said_to_be_none() {
    let sshd = Sshd::start(&["ed25519"], "ed25519");
    let server = echo().await;
    let mut lease = lease(&sshd, &sshd.host_key("ed25519"), &sshd.user_key());
    lease.credential.bastion = server;
    let outcome = ssh::dial(&lease, KEEPALIVE, 0).await.err();
    assert!(
        matches!(outcome, Some(Cause::BastionUnreachable { .. })),
        "{outcome:?}"
    );
}

/// A result that comes faster than it is taken piles up in sshd, which pays for the length of
/// its pile by copying it, page by page.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_near_server_is_not_made_to_pile_up_a_result() {
    const LENGTH: usize = 64 * 1024 * 1024;
    let sshd = Sshd::start(&["ed25519"], "ed25519");
    let lease = lease(&sshd, &sshd.host_key("ed25519"), &sshd.user_key());
    let tunnel = ssh::dial(&lease, KEEPALIVE, 0).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = HostPort {
        host: "127.0.0.1".into(),
        port,
    };
    let mut channel = tunnel.reserve().open(&server).await.unwrap();
    let (mut sender, _) = listener.accept().await.unwrap();
    let sending = tokio::spawn(async move { sender.write_all(&vec![7; LENGTH]).await });
    let mut piece = vec![0; 4096];
    let mut received = 0;
    loop {
        match channel.read(&mut piece).await.unwrap() {
            0 => break,
            read => received += read,
        }
    }
    sending.await.unwrap().unwrap();
    assert_eq!(received, LENGTH);
    // 2 MiB in steps of 32 KiB are 16,000 pages; 16 MiB would be a million.
    let faults = sshd.page_faults();
    assert!(faults < 100_000, "{faults} page faults");
}
