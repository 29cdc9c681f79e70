#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../entry/tracker.rs"]
mod entry;

fuzz_target!(|said: &[u8]| entry::feed(said));
