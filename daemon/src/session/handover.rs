//! Gives a connection that was kept ready to a client, and proves that it is alive without
//! making the client wait.
//!
//! The database may have ended the connection while the news of it is still under way. So a
//! Sync goes ahead of whatever the client asks: a server answers messages in their order,
//! and answers Sync with ReadyForQuery before it reads the next. Where that answer comes,
//! the connection was alive, and what the client asked is in good hands. Where the server
//! says goodbye instead, or ends the channel in order, **nothing of what the client asked
//! has been looked at**, and it can be asked again on a new connection, whatever it is.
//!
//! A tunnel that breaks proves nothing: the answer may have been lost with it. What was
//! passed on then is never asked again. So on a line that nobody has heard for a while, as
//! after a suspend, nothing is passed on before the answer is there.

use std::{
    collections::HashMap,
    io,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split},
    time::timeout,
};

use crate::postgres::CancelRequest;

/// Sync, which changes nothing on a connection where nothing is asked.
const SYNC: &[u8] = b"S\0\0\0\x04";
/// ReadyForQuery is so long.
const READY: usize = 6;
/// What a client may ask before the proof is there; the rest waits in its socket.
const ASKED: usize = 64 * 1024;
/// What the database may say before it.
const SAID: usize = 64 * 1024;
/// A channel's end and its tunnel's are seen so far apart at most.
const TUNNEL_NOTICE: Duration = Duration::from_millis(250);

/// What is known of the line that a connection is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    /// It was heard a moment ago.
    Heard,
    /// It may be dead.
    Doubted,
}

/// What came of a handover.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Handover {
    /// The client's from now on.
    Alive {
        /// What the client asked, and has been passed on.
        passed: Bytes,
        /// What it asked beyond that.
        asked: Bytes,
        /// What the database has said, but for the proof.
        said: Bytes,
    },
    /// The database had ended it.
    Dead {
        /// What the client asked, of which nothing was looked at.
        asked: Bytes,
    },
    /// The tunnel broke, and the database may have done what the client asked.
    Lost,
}

/// What the client has asked, and how much of it is on its way.
struct Asking {
    asked: BytesMut,
    /// What was written, the proof included.
    written: usize,
    line: Line,
    has_ended: bool,
}

/// Proves that `database` is alive while the client begins. `lost` completes when the tunnel
/// has ended.
///
/// # Errors
/// Where the client's connection fails.
pub(super) async fn hand_over<C, D>(
    client: &mut C,
    database: &mut D,
    line: Line,
    lost: impl Future,
) -> io::Result<Handover>
where
    C: AsyncRead + AsyncWrite + Unpin,
    D: AsyncRead + AsyncWrite + Unpin,
{
    let (mut from_database, mut to_database) = split(database);
    let mut said = BytesMut::with_capacity(1024);
    let mut looked_at = 0;
    let mut asking = Asking::new(line);
    let mut fresh = BytesMut::with_capacity(1024);
    let mut needs_flush = true;
    loop {
        tokio::select! {
            biased;
            read = from_database.read_buf(&mut said) => {
                match read {
                    Ok(1..) => {}
                    ended => return Ok(asking.after_end(ended, lost).await),
                }
                match hear(&said, &mut looked_at) {
                    Heard::Nothing if said.len() < SAID => {}
                    Heard::Ready => return Ok(asking.after_proof(said, looked_at)),
                    Heard::Nothing | Heard::Other => return Ok(asking.over_again()),
                }
            }
            passed = push(&mut to_database, asking.to_pass()), if needs_flush => {
                // Where it takes no more, its other direction ends too.
                let all = asking.to_pass().len();
                needs_flush = all > 0;
                asking.written += passed.unwrap_or(all);
            }
            read = client.read_buf(&mut fresh), if asking.may_ask() => {
                // Whoever asks and closes at once has asked all the same.
                asking.has_ended = read? == 0;
                asking.asked.unsplit(fresh.split());
                needs_flush |= !asking.to_pass().is_empty();
            }
        }
    }
}

// === impl Asking ===

impl Asking {
    fn new(line: Line) -> Self {
        Self {
            asked: BytesMut::new(),
            written: 0,
            line,
            has_ended: false,
        }
    }

    /// What goes to the database next: the proof, then what is asked.
    fn to_pass(&self) -> &[u8] {
        match (SYNC.get(self.written..), self.line) {
            (Some(rest @ [_, ..]), _) => rest,
            (_, Line::Heard) => &self.asked[self.passed()..],
            (_, Line::Doubted) => &[],
        }
    }

    fn passed(&self) -> usize {
        self.written.saturating_sub(SYNC.len())
    }

    fn may_ask(&self) -> bool {
        !self.has_ended && self.asked.len() < ASKED
    }

    fn after_proof(mut self, mut said: BytesMut, looked_at: usize) -> Handover {
        let asked = self.asked.split_off(self.passed());
        let mut beyond = said.split_off(looked_at);
        beyond.advance(READY);
        said.unsplit(beyond);
        Handover::Alive {
            passed: self.asked.freeze(),
            asked: asked.freeze(),
            said: said.freeze(),
        }
    }

    fn over_again(self) -> Handover {
        Handover::Dead {
            asked: self.asked.freeze(),
        }
    }

    /// The database's side ended without a word.
    async fn after_end(self, ended: io::Result<usize>, lost: impl Future) -> Handover {
        if self.passed() == 0 {
            return self.over_again();
        }
        let in_order = match ended {
            Ok(_) => true,
            // TLS misses a word at the end of a channel that ended in order.
            Err(error) => error.kind() == io::ErrorKind::UnexpectedEof,
        };
        if in_order && timeout(TUNNEL_NOTICE, lost).await.is_err() {
            self.over_again()
        } else {
            Handover::Lost
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
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    /// That it is ready, at the place that is looked at.
    Ready,
    /// What may come at any time, or nothing whole yet.
    Nothing,
    /// Anything else.
    Other,
}

/// Looks at what is new, from `looked_at` on.
fn hear(said: &[u8], looked_at: &mut usize) -> Heard {
    loop {
        let rest = said.get(*looked_at..).unwrap_or_default();
        let Some(&[tag, a, b, c, d]) = rest.first_chunk::<5>() else {
            return Heard::Nothing;
        };
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        match tag {
            b'Z' if length == READY - 1 && rest.len() >= READY => return Heard::Ready,
            b'Z' if length == READY - 1 => return Heard::Nothing,
            b'S' | b'N' | b'A' if (4..SAID).contains(&length) => {}
            _ => return Heard::Other,
        }
        if rest.len() < 1 + length {
            return Heard::Nothing;
        }
        *looked_at += 1 + length;
    }
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
