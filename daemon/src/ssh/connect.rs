//! A TCP connection to the bastion, by whichever of its addresses answers first.

use std::{collections::VecDeque, io, net::SocketAddr, time::Duration};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::{
    net::{TcpStream, lookup_host},
    time::{Instant, sleep, timeout},
};

use super::failure::plain;
use crate::model::{Cause, HostPort};

/// How long an address has before the next one is tried beside it (RFC 8305, section 5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// A connection and what is known of its way.
pub(super) struct Connected {
    pub(super) socket: TcpStream,
    /// How long the bastion took to answer.
    pub(super) round_trip: Duration,
}

/// Connects to one of the bastion's addresses.
///
/// # Errors
/// `BastionUnreachable`, after at most `limit`. Dropping the future gives up all attempts.
pub(super) async fn connect(bastion: &HostPort, limit: Duration) -> Result<Connected, Cause> {
    let unreachable = |detail| Cause::BastionUnreachable {
        bastion: bastion.clone(),
        detail,
    };
    let connecting = async {
        let addresses = lookup_host((bastion.host.as_str(), bastion.port)).await?;
        race(addresses.collect()).await
    };
    timeout(limit, connecting)
        .await
        .map_err(|_| unreachable(format!("no answer within {} s", limit.as_secs())))?
        .map_err(|error| unreachable(plain(&error)))
}

/// Tries one address after the other, each [`ATTEMPT_DELAY`] after the one before or at once
/// where that one has failed. The first that answers wins.
async fn race(addresses: Vec<SocketAddr>) -> io::Result<Connected> {
    let mut waiting = interleave(addresses);
    let mut attempts = FuturesUnordered::new();
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "its name has no address");
    loop {
        match waiting.pop_front() {
            Some(address) => attempts.push(attempt(address)),
            None if attempts.is_empty() => return Err(failure),
            None => {}
        }
        tokio::select! {
            Some(ended) = attempts.next() => match ended {
                Ok(connected) => return Ok(connected),
                Err(error) => failure = error,
            },
            () = sleep(ATTEMPT_DELAY), if !waiting.is_empty() => {}
        }
    }
}

async fn attempt(address: SocketAddr) -> io::Result<Connected> {
    let asked = Instant::now();
    let socket = TcpStream::connect(address).await?;
    let round_trip = asked.elapsed();
    Ok(Connected { socket, round_trip })
}

/// The system's order, but with the two families taking turns (RFC 8305, section 4): one that
/// doesn't work here must not use up the time.
fn interleave(addresses: Vec<SocketAddr>) -> VecDeque<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses
        .into_iter()
        .partition(|address| address.is_ipv6() == first_is_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut mixed = VecDeque::new();
    loop {
        let pair = [first.next(), second.next()];
        if pair == [None, None] {
            return mixed;
        }
        mixed.extend(pair.into_iter().flatten());
    }
}

#[cfg(test)]
mod tests {
    use socket2::{Domain, Socket, Type};
    use tokio::net::TcpListener;

    use super::*;

    /// An address where SYNs are dropped: the queue of its listener is full.
    async fn silent() -> (Socket, Vec<TcpStream>, SocketAddr) {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        socket.bind(&any.into()).unwrap();
        socket.listen(0).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        let mut queued = Vec::new();
        while let Ok(Ok(stream)) =
            timeout(Duration::from_millis(300), TcpStream::connect(address)).await
        {
            queued.push(stream);
        }
        (socket, queued, address)
    }

    #[tokio::test]
    async fn a_dead_first_address_does_not_hold_up_the_next() {
        let (_listener, _queued, dead) = silent().await;
        let alive = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = alive.local_addr().unwrap();
        let connected = race(vec![dead, dead, address]).await.unwrap();
        assert_eq!(connected.socket.peer_addr().unwrap(), address);
        // Its own time, without what the dead ones took.
        assert!(connected.round_trip < ATTEMPT_DELAY);
    }

    #[tokio::test]
    async fn the_last_refusal_is_told() {
        let gone = {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            listener.local_addr().unwrap()
        };
        let error = race(vec![gone, gone]).await.err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let error = race(Vec::new()).await.err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn families_take_turns() {
        let address = |text: &str| -> SocketAddr { text.parse().unwrap() };
        let [a, b, c] = ["[::1]:1", "[::2]:1", "[::3]:1"].map(address);
        let [x, y] = ["1.1.1.1:1", "1.1.1.2:1"].map(address);
        assert_eq!(interleave(vec![a, b, c, x, y]), [a, x, b, y, c]);
        assert_eq!(interleave(vec![x, a]), [x, a]);
        assert!(interleave(Vec::new()).is_empty());
    }
}
