//! Cancel requests: packets that open a connection of their own and ask the server to end
//! what another connection is doing. The key that names the connection is the server's own,
//! since its BackendKeyData reaches the client as it came, so nothing is looked up or
//! translated here, and a request stays good however often credentials rotate.

use std::{fmt, io};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use super::wire;

/// A request to cancel, with the key that the server gave the connection it is for.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CancelRequest {
    /// Process id and secret.
    key: Bytes,
}

// === impl CancelRequest ===

impl CancelRequest {
    /// The server's process that the connection has.
    pub fn process_id(&self) -> u32 {
        let mut key = self.key.clone();
        wire::take_u32(&mut key).unwrap_or_default()
    }

    /// Stands where a startup packet has its version.
    pub(super) const CODE: u32 = 80_877_102;
    const PROCESS_ID: usize = 4;
    /// Four bytes in protocol 3.0; 3.2 allows up to 256.
    const SECRET: std::ops::RangeInclusive<usize> = 4..=256;

    /// From the key that a server gave in BackendKeyData, or that a client sends behind the
    /// request's code. `None` where its length can't be.
    pub(super) fn parse(key: Bytes) -> Option<Self> {
        let secret = key.len().checked_sub(Self::PROCESS_ID)?;
        Self::SECRET.contains(&secret).then_some(Self { key })
    }

    /// The packet, as it goes to the server.
    pub fn encode(&self) -> Bytes {
        wire::frame(None, &[&Self::CODE.to_be_bytes(), &self.key[..]].concat())
    }
}

/// The secret isn't shown: who has it can cancel.
impl fmt::Debug for CancelRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CancelRequest(process {})", self.process_id())
    }
}

/// Sends a cancel request over a channel of its own and waits until the server closes it,
/// which it does once it has passed the request on; the client's connection should be held
/// open until then, since clients take its end for "done".
///
/// Always without TLS: the server acts on a cancel request before anything that could demand
/// TLS is looked at (as libpq's `PQcancel` relies on), and the channel runs within the
/// tunnel. Whether something was cancelled isn't said by the server.
///
/// # Errors
/// When the channel fails before the request is written; a reset afterwards is the server's
/// way to close.
pub async fn forward<S>(mut channel: S, request: &CancelRequest) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    wire::send(&mut channel, &request.encode()).await?;
    let mut ignored = [0; 64];
    while !matches!(channel.read(&mut ignored).await, Ok(0) | Err(_)) {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::postgres::startup::FirstPacket;

    #[test]
    fn keys_of_both_protocol_versions_pass_as_they_came() {
        for secret in [4, 32, 256] {
            let request = CancelRequest::parse(vec![7; 4 + secret].into()).unwrap();
            let parsed = FirstPacket::parse(request.encode().slice(4..));
            assert_eq!(parsed, Ok(FirstPacket::Cancel(request)));
        }
        for wrong in [0, 4, 7, 261] {
            assert_eq!(CancelRequest::parse(vec![7; wrong].into()), None, "{wrong}");
        }
    }

    #[test]
    fn the_secret_stays_out_of_debug_output() {
        let request = CancelRequest::parse(Bytes::from_static(b"\0\0\0\x05ABCD")).unwrap();
        assert_eq!(format!("{request:?}"), "CancelRequest(process 5)");
    }

    #[tokio::test]
    async fn forward_ends_when_the_server_closes() {
        let (ours, mut server) = tokio::io::duplex(64);
        let request = CancelRequest::parse(Bytes::from_static(b"\0\0\0\x05ABCD")).unwrap();
        let (sent, read) = tokio::join!(forward(ours, &request), async {
            let mut packet = [0; 16];
            server.read_exact(&mut packet).await.unwrap();
            drop(server);
            packet
        });
        sent.unwrap();
        assert_eq!(&read, b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x05ABCD");
    }

    proptest! {
        #[test]
        fn any_key_is_taken_as_it_is_or_not_at_all(key in proptest::collection::vec(any::<u8>(), 0..300)) {
            match CancelRequest::parse(key.clone().into()) {
                Some(request) => prop_assert_eq!(&request.encode()[8..], &key[..]),
                None => prop_assert!(!(8..=260).contains(&key.len())),
            }
        }
    }
}
