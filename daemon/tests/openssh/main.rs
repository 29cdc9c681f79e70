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
    ssh::{self, Keepalive, Route},
};
use jiff::Timestamp;
use server::Sshd;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
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
    let tunnel = ssh::dial(
        &lease(sshd, host_key, private_key),
        KEEPALIVE,
        0,
        Route::default(),
    )
    .await?;
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
    let tunnel = ssh::dial(&lease, KEEPALIVE, 0, Route::default())
        .await
        .unwrap();
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
    let outcome = ssh::dial(&lease, KEEPALIVE, 0, Route::default())
        .await
        .err();
    assert!(
        matches!(outcome, Some(Cause::BastionUnreachable { .. })),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn what_a_server_says_before_it_closes_is_told() {
    let sshd = Sshd::with_settings("MaxStartups 1:100:1");
    // One connection that doesn't log in is all that it takes.
    let address = ("127.0.0.1", sshd.port());
    let first = loop {
        let mut first = TcpStream::connect(address).await.unwrap();
        // The one that waited for the server may still count.
        if first.read_u8().await.is_ok_and(|byte| byte == b'S') {
            break first;
        }
    };
    let lease = lease(&sshd, &sshd.host_key("ed25519"), &sshd.user_key());
    let refused = ssh::dial(&lease, KEEPALIVE, 0, Route::default())
        .await
        .err();
    let Some(Cause::BastionBusy { said, .. }) = &refused else {
        panic!("{refused:?}");
    };
    assert_eq!(said.as_deref(), Some("Exceeded MaxStartups"));
    drop(first);
}

/// Accepts connections, says its words, and closes.
async fn closes_with(words: &'static [u8]) -> HostPort {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(words).await;
            let _ = stream.shutdown().await;
            // With the client's words unread it would be a reset.
            let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
        }
    });
    HostPort {
        host: "127.0.0.1".into(),
        port,
    }
}

#[tokio::test]
async fn a_server_that_closes_at_once_is_told_from_one_that_is_no_ssh_server() {
    let sshd = Sshd::start(&["ed25519"], "ed25519");
    let mut lease = lease(&sshd, &sshd.host_key("ed25519"), &sshd.user_key());
    lease.credential.bastion = closes_with(b"").await;
    let outcome = ssh::dial(&lease, KEEPALIVE, 0, Route::default())
        .await
        .err();
    assert!(
        matches!(outcome, Some(Cause::BastionBusy { said: None, .. })),
        "{outcome:?}"
    );
    lease.credential.bastion = closes_with(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    let outcome = ssh::dial(&lease, KEEPALIVE, 0, Route::default())
        .await
        .err();
    let Some(Cause::BastionUnreachable { detail, .. }) = &outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(
        detail,
        "what answers there is no SSH server; it said: HTTP/1.1 400 Bad Request"
    );
}

/// Sends `length` bytes to whoever connects, and takes what comes.
async fn source(length: usize) -> HostPort {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut reader, mut writer) = stream.into_split();
                let taking = async move {
                    let _ = tokio::io::copy(&mut reader, &mut tokio::io::sink()).await;
                };
                let sending = async move {
                    let piece = vec![7; 64 * 1024];
                    let mut left = length;
                    while left > 0 {
                        let next = left.min(piece.len());
                        writer.write_all(&piece[..next]).await.unwrap();
                        left -= next;
                    }
                    writer.shutdown().await.unwrap();
                };
                tokio::join!(taking, sending);
            });
        }
    });
    HostPort {
        host: "127.0.0.1".into(),
        port,
    }
}

/// Downloads over `channels` of one tunnel at once, and uploads as well; each is whole.
async fn nothing_is_lost(sshd: &Sshd, channels: usize, down: usize, up: usize) {
    let lease = lease(sshd, &sshd.host_key("ed25519"), &sshd.user_key());
    let tunnel = ssh::dial(&lease, KEEPALIVE, 0, Route::default())
        .await
        .unwrap();
    let server = source(down).await;
    let mut transfers = JoinSet::new();
    for _ in 0..channels {
        let channel = tunnel.reserve().open(&server).await.unwrap();
        transfers.spawn(async move {
            let (mut reader, mut writer) = tokio::io::split(channel);
            let uploading = async move {
                writer.write_all(&vec![1; up]).await.unwrap();
                writer
            };
            let downloading = async move {
                let mut piece = vec![0; 64 * 1024];
                let mut received = 0;
                loop {
                    match reader.read(&mut piece).await {
                        Ok(0) => break received,
                        Ok(read) => received += read,
                        Err(error) => panic!("{error} after {received} bytes"),
                    }
                }
            };
            let (_writer, received) = tokio::join!(uploading, downloading);
            received
        });
    }
    for received in transfers.join_all().await {
        assert_eq!(received, down);
    }
    assert!(!tunnel.is_closed(), "{:?}", tunnel.loss());
}

