//! All that a client says from its first byte on: startup packet, requests for encryption and
//! for cancelling, what is negotiated, SCRAM.

use std::sync::LazyLock;

use borealisd::{
    model::SessionName,
    postgres::{Greeting, LocalAuth, ScramVerifier, TlsOffer, greet},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

static VERIFIER: LazyLock<ScramVerifier> =
    LazyLock::new(|| ScramVerifier::new(&"a session's own password".to_owned().into()).unwrap());

/// A client that says this and then ends.
pub(crate) async fn feed(said: &[u8]) {
    let session = SessionName::parse("sushi").unwrap();
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
}
