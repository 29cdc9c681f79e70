//! How far the end of a session's connections has come; told by the driver, followed by
//! each connection.

use tokio::sync::watch;

use crate::model::Cause;

/// Tells connections to end.
pub(crate) struct Drain(watch::Sender<Stage>);

/// Hears when a connection is to end.
#[derive(Clone)]
pub(crate) struct DrainReceiver {
    session: watch::Receiver<Stage>,
    /// What is told to this connection alone.
    own: Option<watch::Receiver<Stage>>,
}

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
        DrainReceiver {
            session: self.0.subscribe(),
            own: None,
        }
    }

    /// Completes once everything that followed has ended.
    pub(crate) async fn nobody_follows(&self) {
        self.0.closed().await;
    }
}

// === impl DrainReceiver ===

impl DrainReceiver {
    /// Hears as well what is told to one connection alone.
    pub(crate) fn and(self, own: &Drain) -> Self {
        Self {
            own: Some(own.0.subscribe()),
            ..self
        }
    }

    /// Completes when connections are to end where it does no harm.
    pub(crate) async fn at_idle(&mut self) -> (IdlePolicy, Cause) {
        self.until(|stage| match stage {
            Stage::AtIdle(which, cause) => Some((*which, cause.clone())),
            Stage::Serving | Stage::Now(_) | Stage::Abandoned => None,
        })
        .await
    }

    /// Completes when connections are to end at once.
    pub(crate) async fn now(&mut self) -> Cause {
        self.until(|stage| match stage {
            Stage::Now(cause) => Some(cause.clone()),
            Stage::Serving | Stage::AtIdle(..) | Stage::Abandoned => None,
        })
        .await
    }

    /// Completes when nothing more is awaited: whatever is still under way is dropped.
    pub(crate) async fn abandoned(&mut self) {
        self.until(|stage| (*stage == Stage::Abandoned).then_some(()))
            .await;
    }

    async fn until<T>(&mut self, wanted: impl Fn(&Stage) -> Option<T>) -> T {
        let Self { session, own } = self;
        let own = async {
            match own {
                Some(own) => reaches(own, &wanted).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            found = reaches(session, &wanted) => found,
            found = own => found,
        }
    }
}

async fn reaches<T>(stage: &mut watch::Receiver<Stage>, wanted: impl Fn(&Stage) -> Option<T>) -> T {
    loop {
        if let Some(found) = wanted(&stage.borrow_and_update()) {
            return found;
        }
        if stage.changed().await.is_err() {
            // Nobody is left who could say so.
            return std::future::pending().await;
        }
    }
}