/// Whether all of it comes, where its readers pause for much longer than the server bears
/// without an answer to its own probes.
async fn all_comes_after_a_pause(channels: usize) {
    const LENGTH: usize = 48 << 20;
    // Three seconds.
    let sshd = Sshd::with_settings("ClientAliveInterval 1\nClientAliveCountMax 2");
    let lease = lease(&sshd, &sshd.host_key("ed25519"), &sshd.user_key());
    let tunnel = ssh::dial(&lease, KEEPALIVE, 0, Route::default())
        .await
        .unwrap();
    let server = source(LENGTH).await;
    let mut readers = Vec::new();
    for _ in 0..channels {
        readers.push(tunnel.reserve().open(&server).await.unwrap());
    }
    let closing = tunnel.closing();
    let lost = timeout(Duration::from_secs(9), closing.closed()).await;
    assert!(lost.is_err(), "{lost:?}");
    // One that shares the line with those that have stopped.
    let mut prompt = tunnel.reserve().open(&echo().await).await.unwrap();
    prompt.write_all(b"there and back").await.unwrap();
    let mut answer = [0; 14];
    prompt.read_exact(&mut answer).await.unwrap();
    drop(prompt);
    for mut reader in readers {
        let mut sink = tokio::io::sink();
        let received = tokio::io::copy(&mut reader, &mut sink).await.unwrap();
        assert_eq!(received, LENGTH as u64);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lone_reader_may_pause() {
    all_comes_after_a_pause(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_that_share_a_line_may_pause() {
    all_comes_after_a_pause(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stops_again_and_again_stops_nobody() {
    let sshd = Sshd::start(&["ed25519"], "ed25519");
    let lease = lease(&sshd, &sshd.host_key("ed25519"), &sshd.user_key());
    let tunnel = ssh::dial(&lease, KEEPALIVE, 0, Route::default())
        .await
        .unwrap();
    let server = source(96 << 20).await;
    let mut fitful = tunnel.reserve().open(&server).await.unwrap();
    let mut prompt = tunnel.reserve().open(&echo().await).await.unwrap();
    let mut piece = vec![0; 6 << 20];
    for _ in 0..15 {
        fitful.read_exact(&mut piece).await.unwrap();
        // By then more waits for the other than the line bears, so that it stops being read.
        for _ in 0..20 {
            let asking = async {
                prompt.write_all(b"there and back").await.unwrap();
                prompt.read_exact(&mut [0; 14]).await.unwrap();
            };
            let answer = timeout(Duration::from_secs(20), asking).await;
            assert!(answer.is_ok(), "no answer");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_transfer_is_lost_when_the_server_wants_new_keys() {
    // 192 MiB down and 48 MiB up: new keys some sixty times.
    let sshd = Sshd::with_settings("RekeyLimit 4M");
    nothing_is_lost(&sshd, 24, 8 << 20, 2 << 20).await;
}

/// After 1 GiB russh would ask for new keys by itself, with more on the way than it bears.
#[tokio::test(flavor = "multi_thread")]
async fn no_transfer_is_lost_to_new_keys_of_our_own() {
    let sshd = Sshd::start(&["ed25519"], "ed25519");
    nothing_is_lost(&sshd, 24, 48 << 20, 0).await;
}

/// A result that comes faster than it is taken piles up in sshd, which pays for the length of
/// its pile by copying it, page by page.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_near_server_is_not_made_to_pile_up_a_result() {
    const LENGTH: usize = 64 * 1024 * 1024;
    let sshd = Sshd::start(&["ed25519"], "ed25519");
    let lease = lease(&sshd, &sshd.host_key("ed25519"), &sshd.user_key());
    let tunnel = ssh::dial(&lease, KEEPALIVE, 0, Route::default())
        .await
        .unwrap();
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
