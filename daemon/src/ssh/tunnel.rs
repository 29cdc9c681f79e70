//! One authenticated connection to the bastion.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use russh::client;
use tokio::time::{interval, sleep};
use tokio_util::sync::CancellationToken;

use super::{
    handler::Handler,
    intake::Intake,
    keepalive::{Keepalive, Watch},
    loss::Loss,
    metered_stream::LinkStats,
    receive_window::ReceiveWindow,
    route::Route,
};
use crate::model::{Cause, Generation, HostPort};

/// How often it is looked whether a line was heard.
const LISTEN: Duration = Duration::from_millis(50);

/// An SSH connection with its channels. It ends when the last of its handles and channels
/// is dropped, or when the line or the server ends it.
#[derive(Clone)]
pub struct Tunnel(Arc<Parts>);

/// What a tunnel is made of.
pub(super) struct Parts {
    pub(super) handle: Arc<client::Handle<Handler>>,
    pub(super) bastion: HostPort,
    /// The generation of the key that it was authenticated with.
    pub(super) generation: Generation,
    /// Told when the connection has ended.
    pub(super) closed: CancellationToken,
    /// Tells it from others.
    pub(super) number: u64,
    /// Why it did.
    pub(super) loss: Loss,
    pub(super) stats: LinkStats,
    pub(super) intake: Arc<Intake>,
    pub(super) window: ReceiveWindow,
}

/// Sees the end of a tunnel, or of a channel, without keeping it alive, and how long its line
/// has been silent.
#[derive(Clone)]
pub struct Closing {
    number: u64,
    closed: CancellationToken,
    loss: Loss,
    stats: LinkStats,
    /// Why the channel ended, where it did so alone.
    channel: Loss,
}

/// Counts one channel of a tunnel while it lives, and keeps the tunnel alive.
pub(super) struct Counted(Tunnel);

/// Whether a line answered when it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Liveness {
    /// The server was heard.
    Alive,
    /// It was not.
    Silent,
}

/// The number of a tunnel that is about to be made.
pub(super) fn next_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

// === impl Closing ===

impl Closing {
    /// Completes when the connection has ended, with the reason.
    pub async fn closed(&self) -> Cause {
        self.closed.cancelled().await;
        if self.channel.is_noted() {
            self.channel.cause()
        } else {
            self.loss.cause()
        }
    }

    /// Whether it is the end of that tunnel, or of a channel in it.
    pub fn is_of(&self, tunnel: &Tunnel) -> bool {
        self.loss.is_same(&tunnel.0.loss)
    }

    /// How long ago the bastion was last heard; time in which the machine slept counts.
    pub fn silent_for(&self) -> Duration {
        self.stats.silent_for()
    }

    /// The number of the tunnel, one for each that the process has made.
    pub fn tunnel(&self) -> u64 {
        self.number
    }

    /// The same for a channel, which may end alone.
    pub(super) fn of_channel(&self) -> Self {
        Self {
            number: self.number,
            closed: self.closed.child_token(),
            loss: self.loss.clone(),
            stats: self.stats.clone(),
            channel: Loss::default(),
        }
    }

    /// Ends the channel alone.
    pub(super) fn end(&self, detail: &str) {
        self.channel.note(detail.to_owned());
        self.closed.cancel();
    }
}

// === impl Tunnel ===

impl Tunnel {
    /// Watched over as `keepalive` says, beside the others on the same way.
    pub(super) fn new(parts: Parts, keepalive: Keepalive, route: Route) -> Self {
        let watch = Watch {
            keepalive,
            route,
            closed: parts.closed.clone(),
            loss: parts.loss.clone(),
            stats: parts.stats.clone(),
            intake: Arc::clone(&parts.intake),
        };
        tokio::spawn(watch.run(Arc::downgrade(&parts.handle)));
        Self(Arc::new(parts))
    }

    /// Asks the server for a sign of life and waits at most `limit` for it. Whatever comes
    /// from the server counts: on a line that is busy with an upload the answer itself
    /// stands in a queue.
    pub async fn probe(&self, limit: Duration) -> Liveness {
        let signs = self.0.stats.signs();
        let is_alive = || self.0.stats.signs() != signs || self.is_jammed();
        let shows_life = async {
            let mut look = interval(LISTEN);
            while !is_alive() {
                look.tick().await;
            }
        };
        tokio::select! {
            Ok(()) = self.0.handle.send_ping() => {}
            () = shows_life => {}
            () = sleep(limit) => {}
        }
        if is_alive() && !self.is_closed() {
            Liveness::Alive
        } else {
            Liveness::Silent
        }
    }

    /// Ends the connection at once, whatever it is doing.
    pub fn cut(&self, detail: &str) {
        self.0.loss.note(detail.to_owned());
        self.0.stats.cut();
        self.0.closed.cancel();
    }

    /// What it is made of.
    pub(super) fn parts(&self) -> &Parts {
        &self.0
    }

    /// A watch on the connection's end that doesn't keep it alive.
    pub fn closing(&self) -> Closing {
        Closing {
            number: self.0.number,
            closed: self.0.closed.clone(),
            loss: self.0.loss.clone(),
            stats: self.0.stats.clone(),
            channel: Loss::default(),
        }
    }

    /// Whether its line isn't read for a client that doesn't read, so that its channels wait
    /// and the server can't be heard.
    pub fn is_jammed(&self) -> bool {
        self.0.intake.is_paused()
    }

    /// Whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.0.closed.is_cancelled() || self.0.handle.is_closed()
    }

    /// Why the connection ended.
    pub fn loss(&self) -> Cause {
        self.0.loss.cause()
    }

    /// How many channels are open or being opened.
    pub fn channels(&self) -> usize {
        self.0.intake.count()
    }

    /// The generation of the key that it was authenticated with.
    pub fn generation(&self) -> Generation {
        self.0.generation
    }

    /// How long the bastion took to answer when the connection was begun.
    pub fn round_trip(&self) -> Duration {
        self.0.window.round_trip
    }

    /// How often its window was halved from what fills the line alone.
    pub fn shift(&self) -> u32 {
        self.0.window.shift
    }

    /// Whether much has come or gone in the last moment: who shares it waits in a queue.
    pub fn is_busy(&self) -> bool {
        self.0.stats.is_busy()
    }

    /// Where it leads.
    pub fn bastion(&self) -> &HostPort {
        &self.0.bastion
    }
}

// === impl Counted ===

impl Counted {
    pub(super) fn new(tunnel: &Tunnel) -> Self {
        tunnel.0.intake.join();
        Self(tunnel.clone())
    }

    pub(super) fn tunnel(&self) -> &Tunnel {
        &self.0
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.intake.leave();
    }
}
