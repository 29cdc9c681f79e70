//! Serves a client with a connection that was kept ready, and with a new one where that
//! turns out to have ended. Proving which is [`liveness_check`](super::liveness_check)'s.

use std::{sync::Arc, time::Duration};

use tokio::io::AsyncWriteExt as _;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{
    liveness_check::{Liveness, changed_parameters, check_liveness},
    pool,
};
use crate::{
    postgres::{Authenticated, PrefixedIo, ProtocolTracker, StartupParameters, Stream, refusal},
    proxy::{
        connection::Gateway,
        upstream::{Reached, Refused},
    },
    tunnels::Gate,
};

/// A tunnel that was heard so recently isn't asked by itself: keepalive hears it every 5 s by
/// default.
const HEARD: Duration = Duration::from_secs(6);

/// The connection that is ready for a client, where a log-in now would give the same.
pub(crate) async fn take(gateway: &Gateway, startup: &StartupParameters) -> Option<Reached> {
    if *gateway.tunnels.gate().borrow() != Gate::Open {
        return None;
    }
    let lease = gateway.current_lease()?;
    gateway.warm.take(startup, lease.generation).await
}

/// Serves a client with a connection that was kept ready; with a new one, should the
/// database have ended that.
pub(crate) async fn serve<S: Stream>(
    client: Authenticated<S>,
    arriving: TaskTrackerToken,
    mut ready: Reached,
    startup: &StartupParameters,
    gateway: &Arc<Gateway>,
) {
    let _counting = gateway.counters.connection();
    let Ok(mut client) = client.finish(&ready.greeting).await else {
        return;
    };
    pool::prepare(gateway, startup);
    if ready.tunnel.silent_for() >= HEARD {
        // A dead one is found out sooner than by keepalive.
        gateway.tunnels.probe();
    }
    let mut drain = gateway.drain.follow();
    let handed = tokio::select! {
        handed = check_liveness(&mut client, &mut ready.stream) => handed,
        cause = drain.now() => {
            let farewell = refusal::farewell(&cause, &gateway.name);
            return refusal::send_and_close(client, &farewell).await;
        }
    };
    match handed {
        Ok(Liveness::Alive { asked, said }) => {
            drop(arriving);
            let tracker = ProtocolTracker::new();
            let mut client = PrefixedIo::new(asked, client);
            let (stream, tunnel) = (PrefixedIo::new(said, ready.stream), ready.tunnel);
            gateway
                .relay(&mut client, stream, Some(tracker), &tunnel)
                .await;
        }
        Ok(Liveness::Dead { asked }) => {
            tracing::info!(session = %gateway.name, "a connection that was kept ready had ended; a new one takes its place");
            let client = PrefixedIo::new(asked, client);
            restart(client, arriving, &ready, startup, gateway).await;
        }
        Err(error) => {
            tracing::debug!(session = %gateway.name, %error, "a client left as it began");
        }
    }
}

/// Serves a client that was told that it may begin on another connection.
async fn restart<C: Stream>(
    mut client: C,
    arriving: TaskTrackerToken,
    before: &Reached,
    startup: &StartupParameters,
    gateway: &Gateway,
) {
    let mut drain = gateway.drain.follow();
    let reached = tokio::select! {
        reached = gateway.log_in(startup) => reached,
        cause = drain.now() => Err(cause.into()),
    };
    drop(arriving);
    match reached {
        Ok(reached) => {
            let _guard = match (&before.cancel, &reached.cancel) {
                (Some(given), Some(now)) => {
                    Some(gateway.cancel_keys.replace(given.clone(), now.clone()))
                }
                _ => None,
            };
            let changed = changed_parameters(&before.greeting, &reached.greeting);
            if client.write_all(&changed).await.is_err() {
                return;
            }
            let (stream, tunnel) = (reached.stream, reached.tunnel);
            let tracker = Some(ProtocolTracker::new());
            gateway.relay(&mut client, stream, tracker, &tunnel).await;
        }
        Err(Refused::Because(cause)) => {
            gateway.tell(&cause);
            let response = refusal::error_response(&cause, &gateway.name);
            refusal::send_and_close(client, &response).await;
        }
        Err(Refused::ByDatabase(answer)) => refusal::send_and_close(client, &answer).await,
    }
}
