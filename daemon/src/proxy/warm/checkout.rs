//! Serves a client with a connection that was kept ready, and with a new one where that
//! turns out to have ended. Proving which is [`liveness_check`](super::liveness_check)'s.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{io::AsyncWriteExt as _, time::timeout};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{
    liveness_check::{self, Liveness, changed_parameters, check_liveness},
    pool,
};
use crate::{
    postgres::{Authenticated, PrefixedIo, StartupParameters, Stream, last_words, refusal},
    proxy::{
        cancel_keys::CancelKeyGuard,
        connection::Gateway,
        upstream::{Reached, Refused},
    },
    tunnels::Gate,
};

/// A tunnel that was heard so recently isn't asked by itself: keepalive hears it every 5 s by
/// default.
const HEARD: Duration = Duration::from_secs(6);

/// What a client gets to take the parameters that have changed, some hundred bytes.
const TELL_LIMIT: Duration = Duration::from_secs(30);

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
    let cancel_key = gateway.give_cancel_key(&ready);
    let Ok(mut client) = client.finish(&ready.greeting).await else {
        return;
    };
    pool::prepare(gateway, startup);
    if ready.closing.silent_for() >= HEARD {
        // A dead one is found out sooner than by keepalive.
        gateway.tunnels.probe();
    }
    let limit = liveness_check::limit(ready.tunnel.round_trip());
    let mut drain = gateway.drain.follow();
    let handed = tokio::select! {
        handed = check_liveness(&mut client, &mut ready.stream, limit) => handed,
        cause = drain.now() => {
            let farewell = refusal::farewell(&cause, &gateway.name);
            return refusal::send_and_close(client, &farewell).await;
        }
    };
    match handed {
        Liveness::Alive { asked, said } => {
            drop(arriving);
            let mut client = PrefixedIo::new(asked, client);
            gateway.relay_managed(&mut client, ready, said).await;
        }
        Liveness::Dead { asked } => {
            tracing::info!(session = %gateway.name, "a connection that was kept ready had ended or hangs; a new one takes its place");
            // What ended or stopped this one may have done so to others.
            gateway.warm.clear();
            let client = PrefixedIo::new(asked, client);
            let Reached {
                mut stream,
                greeting,
                ..
            } = ready;
            tokio::spawn(async move { last_words::terminate(&mut stream).await });
            restart(client, arriving, &greeting, cancel_key, startup, gateway).await;
        }
    }
}

/// Serves a client that was told that it may begin on another connection.
async fn restart<C: Stream>(
    mut client: C,
    arriving: TaskTrackerToken,
    greeted_with: &Bytes,
    cancel_key: Option<CancelKeyGuard>,
    startup: &StartupParameters,
    gateway: &Arc<Gateway>,
) {
    let mut drain = gateway.drain.follow();
    let reached = tokio::select! {
        reached = gateway.log_in(startup) => reached,
        cause = drain.now() => Err(cause.into()),
    };
    drop(arriving);
    match reached {
        Ok(reached) => {
            if let (Some(key), Some(target)) = (&cancel_key, reached.cancel_target()) {
                key.redirect(target);
            }
            let changed = changed_parameters(greeted_with, &reached.greeting);
            let telling = timeout(TELL_LIMIT, client.write_all(&changed));
            if !matches!(telling.await, Ok(Ok(()))) {
                tracing::debug!(session = %gateway.name, "a client takes nothing");
            }
            // What was being made when this one ended was let go of with it.
            pool::prepare(gateway, startup);
            gateway
                .relay_managed(&mut client, reached, Bytes::new())
                .await;
        }
        Err(Refused::Because(cause)) => {
            gateway.tell(&cause);
            let response = refusal::error_response(&cause, &gateway.name);
            refusal::send_and_close(client, &response).await;
        }
        Err(Refused::ByDatabase(answer)) => refusal::send_and_close(client, &answer).await,
    }
}
