//! Messages of the server in bounded memory: of a row or an error that is huge, the beginning of
//! each value is kept, and how long it was.

use bytes::{Buf as _, BytesMut};
use postgres_protocol::message::backend::Message;

use super::connection::Incoming;
use crate::failure::Failure;

/// A value as the server wrote it, or the beginning of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Field {
    /// What was kept.
    pub(crate) bytes: Vec<u8>,
    /// How many bytes there were.
    pub(crate) length: usize,
}

/// A message that has come.
pub(super) enum Bounded {
    Row(Vec<Option<Field>>),
    Other(Message),
}

/// Kept of an error or a notice: a message may quote a value that is as long as it is.
const LONGEST_WORDS: usize = 32 * 1024;
/// Nothing else that the server sends to a reader is longer.
const LONGEST_MESSAGE: usize = 4 * 1024 * 1024;
/// A message's type and its length, which counts itself.
const HEADER: usize = 5;

// === impl Incoming ===

impl Incoming {
    /// The next message; of each value in a row at most `keep` bytes. Dropping the future
    /// loses what has been read of the message.
    pub(super) async fn next_bounded(&mut self, keep: usize) -> Result<Bounded, Failure> {
        self.fill(HEADER).await?;
        let buffer = self.buffer();
        let kind = buffer[0];
        let length = i32::from_be_bytes([buffer[1], buffer[2], buffer[3], buffer[4]]);
        let length = usize::try_from(length)
            .ok()
            .and_then(|length| length.checked_sub(4))
            .ok_or_else(unreadable)?;
        match kind {
            b'D' => {
                buffer.advance(HEADER);
                self.row(length, keep).await.map(Bounded::Row)
            }
            b'E' | b'N' if length > LONGEST_WORDS => {
                buffer.advance(HEADER);
                self.shortened(kind, length).await.map(Bounded::Other)
            }
            _ if length > LONGEST_MESSAGE => Err(unreadable()),
            _ => self.next().await.map(Bounded::Other),
        }
    }

    async fn row(&mut self, length: usize, keep: usize) -> Result<Vec<Option<Field>>, Failure> {
        let mut left = length.checked_sub(2).ok_or_else(unreadable)?;
        self.fill(2).await?;
        let count = usize::from(self.buffer().get_u16());
        let mut fields = Vec::with_capacity(count);
        for _ in 0..count {
            left = left.checked_sub(4).ok_or_else(unreadable)?;
            self.fill(4).await?;
            let Ok(length) = usize::try_from(self.buffer().get_i32()) else {
                fields.push(None);
                continue;
            };
            left = left.checked_sub(length).ok_or_else(unreadable)?;
            let bytes = self.take(length.min(keep)).await?;
            self.skip(length - bytes.len()).await?;
            fields.push(Some(Field { bytes, length }));
        }
        self.skip(left).await?;
        Ok(fields)
    }

    /// An error or notice of which the beginning is kept.
    async fn shortened(&mut self, kind: u8, length: usize) -> Result<Message, Failure> {
        let mut body = self.take(LONGEST_WORDS).await?;
        self.skip(length - LONGEST_WORDS).await?;
        // Ends the field that was cut off, then the list of them.
        body.extend([0, 0]);
        let mut message = BytesMut::with_capacity(HEADER + body.len());
        message.extend([kind]);
        let length = i32::try_from(body.len() + 4).map_err(|_| unreadable())?;
        message.extend(length.to_be_bytes());
        message.extend(&body);
        match Message::parse(&mut message) {
            Ok(Some(message)) => Ok(message),
            Ok(None) | Err(_) => Err(unreadable()),
        }
    }

    async fn take(&mut self, count: usize) -> Result<Vec<u8>, Failure> {
        self.fill(count).await?;
        Ok(self.buffer().split_to(count).to_vec())
    }

    async fn skip(&mut self, mut count: usize) -> Result<(), Failure> {
        while count > 0 {
            self.fill(1).await?;
            let buffer = self.buffer();
            let here = buffer.len().min(count);
            buffer.advance(here);
            count -= here;
        }
        Ok(())
    }
}

