//! Messages as they lie on the wire: a tag, a length, a body; and the first packet of a
//! connection, which has no tag. Owns the bounds. What a message means is its reader's.

use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// What a startup packet may hold after its length: `MAX_STARTUP_PACKET_LENGTH` of
/// PostgreSQL's `src/include/libpq/pqcomm.h`.
pub(super) const MAX_STARTUP_BODY: usize = 10_000;

/// The first byte of a TLS handshake record. As the first byte of a length it would mean
/// a packet of some 370 MB.
const TLS_HANDSHAKE: u8 = 0x16;

/// Why no message came.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    /// The peer closed between two messages.
    #[error("closed")]
    Closed,
    /// The connection failed, or was closed within a message.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The bytes make no message.
    #[error("{0}")]
    Malformed(String),
}

/// A message with its tag and length.
#[derive(Debug, Clone)]
pub(super) struct Message {
    raw: Bytes,
}

/// What a connection begins with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// Nothing: the peer closed without a word.
    Closed,
    /// A packet, without its length.
    Packet(Bytes),
    /// A TLS handshake, of which these bytes have been read.
    Tls([u8; 4]),
}

// === impl Message ===

impl Message {
    const HEADER: usize = 5;

    pub(super) fn tag(&self) -> u8 {
        self.raw.first().copied().unwrap_or_default()
    }

    pub(super) fn body(&self) -> Bytes {
        self.raw.slice(Self::HEADER..)
    }

    /// The whole message as it came.
    pub(super) fn raw(&self) -> &Bytes {
        &self.raw
    }
}

/// Reads one message and not a byte more. `max_body` bounds the memory taken.
pub(super) async fn read_message<S>(stream: &mut S, max_body: usize) -> Result<Message, WireError>
where
    S: AsyncRead + Unpin,
{
    let mut header = [0; Message::HEADER];
    read_head(stream, &mut header).await?;
    let [tag, length @ ..] = header;
    let body = usize::try_from(u32::from_be_bytes(length))
        .ok()
        .and_then(|length| length.checked_sub(4))
        .filter(|body| *body <= max_body)
        .ok_or_else(|| {
            WireError::Malformed(format!(
                "a message of type {} says that it is {} bytes long",
                tag.escape_ascii(),
                u32::from_be_bytes(length)
            ))
        })?;
    let mut raw = BytesMut::zeroed(Message::HEADER + body);
    raw[..Message::HEADER].copy_from_slice(&header);
    stream.read_exact(&mut raw[Message::HEADER..]).await?;
    Ok(Message { raw: raw.freeze() })
}

/// Reads the first packet of a connection and not a byte more.
pub(super) async fn read_opening<S>(stream: &mut S) -> Result<Opening, WireError>
where
    S: AsyncRead + Unpin,
{
    let mut length = [0; 4];
    match read_head(stream, &mut length).await {
        Ok(()) => {}
        Err(WireError::Closed) => return Ok(Opening::Closed),
        Err(error) => return Err(error),
    }
    if length[0] == TLS_HANDSHAKE {
        return Ok(Opening::Tls(length));
    }
    let body = usize::try_from(u32::from_be_bytes(length))
        .ok()
        .and_then(|length| length.checked_sub(4))
        .filter(|body| (4..=MAX_STARTUP_BODY).contains(body))
        .ok_or_else(|| WireError::Malformed("invalid length of startup packet".into()))?;
    let mut packet = BytesMut::zeroed(body);
    stream.read_exact(&mut packet).await?;
    Ok(Opening::Packet(packet.freeze()))
}

/// Writes and flushes: a TLS stream keeps to itself what isn't flushed.
pub(super) async fn send<S>(stream: &mut S, bytes: &[u8]) -> io::Result<()>
where
    S: AsyncWrite + Unpin,
{
    stream.write_all(bytes).await?;
    stream.flush().await
}

/// One message, or with no tag the packet that opens a connection.
pub(super) fn frame(tag: Option<u8>, body: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(Message::HEADER + body.len());
    if let Some(tag) = tag {
        frame.put_u8(tag);
    }
    // No body here comes near 4 GiB: each is built from bounded parts.
    frame.put_u32(u32::try_from(body.len() + 4).unwrap_or(u32::MAX));
    frame.put_slice(body);
    frame.freeze()
}

/// Takes a text that ends with a zero byte off the front; `None` where there is no end.
pub(super) fn take_text(bytes: &mut Bytes) -> Option<Bytes> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    let mut text = bytes.split_to(end + 1);
    text.truncate(end);
    Some(text)
}

/// Takes four bytes off the front as a number.
pub(super) fn take_u32(bytes: &mut Bytes) -> Option<u32> {
    let number = u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?);
    drop(bytes.split_to(4));
    Some(number)
}

/// Fills `head`; tells a peer that closed before its first byte from one that did after.
async fn read_head<S>(stream: &mut S, head: &mut [u8]) -> Result<(), WireError>
where
    S: AsyncRead + Unpin,
{
    let first = stream.read(head).await?;
    if first == 0 {
        return Err(WireError::Closed);
    }
    stream.read_exact(&mut head[first..]).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn block_on<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(future)
    }

    #[tokio::test]
    async fn a_message_is_read_to_its_end_and_no_further() {
        let bytes = [&frame(Some(b'p'), b"body")[..], b"rest"].concat();
        let mut stream = &bytes[..];
        let message = read_message(&mut stream, 4).await.unwrap();
        assert_eq!((message.tag(), &message.body()[..]), (b'p', &b"body"[..]));
        assert_eq!(&message.raw()[..], &bytes[..9]);
        assert_eq!(stream, b"rest");
    }

    #[tokio::test]
    async fn a_message_longer_than_its_bound_takes_no_memory() {
        let mut stream = &b"p\xff\xff\xff\xff"[..];
        let error = read_message(&mut stream, 1000).await.unwrap_err();
        assert!(matches!(error, WireError::Malformed(_)), "{error:?}");
    }

    #[tokio::test]
    async fn startup_packets_have_the_servers_own_bounds() {
        for (length, fits) in [(4 + 4, true), (7, false), (10_004, true), (10_005, false)] {
            let mut bytes = u32::to_be_bytes(length).to_vec();
            bytes.resize(length as usize, 0);
            let opening = read_opening(&mut &bytes[..]).await;
            assert_eq!(opening.is_ok(), fits, "{length}");
        }
        assert_eq!(read_opening(&mut &b""[..]).await.unwrap(), Opening::Closed);
        let half = read_opening(&mut &b"\0\0"[..]).await;
        assert!(matches!(half, Err(WireError::Io(_))), "{half:?}");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            block_on(async {
                let _ = read_opening(&mut &bytes[..]).await;
                let mut stream = &bytes[..];
                while let Ok(message) = read_message(&mut stream, 100).await {
                    assert!(message.body().len() <= 100);
                }
            });
        }
    }
}
