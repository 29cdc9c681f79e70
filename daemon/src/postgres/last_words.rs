//! The ends of streams, each within a bound: what is said last, the half-close that goes with
//! it (within TLS its close_notify), and a moment in which the other side is listened to.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    time::timeout,
};

use super::wire;

/// What saying it may take: a peer that doesn't read isn't waited for.
const SAY_LIMIT: Duration = Duration::from_secs(2);
/// How long a peer that may still be sending is listened to after it was told: closing with
/// unread bytes resets a TCP connection, and a reset can overtake what was said.
const LINGER: Duration = Duration::from_secs(1);
/// How much of that is taken.
const LINGER_BYTES: usize = 1024 * 1024;

/// Terminate, so that the server doesn't take the end for a lost client.
pub(crate) const TERMINATE: &[u8] = b"X\0\0\0\x04";

/// Ends a connection to the database well. Takes 2 s at most.
pub(crate) async fn terminate<S: AsyncWrite + Unpin>(database: &mut S) {
    let _ = say(database, TERMINATE).await;
}

/// Says the last bytes, which may be none, and half-closes. Takes 2 s at most.
///
/// # Errors
/// Where the peer doesn't take them, or has gone.
pub(crate) async fn say<S: AsyncWrite + Unpin>(stream: &mut S, last: &[u8]) -> io::Result<()> {
    let saying = async {
        if !last.is_empty() {
            wire::send(stream, last).await?;
        }
        stream.shutdown().await
    };
    timeout(SAY_LIMIT, saying).await?
}

/// Says the last bytes, half-closes, and drops what still comes for a moment. A peer that is
/// gone already is no error. Takes 3 s at most.
pub(crate) async fn say_and_linger<S>(stream: &mut S, last: &[u8])
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if say(stream, last).await.is_ok() {
        linger(stream).await;
    }
}

/// Reads and drops what a peer still sends, for a moment.
pub(crate) async fn linger<S: AsyncRead + Unpin>(stream: &mut S) {
    let dropping = async {
        let mut dropped = vec![0; 16 * 1024];
        let mut left = LINGER_BYTES;
        while left > 0 {
            match stream.read(&mut dropped).await {
                Ok(0) | Err(_) => return,
                Ok(read) => left = left.saturating_sub(read),
            }
        }
    };
    let _ = timeout(LINGER, dropping).await;
}

#[cfg(test)]
mod tests {
    use tokio::{io::duplex, time::Instant};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_reads_nothing_is_not_waited_for() {
        let (mut stream, _peer) = duplex(8);
        let began = Instant::now();
        say_and_linger(&mut stream, &[0; 100]).await;
        assert_eq!(began.elapsed(), SAY_LIMIT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_never_stops_is_heard_for_a_moment() {
        let (mut stream, mut peer) = duplex(1024);
        let began = Instant::now();
        let talking = async {
            loop {
                if peer.write_all(b"more").await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            () = talking => {}
            () = say_and_linger(&mut stream, b"last") => {}
        }
        assert_eq!(began.elapsed(), LINGER);
    }
}