fn unreadable() -> Failure {
    Failure::failed("the database sent a message that can't be read")
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncWriteExt as _, net::UnixStream};

    use super::*;
    use crate::query::complaint::Complaint;

    async fn read(bytes: Vec<u8>, keep: usize) -> Vec<Result<Bounded, Failure>> {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let writing = tokio::spawn(async move {
            // In pieces, so that no boundary falls together with one of a message.
            for piece in bytes.chunks(1000) {
                theirs.write_all(piece).await.unwrap();
            }
        });
        let (stream, _outgoing) = ours.into_split();
        let mut incoming = Incoming::of(stream);
        let mut all = Vec::new();
        loop {
            let next = incoming.next_bounded(keep).await;
            let is_last = next.is_err();
            all.push(next);
            if is_last {
                break;
            }
        }
        writing.await.unwrap();
        all
    }

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = i32::try_from(body.len() + 4).unwrap();
        [&[kind], &length.to_be_bytes()[..], body].concat()
    }

    fn row(fields: &[Option<&[u8]>]) -> Vec<u8> {
        let mut body = u16::try_from(fields.len()).unwrap().to_be_bytes().to_vec();
        for field in fields {
            match field {
                None => body.extend((-1_i32).to_be_bytes()),
                Some(bytes) => {
                    body.extend(i32::try_from(bytes.len()).unwrap().to_be_bytes());
                    body.extend(*bytes);
                }
            }
        }
        message(b'D', &body)
    }

    #[tokio::test]
    async fn a_wide_value_leaves_its_beginning_and_its_length() {
        let wide = vec![b'x'; 5_000_000];
        let sent = [
            row(&[Some(b"a"), None, Some(&wide), Some(b"")]),
            row(&[]),
            message(b'Z', b"T"),
        ];
        let all = read(sent.concat(), 10).await;
        let Ok(Bounded::Row(fields)) = &all[0] else {
            panic!("no row");
        };
        let field = |bytes: &[u8], length| {
            Some(Field {
                bytes: bytes.to_vec(),
                length,
            })
        };
        assert_eq!(
            *fields,
            [
                field(b"a", 1),
                None,
                field(b"xxxxxxxxxx", 5_000_000),
                field(b"", 0)
            ]
        );
        assert!(matches!(&all[1], Ok(Bounded::Row(fields)) if fields.is_empty()));
        assert!(matches!(
            &all[2],
            Ok(Bounded::Other(Message::ReadyForQuery(_)))
        ));
    }

    #[tokio::test]
    async fn an_error_that_quotes_a_huge_value_is_kept_in_part() {
        let body = [
            b"SERROR\0C22P02\0Minvalid input: ".as_slice(),
            &vec![b'y'; 3_000_000],
            b"\0P12\0\0",
        ];
        let sent = [message(b'E', &body.concat()), message(b'Z', b"T")];
        let all = read(sent.concat(), 10).await;
        let Ok(Bounded::Other(Message::ErrorResponse(body))) = &all[0] else {
            panic!("no error");
        };
        let complaint = Complaint::read(body.fields()).unwrap();
        assert_eq!(complaint.sqlstate, "22P02");
        assert!(complaint.message.starts_with("invalid input: yyy"));
        assert!(complaint.message.len() <= LONGEST_WORDS);
        assert!(matches!(
            &all[1],
            Ok(Bounded::Other(Message::ReadyForQuery(_)))
        ));
    }

    #[tokio::test]
    async fn lengths_that_contradict_each_other_are_refused() {
        for bytes in [
            message(b'D', &[0, 1, 0, 0, 0, 9, b'a']),
            message(b'D', &[0]),
            vec![b'D', 0, 0, 0, 1],
            vec![b'T', 0x7f, 0, 0, 0],
        ] {
            let all = read(bytes, 10).await;
            assert!(all[0].is_err());
        }
    }
}
