//! The attacks. Each answers what it holds on to.

use std::pin::Pin;

use borealis_tests::harness::wire;
use futures_util::future::join_all;
use rand::RngExt as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::Target;

pub(super) type Attack = Box<dyn FnOnce(Target) -> Pin<Box<dyn Future<Output = Vec<TcpStream>>>>>;

/// All of them, by name, for a process that may have so many descriptors.
pub(super) fn all(descriptors: usize) -> Vec<(&'static str, Attack)> {
    let connects = 10_000.min(descriptors - 500);
    vec![
        ("random bytes", boxed(random_bytes)),
        ("half a startup packet", boxed(half_a_packet)),
        (
            "a length of 2 GiB",
            boxed(|target| long(target, 0x7fff_ffff)),
        ),
        ("a length of 4 GiB", boxed(|target| long(target, u32::MAX))),
        ("half a TLS handshake", boxed(half_a_handshake)),
        ("a slow drip", boxed(drip)),
        ("a log-in that stops", boxed(stops_at_the_password)),
        (
            "connects without a word",
            boxed(move |target| silence(target, connects)),
        ),
    ]
}

fn boxed<F>(attack: impl FnOnce(Target) -> F + 'static) -> Attack
where
    F: Future<Output = Vec<TcpStream>> + 'static,
{
    Box::new(|target| Box::pin(attack(target)))
}

async fn random_bytes(target: Target) -> Vec<TcpStream> {
    let each = (0..500).map(async |_| {
        let mut bytes = vec![0; rand::rng().random_range(1..16_384)];
        rand::rng().fill(&mut bytes[..]);
        let mut stream = target.connect().await;
        // It may be refused in the middle.
        let _ = stream.write_all(&bytes).await;
        stream
    });
    join_all(each).await
}

async fn half_a_packet(target: Target) -> Vec<TcpStream> {
    let whole = wire::startup(&[("user", &target.user), ("application_name", "half")]);
    let each = (0..400).map(async |_| {
        let mut stream = target.connect().await;
        stream.write_all(&whole[..whole.len() / 2]).await.unwrap();
        stream
    });
    join_all(each).await
}

/// A length that no packet has, and what would follow: the connection must end.
async fn long(target: Target, length: u32) -> Vec<TcpStream> {
    let each = (0..50).map(async |_| {
        let mut stream = target.connect().await;
        stream.write_all(&length.to_be_bytes()).await.unwrap();
        let piece = vec![b'x'; 64 * 1024];
        for _ in 0..64 {
            if stream.write_all(&piece).await.is_err() {
                break;
            }
        }
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
        assert!(rest.len() < 1000, "{} bytes in answer", rest.len());
    });
    join_all(each).await;
    Vec::new()
}

async fn half_a_handshake(target: Target) -> Vec<TcpStream> {
    const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
    let each = (0..200).map(async |number| {
        let mut stream = target.connect().await;
        stream.write_all(&SSL_REQUEST).await.unwrap();
        let mut answer = [0];
        if stream.read_exact(&mut answer).await.is_ok() {
            assert_eq!(&answer, b"S");
            // A record that promises 16 KiB of a handshake, or nonsense.
            let record: &[u8] = if number % 2 == 0 {
                &[22, 3, 1, 64, 0, 1, 0, 63, 252]
            } else {
                b"GET / HTTP/1.1\r\n\r\n"
            };
            let _ = stream.write_all(record).await;
        }
        stream
    });
    join_all(each).await
}

/// Byte for byte, so that each comes alone.
async fn drip(target: Target) -> Vec<TcpStream> {
    let whole = wire::startup(&[("user", &target.user), ("application_name", "drip")]);
    let each = (0..50).map(async |_| {
        let mut stream = target.connect().await;
        let _ = stream.set_nodelay(true);
        for byte in &whole[..whole.len() - 1] {
            if stream.write_all(&[*byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        stream
    });
    join_all(each).await
}

async fn stops_at_the_password(target: Target) -> Vec<TcpStream> {
    let startup = wire::startup(&[("user", &target.user)]);
    let each = (0..300).map(async |_| {
        let mut stream = target.connect().await;
        let _ = stream.write_all(&startup).await;
        let mut asked = [0; 16];
        let _ = stream.read(&mut asked).await;
        stream
    });
    join_all(each).await
}

async fn silence(target: Target, connects: usize) -> Vec<TcpStream> {
    let mut held = Vec::with_capacity(connects);
    while held.len() < connects {
        let some = (0..100.min(connects - held.len())).map(|_| target.connect());
        held.extend(join_all(some).await);
    }
    held
}
