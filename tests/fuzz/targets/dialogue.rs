//! What client and server say after the log-ins, in pieces of any size.
#![no_main]

use borealisd::postgres::Dialogue;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|pieces: Vec<(bool, Vec<u8>)>| {
    let mut dialogue = Dialogue::new();
    for (is_client, bytes) in &pieces {
        if *is_client {
            dialogue.client_said(bytes);
        } else {
            dialogue.server_said(bytes);
        }
        let _ = (dialogue.pause(), dialogue.is_parting());
        let _ = dialogue.take_changed_log_ins();
    }
});
