//! Where client and server are in their conversation, told by the headers of their
//! messages alone: what a message holds is skipped, never copied and never kept.
//!
//! An error may be sent to a client between two messages; a connection may be ended without
//! doing harm where nothing is asked and no transaction is open. Both are answered here.
//! Where the count of what is asked can't be sure (a pipeline that ends in a `COPY`), the
//! answer errs towards "something is asked".
//!
//! Works on a conversation after its log-in, in protocol 3. What isn't that protocol is
//! never at a pause.

/// The length of a message's type and length.
const HEADER: usize = 5;
/// How much of a message is looked at: ReadyForQuery's status, the command that
/// CommandComplete names.
const PEEK: usize = 14;

/// What commands are named by that change what a later log-in begins with, as far as is
/// looked. Roles' and databases' settings hold from the next log-in on; event triggers may
/// fire at one.
const CHANGES_LOG_INS: [&[u8]; 5] = [
    b"ALTER ROLE",
    b"ALTER DATABASE",
    b"ALTER SYSTEM",
    b"CREATE EVENT T",
    b"ALTER EVENT TR",
];

/// Follows one conversation.
#[derive(Debug, Clone)]
pub struct ProtocolTracker {
    client: Frames,
    server: Frames,
    /// How many times the server is yet to say that it is ready.
    awaited: u64,
    /// The client has begun something that it will end with Sync.
    unsynced: bool,
    /// The client sends rows, and the server ignores Sync.
    copying_in: bool,
    /// What the last thing that the server answers with ReadyForQuery was.
    last_asked: u8,
    /// What the server last said, where that was that it is ready.
    ready: Option<Transaction>,
    /// A command that changes later log-ins was done in the transaction of the moment.
    changing_log_ins: bool,
    changed_log_ins: bool,
    /// The client has said that it leaves.
    terminated: bool,
    /// The last that the server said was an error.
    failed: bool,
}

/// What may be done to a conversation at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boundary {
    /// Nothing is asked and no transaction is open: it can end without harm.
    Idle,
    /// The server is between two messages: an error can be said.
    BetweenMessages,
    /// A message has been begun: nothing can be said.
    WithinMessage,
}

/// What a conversation is at, in the words of pg_stat_activity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// The server has been asked for something that isn't done.
    Active,
    /// Nothing is asked and no transaction is open.
    Idle,
    /// Nothing is asked, and a transaction is open.
    IdleInTransaction,
    /// The same after an error: only a rollback is accepted.
    Aborted,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transaction {
    None,
    Open,
    Failed,
}

/// Finds the messages in one direction.
#[derive(Debug, Clone, Default)]
struct Frames {
    /// What there is of the header, and of what is looked at behind it.
    head: [u8; HEADER + PEEK],
    have: usize,
    /// Bytes until the next header.
    skip: usize,
    /// A length that can't be: this isn't the protocol.
    lost: bool,
}

// === impl ProtocolTracker ===

impl ProtocolTracker {
    /// A conversation whose log-in has ended with ReadyForQuery.
    pub fn new() -> Self {
        Self {
            client: Frames::default(),
            server: Frames::default(),
            awaited: 0,
            unsynced: false,
            copying_in: false,
            last_asked: 0,
            ready: Some(Transaction::None),
            changing_log_ins: false,
            changed_log_ins: false,
            terminated: false,
            failed: false,
        }
    }

    /// Takes what the client has sent, in pieces of any length.
    pub fn client_said(&mut self, bytes: &[u8]) {
        let Self {
            client,
            awaited,
            unsynced,
            copying_in,
            last_asked,
            terminated,
            ..
        } = self;
        client.advance(bytes, |tag, _| match tag {
            // Sync, which the server ignores while it takes rows.
            b'S' if *copying_in => {}
            // Query, Sync, FunctionCall: each is answered with ReadyForQuery.
            b'Q' | b'S' | b'F' => {
                *awaited = awaited.saturating_add(1);
                *unsynced = false;
                *last_asked = tag;
            }
            // CopyDone and CopyFail.
            b'c' | b'f' => *copying_in = false,
            b'X' => *terminated = true,
            // CopyData.
            b'd' => {}
            _ => *unsynced = true,
        });
    }

