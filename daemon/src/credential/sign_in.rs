//! Signing in: what `borealisctl login`, `logout` and `whoami` ask for.
//!
//! Keeps and removes our own login only. What the Heroku CLI, a file or a variable holds is
//! reported, never touched.

use std::sync::Arc;

use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};

use super::{
    broker::Broker,
    keychain::{self, Key, KeychainError},
    place::{OWN_SERVICE, is_token},
    token::Reading,
};
use crate::{
    model::Cause,
    state::{Keeping, KeptLogin, LoginStore},
};

/// What the keychain's own program shows of the item.
const LABEL: &str = "Heroku token of Borealis tunnels";
/// What a refused token is called, since it comes from no place.
const GIVEN: &str = "what was typed";

/// Signs in and out.
pub struct SignIn {
    broker: Arc<Broker>,
    store: LoginStore,
}

/// Where a token is to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepIn {
    /// In the keychain where there is one that is unlocked, else in a file.
    KeychainOrFile,
    /// In a file: a machine that nobody logs in to at boot has no unlocked keychain.
    File,
}

/// Where a token was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeptWhere {
    /// In the keychain.
    Keychain,
    /// In this file.
    File {
        /// The file.
        path: String,
        /// Why not in the keychain, where that was tried.
        because: Option<String>,
    },
}

/// What a log-in came to.
#[derive(Debug, Clone)]
pub struct LoggedIn {
    /// The account's e-mail address.
    pub account: String,
    /// Where the token is.
    pub kept: KeptWhere,
    /// The place that wins over it, so that its token is used instead.
    pub shadowed_by: Option<String>,
}

/// What a log-out came to.
#[derive(Debug, Clone)]
pub struct LoggedOut {
    /// Whose login was removed; `None` where none was kept.
    pub account: Option<String>,
    /// The place whose token is used from now on.
    pub next: Option<String>,
    /// What may still be in the keychain, and why.
    pub problem: Option<String>,
}

/// Who the Heroku API says that the user is.
#[derive(Debug)]
pub struct WhoAmI {
    /// The account's e-mail address and the place of its token.
    pub account: Result<(String, String), Cause>,
    /// Every place in its order; the first with a token wins.
    pub places: Vec<Reading>,
}

// === impl SignIn ===

impl SignIn {
    /// Signs in to the API of `broker`, and keeps the login in `store`.
    pub fn new(broker: Arc<Broker>, store: LoginStore) -> Self {
        Self { broker, store }
    }

    /// Asks the Heroku API whose token it is, and keeps it.
    ///
    /// # Errors
    /// That it is no token, was refused, or can't be kept; nothing is kept then, and a login
    /// of before stays. Dropping the future may leave either.
    pub async fn log_in(&self, token: SecretString, keep: KeepIn) -> Result<LoggedIn, Cause> {
        let token = SecretString::from(token.expose_secret().trim());
        if !is_token(token.expose_secret()) {
            return Err(Cause::InvalidRequest {
                problem: "what was typed is no Heroku token: it is empty, or has characters that none has".into(),
            });
        }
        let account = self.broker.account_of(&token, GIVEN).await?.email;
        let (keeping, kept) = match self.into_keychain(&token, keep).await {
            Ok(()) => (Keeping::InKeychain, KeptWhere::Keychain),
            Err(because) => {
                let path = self.store.path().display().to_string();
                (Keeping::InFile(token), KeptWhere::File { path, because })
            }
        };
        let in_file = matches!(keeping, Keeping::InFile(_));
        self.store
            .write(KeptLogin {
                account: account.clone(),
                machine: self.machine().to_owned(),
                kept_at: Timestamp::now(),
                keeping,
            })
            .await?;
        if in_file {
            // An older token of ours has no business in the keychain any more.
            let _ = keychain::remove(self.key()).await;
        }
        tracing::info!(account, ?kept, "logged in");
        // That another place may win is no failure; neither is one that can't be read.
        let _ = self.broker.look_for_token().await;
        let readings = self.broker.survey_tokens().await;
        Ok(LoggedIn {
            account,
            kept,
            shadowed_by: winner(&readings).filter(|place| *place != self.place()),
        })
    }

    /// Removes the login that was kept. The token itself stays valid at Heroku.
    ///
    /// # Errors
    /// That it can't be removed.
    pub async fn log_out(&self) -> Result<LoggedOut, Cause> {
        let kept = self.store.read().await;
        let mut problem = None;
        let account = match &kept {
            Ok(None) => None,
            Ok(Some(login)) => {
                if let Keeping::InKeychain = login.keeping {
                    let key = Key {
                        service: OWN_SERVICE,
                        account: &login.machine,
                    };
                    let removed = keychain::remove(key).await;
                    problem = removed.err().map(|error| error.to_string());
                }
                Some(login.account.clone())
            }
            // Whatever it was, it was a login.
            Err(_) => Some(String::new()),
        };
        self.store.remove().await?;
        if let Some(account) = &account {
            tracing::info!(account, "logged out");
        }
        let _ = self.broker.look_for_token().await;
        Ok(LoggedOut {
            account,
            next: winner(&self.broker.survey_tokens().await),
            problem,
        })
    }

    /// Whose token is used, and what every place holds.
    pub async fn who(&self) -> WhoAmI {
        let (account, places) = tokio::join!(self.broker.account(), self.broker.survey_tokens());
        WhoAmI {
            account: account.map(|(account, source)| (account.email, source)),
            places,
        }
    }

    /// # Errors
    /// Why not, where it was to be.
    async fn into_keychain(
        &self,
        token: &SecretString,
        keep: KeepIn,
    ) -> Result<(), Option<String>> {
        match keep {
            KeepIn::File => Err(None),
            KeepIn::KeychainOrFile => keychain::store(self.key(), LABEL, token)
                .await
                .map_err(|error: KeychainError| Some(error.to_string())),
        }
    }

    fn key(&self) -> Key<'_> {
        Key {
            service: OWN_SERVICE,
            account: self.machine(),
        }
    }

    fn machine(&self) -> &str {
        self.broker.provider().endpoints().netrc_machine()
    }

    fn place(&self) -> String {
        super::Place::Login {
            store: self.store.clone(),
            machine: String::new(),
        }
        .to_string()
    }
}

fn winner(readings: &[Reading]) -> Option<String> {
    let winner = readings.iter().find(|reading| reading.token.is_some())?;
    Some(winner.place.clone())
}
