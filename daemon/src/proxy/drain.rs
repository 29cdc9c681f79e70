//! How far the end of a session's connections has come; told by the driver, followed by
//! each connection.

use tokio::sync::watch;

use crate::model::Cause;

/// Tells connections to end.
pub(super) struct Ending(watch::Sender<Stage>);

/// Hears when a connection is to end.
#[derive(Clone)]
pub(super) struct Endings(watch::Receiver<Stage>);

/// Which idle moment a connection is ended at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AtIdle {
    /// The next one.
    Next,
    /// One that lasts: between two statements of a script the client isn't done.
    Lasting,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    Serving,
    /// Where it does no harm, for the reason given.
    AtIdle(AtIdle, Cause),
    Now(Cause),
}

// === impl Ending ===

impl Ending {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(Stage::Serving))
    }

    /// Lets connections end where it does no harm.
    pub(super) fn at_idle(&self, which: AtIdle, cause: Cause) {
        self.0.send_replace(Stage::AtIdle(which, cause));
    }

    /// Ends all connections.
    pub(super) fn now(&self, cause: Cause) {
        self.0.send_replace(Stage::Now(cause));
    }

    pub(super) fn follow(&self) -> Endings {
        Endings(self.0.subscribe())
    }
}

// === impl Endings ===

impl Endings {
    /// Completes when connections are to end where it does no harm.
    pub(super) async fn at_idle(&mut self) -> (AtIdle, Cause) {
        loop {
            match &*self.0.borrow_and_update() {
                Stage::AtIdle(which, cause) => return (*which, cause.clone()),
                Stage::Serving | Stage::Now(_) => {}
            }
            self.changed().await;
        }
    }

    /// Completes when connections are to end at once.
    pub(super) async fn now(&mut self) -> Cause {
        loop {
            match &*self.0.borrow_and_update() {
                Stage::Now(cause) => return cause.clone(),
                Stage::Serving | Stage::AtIdle(..) => {}
            }
            self.changed().await;
        }
    }

    async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            // Nobody is left who could say so.
            std::future::pending().await
        }
    }
}
