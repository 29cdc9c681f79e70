//! Makes a session's listeners, and what clients log in with. Waits for disk, `/proc` and a
//! key derivation, so it runs beside the loop.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use crate::{
    model::{Cause, SessionName},
    platform::port,
    proxy::{self, Endpoint, LocalLogin, PortWish},
    service_manager::activation::Inherited,
    state::Passwords,
};

/// How often a port that is in use is tried again.
const AGAIN: Duration = Duration::from_millis(100);

/// What is to be made.
pub(super) struct Work {
    pub(super) name: SessionName,
    pub(super) wish: PortWish,
    /// How long a port may be in use.
    pub(super) patience: Duration,
    /// From an attempt before.
    pub(super) login: Option<LocalLogin>,
    pub(super) passwords: Passwords,
    pub(super) runtime_dir: PathBuf,
    pub(super) inherited: Arc<Mutex<Inherited>>,
}

/// What came of it.
pub(super) struct Bound {
    /// Made now, where there was none before.
    pub(super) login: Option<LocalLogin>,
    pub(super) outcome: Result<Endpoint, Cause>,
}

// === impl Work ===

impl Work {
    /// Dropping the future leaves nothing behind but a password's file.
    pub(super) async fn run(self) -> Bound {
        let login = match &self.login {
            Some(_) => None,
            None => match self.login().await {
                Ok(login) => Some(login),
                Err(cause) => {
                    return Bound {
                        login: None,
                        outcome: Err(cause),
                    };
                }
            },
        };
        let outcome = self.bind().await;
        Bound { login, outcome }
    }

    async fn login(&self) -> Result<LocalLogin, Cause> {
        let (passwords, name) = (self.passwords.clone(), self.name.clone());
        blocking(move || LocalLogin::new(passwords.get_or_create(&name)?)).await
    }

    async fn bind(&self) -> Result<Endpoint, Cause> {
        let deadline = Instant::now() + self.patience;
        loop {
            let (inherited, dir) = (Arc::clone(&self.inherited), self.runtime_dir.clone());
            let (name, wish) = (self.name.clone(), self.wish.clone());
            let bound = blocking(move || proxy::bind(&inherited, &dir, &name, &wish)).await;
            match bound {
                Err(Cause::PortInUse { .. }) if Instant::now() < deadline => sleep(AGAIN).await,
                Err(Cause::PortInUse { port, .. }) => {
                    let holder = blocking(move || Ok(port::holder(port)))
                        .await
                        .ok()
                        .flatten();
                    return Err(Cause::PortInUse { port, holder });
                }
                bound => return bound,
            }
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Cause> + Send + 'static,
) -> Result<T, Cause> {
    let joined = tokio::task::spawn_blocking(work).await;
    joined.unwrap_or_else(|error| {
        Err(Cause::Internal {
            detail: error.to_string(),
        })
    })
}