    /// Takes what the server has sent and the client has been given, in pieces of any length.
    pub fn server_said(&mut self, bytes: &[u8]) {
        let Self {
            server,
            awaited,
            copying_in,
            last_asked,
            ready,
            changing_log_ins,
            changed_log_ins,
            failed,
            ..
        } = self;
        server.advance(bytes, |tag, body| {
            *failed = tag == b'E';
            match tag {
                b'Z' => {
                    *awaited = awaited.saturating_sub(1);
                    *copying_in = false;
                    *ready = Some(match body.first() {
                        Some(b'I') => Transaction::None,
                        Some(b'E') => Transaction::Failed,
                        _ => Transaction::Open,
                    });
                    if *ready == Some(Transaction::None) {
                        *changed_log_ins |= std::mem::take(changing_log_ins);
                    }
                }
                // Notifications, notices and parameters come at any time.
                b'A' | b'N' | b'S' => {}
                // CopyInResponse: the Sync that was sent with the command will be ignored.
                b'G' => {
                    *copying_in = true;
                    if *last_asked == b'S' && *awaited == 1 {
                        *awaited = 0;
                    }
                    *ready = None;
                }
                b'C' => {
                    *changing_log_ins |= CHANGES_LOG_INS
                        .iter()
                        .any(|command| body.starts_with(command));
                    *ready = None;
                }
                _ => *ready = None,
            }
        });
    }

    /// What may be done now. Of what was said to the server, all must have been taken in.
    pub fn pause(&self) -> Boundary {
        let asked = self.awaited > 0 || self.unsynced || !self.client.at_boundary();
        match (self.server.at_boundary(), self.ready) {
            (false, _) => Boundary::WithinMessage,
            (true, Some(Transaction::None)) if !asked => Boundary::Idle,
            (true, _) => Boundary::BetweenMessages,
        }
    }

    /// What the server is at, as far as the messages' headers tell.
    pub fn activity(&self) -> Activity {
        match self.ready {
            Some(transaction) if self.awaited == 0 && !self.unsynced => match transaction {
                Transaction::None => Activity::Idle,
                Transaction::Open => Activity::IdleInTransaction,
                Transaction::Failed => Activity::Aborted,
            },
            _ => Activity::Active,
        }
    }

    /// Whether the server waits for the client's next message: it takes a Terminate.
    pub fn is_at_rest(&self) -> bool {
        self.activity() != Activity::Active
            && self.client.at_boundary()
            && self.server.at_boundary()
    }

    /// Whether an end of the connection is what was said last: by the client, or by the
    /// server with an error.
    pub fn is_parting(&self) -> bool {
        self.terminated || self.failed
    }

    /// Whether a transaction that ended since the last call may have changed what a log-in
    /// begins with.
    pub fn take_changed_log_ins(&mut self) -> bool {
        std::mem::take(&mut self.changed_log_ins)
    }
}

impl Default for ProtocolTracker {
    fn default() -> Self {
        Self::new()
    }
}

// === impl Frames ===

impl Frames {
    /// Calls `found` at each message that begins, with its type and the bytes that are
    /// looked at.
    fn advance(&mut self, mut bytes: &[u8], mut found: impl FnMut(u8, &[u8])) {
        while !self.lost {
            if self.skip >= bytes.len() {
                self.skip -= bytes.len();
                return;
            }
            bytes = &bytes[std::mem::take(&mut self.skip)..];
            // A header in one piece, of a message that needs no second look, is the rule.
            if self.have == 0
                && let Some((header, rest)) = bytes.split_first_chunk::<HEADER>()
                && !is_looked_at(header[0])
            {
                match body_length(header) {
                    Some(length) => self.skip = length,
                    None => self.lost = true,
                }
                found(header[0], &[]);
                bytes = rest;
                continue;
            }
            let taken = self.take_head(bytes);
            bytes = &bytes[taken..];
            if self.have < HEADER {
                return;
            }
            let Some(body) = self.head.first_chunk().and_then(body_length) else {
                self.lost = true;
                return;
            };
            let wanted = HEADER + looked_at(self.head[0], body);
            if self.have == wanted {
                found(self.head[0], &self.head[HEADER..wanted]);
                self.skip = body - (wanted - HEADER);
                self.have = 0;
            } else if bytes.is_empty() {
                return;
            }
        }
    }

    /// Takes what is missing of the header, or then of what is looked at; how much.
    fn take_head(&mut self, bytes: &[u8]) -> usize {
        let wanted = match self.head.first_chunk().and_then(body_length) {
            Some(body) if self.have >= HEADER => HEADER + looked_at(self.head[0], body),
            _ => HEADER,
        };
        let taken = bytes.len().min(wanted - self.have);
        self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
        self.have += taken;
        taken
    }

    fn at_boundary(&self) -> bool {
        self.have == 0 && self.skip == 0 && !self.lost
    }
}

/// ReadyForQuery and CommandComplete; of a client, Close and nothing, which does no harm.
fn is_looked_at(tag: u8) -> bool {
    matches!(tag, b'Z' | b'C')
}

fn looked_at(tag: u8, body: usize) -> usize {
    if is_looked_at(tag) { body.min(PEEK) } else { 0 }
}

/// What follows the header; `None` for a length that doesn't count itself.
fn body_length(header: &[u8; HEADER]) -> Option<usize> {
    let [_, length @ ..] = *header;
    usize::try_from(u32::from_be_bytes(length))
        .ok()?
        .checked_sub(4)
}

#[cfg(test)]
mod tests;
