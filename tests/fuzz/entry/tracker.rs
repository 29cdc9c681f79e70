//! What client and server say after the log-ins, in pieces of any size.

use borealisd::postgres::ProtocolTracker;

/// Pieces, each behind a byte that says whose it is (its highest bit: the client's) and how long.
pub(crate) fn feed(mut said: &[u8]) {
    let mut tracker = ProtocolTracker::new();
    while let Some((&head, rest)) = said.split_first() {
        let (piece, rest) = rest.split_at(rest.len().min(usize::from(head & 0x7f)));
        if head & 0x80 == 0 {
            tracker.server_said(piece);
        } else {
            tracker.client_said(piece);
        }
        let _ = (tracker.pause(), tracker.is_parting());
        let _ = tracker.take_changed_log_ins();
        said = rest;
    }
}
