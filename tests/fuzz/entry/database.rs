//! All that a database server says while the daemon logs in to it.

use borealisd::{
    model::{DatabaseCredential, HostPort},
    postgres::{StartupParameters, UpstreamTls, UpstreamTlsMode, log_in},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex, split};

/// A server that says this, whatever it is told, and then ends.
pub(crate) async fn feed(said: &[u8]) {
    let credential = DatabaseCredential {
        server: HostPort {
            host: "pg.example".into(),
            port: 5432,
        },
        database: "d4f0".into(),
        username: "chef".into(),
        password: "secret".to_owned().into(),
    };
    let startup = StartupParameters::new([("user", "sushi")]).unwrap();
    for mode in [UpstreamTlsMode::Disable, UpstreamTlsMode::Prefer] {
        let tls = UpstreamTls::new(mode).unwrap();
        let (server, daemon) = duplex(64 * 1024);
        let (mut heard, mut saying) = split(server);
        let talking = async {
            let _ = saying.write_all(said).await;
            let _ = saying.shutdown().await;
        };
        let hearing = async {
            let mut told = Vec::new();
            let _ = heard.read_to_end(&mut told).await;
        };
        let logging_in = async { drop(log_in(daemon, &tls, &credential, &startup).await) };
        tokio::join!(talking, hearing, logging_in);
    }
}
