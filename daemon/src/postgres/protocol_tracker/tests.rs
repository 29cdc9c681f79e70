use proptest::prelude::*;

use super::*;
use crate::postgres::wire::frame;

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    frame(Some(tag), body).to_vec()
}

/// A conversation by its messages' types; ReadyForQuery's status stands for it.
#[derive(Default)]
struct Talk(ProtocolTracker);

impl Talk {
    fn client(&mut self, tags: &[u8]) -> &mut Self {
        for tag in tags {
            self.0.client_said(&message(*tag, b"body"));
        }
        self
    }

    fn server(&mut self, tags: &[u8]) -> &mut Self {
        for tag in tags {
            let bytes = match tag {
                b'I' | b'T' => message(b'Z', &[*tag]),
                // An error within a transaction; E is the message that tells of it.
                b'X' => message(b'Z', b"E"),
                tag => message(*tag, b"body"),
            };
            self.0.server_said(&bytes);
        }
        self
    }

    fn is_idle(&self) -> bool {
        self.0.pause() == Boundary::Idle
    }
}

#[test]
fn idle_between_queries_and_not_within() {
    let mut talk = Talk::default();
    assert!(talk.is_idle());
    assert!(!talk.client(b"Q").is_idle());
    assert!(!talk.server(b"DDC").is_idle());
    assert!(talk.server(b"I").is_idle());
    // Notices, notifications and parameters come while nothing is asked.
    assert!(talk.server(b"ANS").is_idle());
}

#[test]
fn activity_has_the_words_of_pg_stat_activity() {
    let mut talk = Talk::default();
    let mut at = |client: &[u8], server: &[u8]| talk.client(client).server(server).0.activity();
    assert_eq!(at(b"", b""), Activity::Idle);
    assert_eq!(at(b"Q", b""), Activity::Active);
    assert_eq!(at(b"", b"DDC"), Activity::Active);
    assert_eq!(at(b"", b"I"), Activity::Idle);
    // Parse begins work, and Sync alone doesn't end it.
    assert_eq!(at(b"P", b""), Activity::Active);
    assert_eq!(at(b"BES", b"12DC"), Activity::Active);
    assert_eq!(at(b"", b"T"), Activity::IdleInTransaction);
    // What comes unasked changes nothing.
    assert_eq!(at(b"", b"ANS"), Activity::IdleInTransaction);
    assert_eq!(at(b"Q", b"E"), Activity::Active);
    assert_eq!(at(b"", b"X"), Activity::Aborted);
    // Of two that were asked at once one is done.
    assert_eq!(at(b"QQ", b"CX"), Activity::Active);
    assert_eq!(at(b"", b"CI"), Activity::Idle);
    // While rows come in, the server is at work.
    assert_eq!(at(b"PBES", b"12G"), Activity::Active);
    assert_eq!(at(b"dddcS", b"C"), Activity::Active);
    assert_eq!(at(b"", b"I"), Activity::Idle);
}

#[test]
fn only_a_server_that_waits_takes_a_terminate() {
    let mut talk = Talk::default();
    assert!(talk.0.is_at_rest());
    assert!(!talk.client(b"Q").0.is_at_rest());
    assert!(talk.server(b"CT").0.is_at_rest());
    // Half of a message: what follows would be taken for the rest of it.
    talk.0.client_said(&message(b'd', b"body")[..6]);
    assert_eq!(talk.0.activity(), Activity::IdleInTransaction);
    assert!(!talk.0.is_at_rest());
}

#[test]
fn a_transaction_is_no_idle_moment() {
    let mut talk = Talk::default();
    assert!(!talk.client(b"Q").server(b"CT").is_idle());
    assert!(!talk.client(b"Q").server(b"CT").is_idle());
    assert!(talk.client(b"Q").server(b"CI").is_idle());
    assert_eq!(
        talk.client(b"Q").server(b"D").0.pause(),
        Boundary::BetweenMessages
    );
}

#[test]
fn what_is_asked_ahead_is_waited_for() {
    let mut talk = Talk::default();
    talk.client(b"QQ").server(b"CI");
    assert!(!talk.is_idle());
    assert!(talk.server(b"CI").is_idle());
    // The extended protocol: begun, and not ended with Sync yet.
    talk.client(b"PBES").client(b"PB").server(b"12CI");
    assert!(!talk.is_idle());
    assert!(talk.client(b"ES").server(b"12CI").is_idle());
}

