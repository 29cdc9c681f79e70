//! Gives a client a connection that was kept ready, and a new one where that turns out to have
//! ended. Proving which is [`liveness_check`](super::liveness_check)'s.

use std::time::Duration;

use bytes::Bytes;
use tokio::{io::AsyncWriteExt as _, time::timeout};

use super::liveness_check::{self, Liveness, changed_parameters, check_liveness};
use crate::{
    postgres::{PrefixedIo, StartupParameters, Stream, last_words},
    proxy::{
        cancel_keys::CancelKeyGuard,
        connector::{Channel, Connect, Reached, WatchClosing as _},
        drain::DrainReceiver,
        upstream::{Refused, Upstream},
    },
};

/// A tunnel that was heard so recently isn't asked by itself: keepalive hears it every 5 s by
/// default.
const HEARD: Duration = Duration::from_secs(6);

/// What a client gets to take the parameters that have changed, some hundred bytes.
const TELL_LIMIT: Duration = Duration::from_secs(30);

/// A client and the connection that is its own now.
pub(crate) struct HandedOver<C, D: Channel> {
    /// What it asked meanwhile comes first.
    pub(crate) client: PrefixedIo<C>,
    pub(crate) database: Reached<D>,
    /// What the database has said to the client already.
    pub(crate) said: Bytes,
}

/// Hands `ready` over to a client that was told that it may begin; a new connection, should the
/// database have ended that one.
///
/// # Errors
/// Why there is no new one, with the client that is to be told.
pub(crate) async fn hand_over<S: Stream, C: Connect>(
    mut client: S,
    mut ready: Reached<C::Channel>,
    cancel_key: Option<&CancelKeyGuard<<C::Channel as Channel>::Closing>>,
    startup: &StartupParameters,
    upstream: &Upstream<C>,
    drain: &mut DrainReceiver,
) -> Result<HandedOver<S, C::Channel>, (PrefixedIo<S>, Refused)> {
    if ready.closing.silent_for() >= HEARD {
        // A dead one is found out sooner than by keepalive.
        upstream.probe();
    }
    let limit = liveness_check::limit(ready.round_trip);
    let liveness = tokio::select! {
        liveness = check_liveness(&mut client, &mut ready.stream, limit) => liveness,
        cause = drain.now() => {
            return Err((PrefixedIo::new(Bytes::new(), client), cause.into()));
        }
    };
    let asked = match liveness {
        Liveness::Alive { asked, said } => {
            return Ok(HandedOver {
                client: PrefixedIo::new(asked, client),
                database: ready,
                said,
            });
        }
        Liveness::Dead { asked } => asked,
    };
    tracing::info!(session = %upstream.name(), "a connection that was kept ready had ended or hangs; a new one takes its place");
    upstream.warm().clear_ready();
    let mut client = PrefixedIo::new(asked, client);
    let Reached {
        mut stream,
        greeting,
        ..
    } = ready;
    tokio::spawn(async move { last_words::terminate(&mut stream).await });
    let reached = tokio::select! {
        reached = upstream.log_in(startup) => reached,
        cause = drain.now() => Err(cause.into()),
    };
    let database = match reached {
        Ok(database) => database,
        Err(refused) => return Err((client, refused)),
    };
    if let (Some(key), Some(target)) = (cancel_key, database.cancel_target()) {
        key.redirect(target);
    }
    let changed = changed_parameters(&greeting, &database.greeting);
    let telling = timeout(TELL_LIMIT, client.write_all(&changed));
    if !matches!(telling.await, Ok(Ok(()))) {
        tracing::debug!(session = %upstream.name(), "a client takes nothing");
    }
    // The one that was being made may have failed for the same reason.
    upstream.warm().prepare(startup);
    Ok(HandedOver {
        client,
        database,
        said: Bytes::new(),
    })
}

#[cfg(test)]
mod tests;
