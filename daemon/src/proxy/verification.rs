//! Whether a log-in works on a way to the database.

use std::time::Duration;

use tokio::time::timeout;

use crate::{
    model::{Cause, DatabaseCredential, Lease},
    postgres::{self, LoginError, StartupParameters, UpstreamTls, last_words},
    ssh::{ChannelStream, Tunnel},
};

/// Limit for the log-in that proves the way, with the channel that it needs: sshd waits for two
/// minutes where a database host drops packets.
const LOGIN_LIMIT: Duration = Duration::from_secs(15);

/// Logs in once and hangs up: proof that the whole way works.
pub(crate) async fn probe(
    tunnel: &Tunnel,
    lease: &Lease<DatabaseCredential>,
    upstream_tls: &UpstreamTls,
) -> Result<(), Cause> {
    let server = &lease.credential.server;
    let logging_in = async {
        let channel = tunnel.reserve().open(server).await?;
        match verify(channel, upstream_tls, &lease.credential).await {
            Ok(()) => Ok(()),
            Err(error @ LoginError::Refused(_)) => Err(error.cause(server)),
            // The channel broke: the tunnel's own reason says more, if it has one.
            Err(_) if tunnel.is_closed() => Err(tunnel.loss()),
            Err(error) => Err(error.cause(server)),
        }
    };
    match timeout(LOGIN_LIMIT, logging_in).await {
        Ok(outcome) => outcome,
        Err(_) if tunnel.is_closed() => Err(tunnel.loss()),
        Err(_) => Err(Cause::DatabaseUnreachable {
            server: server.clone(),
            detail: format!("no log-in within {} s", LOGIN_LIMIT.as_secs()),
        }),
    }
}

/// Logs in through a channel and hangs up.
///
/// # Errors
/// As a client's log-in.
pub(crate) async fn verify(
    channel: ChannelStream,
    upstream_tls: &UpstreamTls,
    credential: &DatabaseCredential,
) -> Result<(), LoginError> {
    let startup =
        StartupParameters::new([("user", "borealisd"), ("application_name", "borealisd")])
            .map_err(|error| LoginError::Protocol(error.to_string()))?;
    let mut logged_in = postgres::log_in(channel, upstream_tls, credential, &startup).await?;
    last_words::terminate(&mut logged_in.stream).await;
    Ok(())
}
