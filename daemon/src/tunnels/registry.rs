//! The pools of the daemon: one for each add-on, as long as a session uses it.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};

use super::{
    dialler::{Dialer, Handshakes},
    policy::most_idle,
    pool::{Level, Pool},
};
use crate::{credential::Broker, model::Cause, ssh::Keepalive};

/// How often it is looked for tunnels that nobody uses.
const PRUNE_PAUSE: Duration = Duration::from_secs(30);

/// A pool as its sessions hold it; it ends with the last of them.
pub(crate) type SharedPool = Arc<Pool<Dialer>>;

/// Hands out the pools.
pub struct Pools {
    broker: Arc<Broker>,
    keepalive: watch::Receiver<Keepalive>,
    handshakes: Arc<Handshakes>,
    pools: Mutex<HashMap<String, Weak<Pool<Dialer>>>>,
}

// === impl Pools ===

impl Pools {
    /// None so far. `keepalive` is for tunnels that are made from then on. To be called within
    /// the runtime that they are to work in.
    pub fn new(broker: Arc<Broker>, keepalive: watch::Receiver<Keepalive>) -> Arc<Self> {
        let pools = Arc::new(Self {
            broker,
            keepalive,
            handshakes: Arc::default(),
            pools: Mutex::default(),
        });
        tokio::spawn(prune(Arc::downgrade(&pools)));
        pools
    }

    /// The pool of an add-on: all its sessions have the same SSH user.
    pub(crate) fn of(&self, addon: &str) -> SharedPool {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = pools.get(addon).and_then(Weak::upgrade) {
            return pool;
        }
        pools.retain(|_, pool| pool.strong_count() > 0);
        let pool = Arc::new(Pool::new(Dialer {
            broker: Arc::clone(&self.broker),
            keepalive: self.keepalive.clone(),
            addon: addon.to_owned(),
            handshakes: Arc::clone(&self.handshakes),
        }));
        let follow = follow_lease(
            Arc::clone(&self.broker),
            addon.to_owned(),
            Arc::downgrade(&pool),
        );
        tokio::spawn(pool.stopped().run_until_cancelled_owned(follow));
        pools.insert(addon.to_owned(), Arc::downgrade(&pool));
        pool
    }
}

/// Ends tunnels that nobody uses, now and then: one timer for all pools. Ends with the last
/// user of the pools.
async fn prune(pools: Weak<Pools>) {
    let mut look = interval(PRUNE_PAUSE);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        let Some(pools) = pools.upgrade() else {
            return;
        };
        let pools = pools.pools.lock().unwrap_or_else(PoisonError::into_inner);
        let alive: Vec<_> = pools.values().filter_map(Weak::upgrade).collect();
        drop(pools);
        for pool in &alive {
            pool.prune(most_idle(alive.len()));
        }
    }
}

/// Makes a tunnel with each new key while the pool is up, and finds out whether the key still
/// works before the timer has it renewed. Ends with the pool.
async fn follow_lease(broker: Arc<Broker>, addon: String, pool: Weak<Pool<Dialer>>) {
    let mut lease = broker.watch_ssh(&addon);
    let mut due = broker.watch_due_ssh(&addon);
    let Some(mut level) = pool.upgrade().map(|pool| pool.level()) else {
        return;
    };
    loop {
        tokio::select! {
            Ok(()) = lease.changed() => {}
            Ok(()) = due.changed() => {}
            Ok(()) = level.changed() => {}
            else => return,
        }
        let generation = lease
            .borrow_and_update()
            .as_ref()
            .map(|lease| lease.generation);
        let is_due = due.borrow_and_update().is_some();
        let is_up = *level.borrow_and_update() == Level::Up;
        let Some(pool) = pool.upgrade().filter(|_| is_up) else {
            continue;
        };
        // What fails is tried again when the next tunnel is wanted.
        if let Err(cause) = pool.connect(generation).await {
            tracing::info!(addon, %cause, "no tunnel with the new key");
        }
        if is_due && let Err(cause) = renew_key(&broker, &addon, &pool).await {
            tracing::info!(addon, %cause, "the SSH key could not be renewed");
        }
    }
}

/// Renews a key that is due, unless somebody has taken it away: no timer undoes that.
async fn renew_key(broker: &Broker, addon: &str, pool: &Pool<Dialer>) -> Result<(), Cause> {
    let Some(due) = broker.begin_check_ssh(addon) else {
        return Ok(());
    };
    match pool.dial_one_more().await {
        Err(cause @ Cause::BastionRefusedKey { .. }) => {
            due.settle();
            return Err(cause);
        }
        outcome => outcome?,
    }
    broker.renew_due_ssh(addon, due).await.map(drop)
}

impl fmt::Debug for Pools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pools").finish_non_exhaustive()
    }
}
