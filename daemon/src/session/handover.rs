//! Gives a connection that was kept ready to a client, and proves that it is alive without
//! making the client wait.
//!
//! The database may have ended the connection while the news of it is still under way. So a
//! Sync goes ahead of whatever the client asks: a server answers messages in their order,
//! and answers Sync with ReadyForQuery before it reads the next. Where that answer comes,
//! the connection was alive, and what the client asked is in good hands. Where anything
//! else comes first, or the end, **nothing of what the client asked has been looked at**,
//! and it can be asked again on a new connection, whatever it is.

use std::{
    collections::HashMap,
    io,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split};

use crate::postgres::CancelRequest;

/// Sync, which changes nothing on a connection where nothing is asked.
const SYNC: &[u8] = b"S\0\0\0\x04";
/// What a client may ask before the proof is there; the rest waits in its socket.
const ASKED: usize = 64 * 1024;
/// What one message may hold that the database says before it.
const SAID: usize = 64 * 1024;

/// What came of a handover.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Handover {
    /// The client's from now on.
    Alive {
        /// What the client asked, and has been passed on.
        passed: Bytes,
        /// What it asked beyond that.
        asked: Bytes,
        /// What the database has answered already.
        said: Bytes,
    },
    /// The database had ended it.
    Dead {
        /// What the client asked, of which nothing was looked at.
        asked: Bytes,
    },
}

/// Proves that `database` is alive while the client begins.
///
/// # Errors
/// Where the client's connection fails.
pub(super) async fn hand_over<C, D>(client: &mut C, database: &mut D) -> io::Result<Handover>
where
    C: AsyncRead + AsyncWrite + Unpin,
    D: AsyncRead + AsyncWrite + Unpin,
{
    let (mut from_client, mut to_client) = split(client);
    let (mut from_database, mut to_database) = split(database);
    let mut said = BytesMut::with_capacity(1024);
    let mut fresh = BytesMut::with_capacity(1024);
    let mut asked = BytesMut::new();
    // What is on its way to the database: the proof, then what is asked.
    let mut passing = Bytes::from_static(SYNC);
    let mut written = 0_usize;
    let mut needs_flush = true;
    let mut client_has_ended = false;
    loop {
        let may_ask = passing.is_empty() && !client_has_ended && asked.len() < ASKED;
        tokio::select! {
            biased;
            read = from_database.read_buf(&mut said) => {
                if !matches!(read, Ok(1..)) {
                    return Ok(Handover::Dead { asked: asked.freeze() });
                }
                loop {
                    match hear(&mut said) {
                        Heard::Ready => {
                            let beyond = asked.split_off(written.saturating_sub(SYNC.len()));
                            return Ok(Handover::Alive {
                                passed: asked.freeze(),
                                asked: beyond.freeze(),
                                said: said.freeze(),
                            });
                        }
                        Heard::AtAnyTime(messages) if messages.is_empty() => break,
                        Heard::AtAnyTime(messages) => {
                            to_client.write_all(&messages).await?;
                            to_client.flush().await?;
                        }
                        Heard::Other => return Ok(Handover::Dead { asked: asked.freeze() }),
                    }
                }
            }
            passed = push(&mut to_database, &passing), if !passing.is_empty() || needs_flush => {
                needs_flush = !passing.is_empty();
                // Where it takes no more, its other direction ends too.
                let passed = passed.unwrap_or(passing.len());
                passing.advance(passed);
                written += passed;
            }
            read = from_client.read_buf(&mut fresh), if may_ask => {
                // Whoever asks and closes at once has asked all the same.
                client_has_ended = read? == 0;
                passing = fresh.split().freeze();
                asked.extend_from_slice(&passing);
            }
        }
    }
}

/// One step, that can be given up without loss: writes, or flushes where nothing is left to
/// write. How much was written.
async fn push<W: AsyncWrite + Unpin>(writer: &mut W, bytes: &[u8]) -> io::Result<usize> {
    if bytes.is_empty() {
        return writer.flush().await.map(|()| 0);
    }
    writer.write(bytes).await
}

/// What the database has said.
enum Heard {
    /// That it is ready; what follows is left.
    Ready,
    /// Whole messages that may come at any time, or nothing whole yet.
    AtAnyTime(Bytes),
    /// Anything else.
    Other,
}

fn hear(said: &mut BytesMut) -> Heard {
    let mut whole = 0;
    loop {
        let rest = &said[whole..];
        let Some((&[tag, a, b, c, d], body)) = rest.split_first_chunk::<5>() else {
            break;
        };
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        match tag {
            b'Z' if length == 5 && whole == 0 && !body.is_empty() => {
                said.advance(6);
                return Heard::Ready;
            }
            // It isn't whole, or the others are passed on first and it is looked at again.
            b'Z' if length == 5 => break,
            b'S' | b'N' | b'A' if (4..SAID).contains(&length) => {}
            _ => return Heard::Other,
        }
        if rest.len() < 1 + length {
            break;
        }
        whole += 1 + length;
    }
    Heard::AtAnyTime(said.split_to(whole).freeze())
}

/// The parameters that a new connection's greeting has and an earlier one's hasn't, as
/// messages.
pub(super) fn changed_parameters(before: &Bytes, now: &Bytes) -> Bytes {
    let known: Vec<Bytes> = parameters(before).collect();
    let mut changed = BytesMut::new();
    for parameter in parameters(now) {
        if !known.contains(&parameter) {
            changed.extend_from_slice(&parameter);
        }
    }
    changed.freeze()
}

fn parameters(greeting: &Bytes) -> impl Iterator<Item = Bytes> {
    let mut rest = greeting.clone();
    std::iter::from_fn(move || {
        let length = u32::from_be_bytes(rest.get(1..5)?.try_into().ok()?);
        let whole = usize::try_from(length).ok()?.checked_add(1)?;
        (whole <= rest.len()).then(|| rest.split_to(whole))
    })
    .filter(|message| message.first() == Some(&b'S'))
}

/// Cancel keys that clients were given, of connections that have been replaced since.
#[derive(Default)]
pub(super) struct Cancels(Mutex<HashMap<CancelRequest, CancelRequest>>);

/// Keeps the translation of one key.
pub(super) struct Translated<'a> {
    cancels: &'a Cancels,
    given: CancelRequest,
}

// === impl Cancels ===

impl Cancels {
    /// Has requests with the key `given` meant for the connection with the key `now`.
    pub(super) fn replace(&self, given: CancelRequest, now: CancelRequest) -> Translated<'_> {
        self.keys().insert(given.clone(), now);
        Translated {
            cancels: self,
            given,
        }
    }

    pub(super) fn translate(&self, request: &CancelRequest) -> CancelRequest {
        self.keys().get(request).unwrap_or(request).clone()
    }

    fn keys(&self) -> MutexGuard<'_, HashMap<CancelRequest, CancelRequest>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Translated<'_> {
    fn drop(&mut self) {
        self.cancels.keys().remove(&self.given);
    }
}

#[cfg(test)]
mod tests;
