//! Every input that is kept of the fuzzers, and all that it begins with, for what they fuzz
//! (tests/fuzz): nothing panics, and nothing waits for more than was said.
#![allow(clippy::unwrap_used, reason = "a test that can't go on fails there")]

use std::{fs, path::PathBuf, time::Duration};

use tokio::time::timeout;

#[path = "../../tests/fuzz/entry/client.rs"]
mod client;
#[path = "../../tests/fuzz/entry/database.rs"]
mod database;
#[path = "../../tests/fuzz/entry/tracker.rs"]
mod tracker;

/// Longer than a log-in by SCRAM takes in a debug build, by far.
const LIMIT: Duration = Duration::from_secs(60);

/// The inputs for an entry point, each with its name.
fn corpus(entry: &str) -> Vec<(String, Vec<u8>)> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus");
    let inputs = fs::read_dir(dir.join(entry)).unwrap().map(|input| {
        let path = input.unwrap().path();
        (path.display().to_string(), fs::read(&path).unwrap())
    });
    let inputs: Vec<_> = inputs.collect();
    assert!(!inputs.is_empty(), "nothing is kept for {entry}");
    inputs
}

/// Feeds an entry point with its inputs, each whole and cut off anywhere.
async fn replay(entry: &str, feed: impl AsyncFn(&[u8])) {
    for (name, input) in corpus(entry) {
        for length in 0..=input.len() {
            let fed = timeout(LIMIT, feed(&input[..length])).await;
            assert!(fed.is_ok(), "{name}: {length} bytes of it are waited on");
        }
    }
}

#[tokio::test]
async fn clients() {
    replay("client", client::feed).await;
}

#[tokio::test]
async fn databases() {
    replay("database", database::feed).await;
}

#[tokio::test]
async fn conversations() {
    replay("tracker", async |said| tracker::feed(said)).await;
}
