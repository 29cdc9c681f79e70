//! How far the end of a session's connections has come; told by the driver, followed by
//! each connection.

use tokio::sync::watch;

use crate::model::Cause;

/// Tells connections to end.
pub(crate) struct Drain(watch::Sender<Stage>);

/// Hears when a connection is to end.
#[derive(Clone)]
pub(crate) struct DrainReceiver(watch::Receiver<Stage>);

/// Which idle moment a connection is ended at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IdlePolicy {
    /// The next one.
    Next,
    /// One that lasts: between two statements of a script the client isn't done.
    Lasting,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    Serving,
    /// Where it does no harm, for the reason given.
    AtIdle(IdlePolicy, Cause),
    Now(Cause),
    /// Without another word.
    Abandoned,
}

// === impl Drain ===

impl Drain {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(Stage::Serving))
    }

    /// Lets connections end where it does no harm.
    pub(crate) fn at_idle(&self, which: IdlePolicy, cause: Cause) {
        self.0.send_replace(Stage::AtIdle(which, cause));
    }

    /// Ends all connections.
    pub(crate) fn now(&self, cause: Cause) {
        self.0.send_replace(Stage::Now(cause));
    }

    /// Drops what has not ended in spite of [`Drain::now`]: nothing more is awaited.
    pub(crate) fn abandon(&self) {
        self.0.send_replace(Stage::Abandoned);
    }

    pub(crate) fn follow(&self) -> DrainReceiver {
        DrainReceiver(self.0.subscribe())
    }
}

// === impl DrainReceiver ===

impl DrainReceiver {
    /// Completes when connections are to end where it does no harm.
    pub(crate) async fn at_idle(&mut self) -> (IdlePolicy, Cause) {
        loop {
            match &*self.0.borrow_and_update() {
                Stage::AtIdle(which, cause) => return (*which, cause.clone()),
                Stage::Serving | Stage::Now(_) | Stage::Abandoned => {}
            }
            self.changed().await;
        }
    }

    /// Completes when connections are to end at once.
    pub(crate) async fn now(&mut self) -> Cause {
        loop {
            match &*self.0.borrow_and_update() {
                Stage::Now(cause) => return cause.clone(),
                Stage::Serving | Stage::AtIdle(..) | Stage::Abandoned => {}
            }
            self.changed().await;
        }
    }

    /// Completes when nothing more is awaited: whatever is still under way is dropped.
    pub(crate) async fn abandoned(&mut self) {
        while *self.0.borrow_and_update() != Stage::Abandoned {
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