#[test]
fn copying_in_by_either_protocol_ends_idle() {
    let mut talk = Talk::default();
    talk.client(b"Q").server(b"G").client(b"dddc");
    assert!(!talk.is_idle());
    assert!(talk.server(b"CI").is_idle());

    // The Sync that libpq sends ahead is ignored, the one behind the rows isn't.
    talk.client(b"PBDES").server(b"12nG").client(b"ddd");
    assert!(!talk.is_idle());
    assert!(!talk.client(b"cS").is_idle());
    assert!(talk.server(b"CI").is_idle());

    // With Flush instead of the first Sync, and with a failure in the middle.
    talk.client(b"PBEH").server(b"12G").client(b"dfS");
    assert!(!talk.is_idle());
    assert!(talk.server(b"xI").is_idle());
    assert!(talk.client(b"Q").server(b"CI").is_idle());
}

#[test]
fn an_error_can_be_said_between_messages_alone() {
    let mut talk = Talk::default();
    let row = message(b'D', &[7; 100_000]);
    talk.client(b"Q");
    for piece in row[..row.len() - 1].chunks(8191) {
        talk.0.server_said(piece);
        assert_eq!(talk.0.pause(), Boundary::WithinMessage);
    }
    talk.0.server_said(&row[row.len() - 1..]);
    assert_eq!(talk.0.pause(), Boundary::BetweenMessages);
    talk.0.server_said(b"D\0\0");
    assert_eq!(talk.0.pause(), Boundary::WithinMessage);
}

#[test]
fn half_a_message_of_the_client_is_something_asked() {
    let mut talk = Talk::default();
    talk.0.client_said(b"Q\0\0");
    assert!(!talk.is_idle());
}

#[test]
fn what_is_no_protocol_is_never_at_a_pause() {
    let mut talk = Talk::default();
    talk.0.server_said(b"D\0\0\0\x03");
    assert_eq!(talk.0.pause(), Boundary::WithinMessage);
    talk.0.server_said(&message(b'Z', b"I"));
    assert_eq!(talk.0.pause(), Boundary::WithinMessage);
}

#[test]
fn commands_that_change_log_ins_are_noticed() {
    let mut tracker = ProtocolTracker::new();
    for (command, changes) in [
        (&b"SELECT 1\0"[..], false),
        (b"ALTER TABLE\0", false),
        (b"ALTER ROLE\0", true),
        (b"ALTER DATABASE\0", true),
        (b"CREATE EVENT TRIGGER\0", true),
        (b"C\0", false),
    ] {
        for piece in message(b'C', command).chunks(3) {
            tracker.server_said(piece);
        }
        // They hold once the transaction has ended, and no sooner.
        tracker.server_said(&message(b'Z', b"T"));
        assert!(!tracker.take_changed_log_ins(), "{command:?}");
        tracker.server_said(&message(b'Z', b"I"));
        assert_eq!(tracker.take_changed_log_ins(), changes, "{command:?}");
        assert!(!tracker.take_changed_log_ins(), "once");
    }
}

fn conversation() -> impl Strategy<Value = Vec<(u8, Vec<u8>)>> {
    let body = proptest::collection::vec(any::<u8>(), 0..40);
    proptest::collection::vec((any::<u8>(), body), 0..40)
}

proptest! {
    /// However the bytes are cut, the messages found are the same.
    #[test]
    fn pieces_of_any_length_say_the_same(messages in conversation(), cuts in proptest::collection::vec(1_usize..30, 1..50)) {
        let bytes: Vec<u8> = messages.iter().flat_map(|(tag, body)| message(*tag, body)).collect();
        let mut frames = Frames::default();
        let mut found = Vec::new();
        let mut rest = &bytes[..];
        let mut cuts = cuts.iter().cycle();
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
            frames.advance(piece, |tag, body| found.push((tag, body.to_vec())));
            rest = after;
        }
        let wanted: Vec<_> = messages
            .iter()
            .map(|(tag, body)| (*tag, body[..looked_at(*tag, body.len())].to_vec()))
            .collect();
        prop_assert_eq!(found, wanted);
        prop_assert!(frames.at_boundary());
    }

    #[test]
    fn arbitrary_bytes_never_panic(pieces in proptest::collection::vec((any::<bool>(), proptest::collection::vec(any::<u8>(), 0..60)), 0..30)) {
        let mut tracker = ProtocolTracker::new();
        for (from_client, bytes) in pieces {
            if from_client {
                tracker.client_said(&bytes);
            } else {
                tracker.server_said(&bytes);
            }
            let _ = tracker.pause();
        }
    }
}
