//! All that a client says from its first byte on: startup packet, requests for encryption and
//! for cancelling, what is negotiated, SCRAM.
#![no_main]

use std::sync::LazyLock;

use borealisd::{
    model::SessionName,
    postgres::{Greeting, LocalAuth, ScramVerifier, TlsOffer, greet},
};
use libfuzzer_sys::fuzz_target;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, duplex},
    runtime::{Builder, Runtime},
};

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_time().build().unwrap());
static VERIFIER: LazyLock<ScramVerifier> =
    LazyLock::new(|| ScramVerifier::new(&"a session's own password".to_owned().into()).unwrap());

fuzz_target!(|said: &[u8]| {
    let session = SessionName::parse("sushi").unwrap();
    RUNTIME.block_on(async {
        let (mut client, daemon) = duplex(64 * 1024);
        let talking = async {
            let _ = client.write_all(said).await;
            let _ = client.shutdown().await;
            let mut told = Vec::new();
            let _ = client.read_to_end(&mut told).await;
        };
        let listening = async {
            if let Ok(Greeting::Startup(client)) = greet(daemon, &TlsOffer::Declined).await {
                let _ = client.startup().encode_as("user", "database");
                let auth = LocalAuth::Password(&VERIFIER);
                let _ = client.authenticate(&session, auth).await;
            }
        };
        tokio::join!(talking, listening);
    });
});
