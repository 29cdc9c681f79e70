//! Signing in: what `borealisctl login`, `logout` and `whoami` ask for.
//!
//! Keeps and removes our own login only. What the Heroku CLI, a file or a variable holds is
//! reported, never touched.

use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretString};

use super::{
    broker::Broker,
    token::{
        LookupResult,
        keychain::{self, Key, KeychainError},
        source::{OWN_SERVICE, is_token},
    },
};
use crate::{
    model::Cause,
    platform::clock,
    state::{Keeping, KeptLogin, LoginStore},
};

/// What the keychain's own program shows of the item.
const LABEL: &str = "Heroku token of Borealis tunnels";
/// What a refused token is called, since it comes from no place.
const GIVEN: &str = "borealisctl login";

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
    pub places: Vec<LookupResult>,
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
        let (keeping, kept) = match self.keep_in_keychain(&token, keep).await {
            Ok(()) => (Keeping::InKeychain, KeptWhere::Keychain),
            Err(because) => {
                let path = self.store.path().display().to_string();
                (Keeping::InFile(token), KeptWhere::File { path, because })
            }
        };
        let before = self.store.read().await.ok().flatten();
        let moved = matches!(
            (&keeping, before.map(|login| login.keeping)),
            (Keeping::InFile(_), Some(Keeping::InKeychain))
        );
        self.store
            .write(KeptLogin {
                account: account.clone(),
                machine: self.machine().to_owned(),
                kept_at: clock::timestamp(),
                keeping,
            })
            .await?;
        if moved {
            // The older token is of no use there; that it may stay does no harm.
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
    async fn keep_in_keychain(
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
        super::TokenSource::Login {
            store: self.store.clone(),
            machine: String::new(),
        }
        .to_string()
    }
}

fn winner(readings: &[LookupResult]) -> Option<String> {
    let winner = readings.iter().find(|reading| reading.token.is_some())?;
    Some(winner.place.clone())
}

#[cfg(test)]
mod tests {
    use std::{sync::Mutex, time::Duration};

    use serde_json::json;

    use super::*;
    use crate::{
        credential::{BrokerSettings, RotationInterval, TokenSource, TokenSources},
        provider::testing::{Reply, Server, limits},
    };

    struct World {
        sign_in: SignIn,
        store: LoginStore,
        _server: Server,
        _dir: tempfile::TempDir,
    }

    /// An API that knows HRKU-1 and HRKU-2 until `two_factor` is asked for.
    async fn world(reply: Reply) -> World {
        let reply = Mutex::new(reply);
        let server = Server::start(move |request| {
            assert_eq!(request.line, "GET /account");
            let known = ["Bearer HRKU-1", "Bearer HRKU-2"]
                .contains(&request.header("authorization").unwrap());
            let reply = if known {
                reply.lock().unwrap().clone()
            } else {
                Reply::status(401)
            };
            async move { reply }
        })
        .await;
        let dir = tempfile::tempdir().unwrap();
        let store = LoginStore::new(dir.path());
        let netrc = dir.path().join("netrc");
        std::fs::write(&netrc, "machine 127.0.0.1 password HRKU-2\n").unwrap();
        let machine = || "127.0.0.1".to_owned();
        let settings = BrokerSettings {
            tokens: TokenSources::from_places(vec![
                TokenSource::Login {
                    store: store.clone(),
                    machine: machine(),
                },
                TokenSource::Netrc {
                    file: netrc,
                    machine: machine(),
                },
            ]),
            rotation: RotationInterval::Never,
        };
        let broker = Broker::new(server.provider(limits(Duration::from_secs(5))), settings);
        World {
            sign_in: SignIn::new(broker, store.clone()),
            store,
            _server: server,
            _dir: dir,
        }
    }

    fn me() -> Reply {
        Reply::json(200, &json!({ "email": "me@example.com" }))
    }

    fn places(who: &WhoAmI) -> Vec<bool> {
        who.places
            .iter()
            .map(|place| place.token.is_some())
            .collect()
    }

    #[tokio::test]
    async fn a_login_is_checked_kept_used_and_forgotten() {
        let world = world(me()).await;
        let sign_in = &world.sign_in;
        let (_, source) = sign_in.who().await.account.unwrap();
        assert!(source.ends_with("netrc"));

        let token = SecretString::from(" HRKU-1\n");
        let logged_in = sign_in.log_in(token, KeepIn::File).await.unwrap();
        assert_eq!(logged_in.account, "me@example.com");
        assert_eq!(logged_in.shadowed_by, None);
        assert!(matches!(
            logged_in.kept,
            KeptWhere::File { because: None, .. }
        ));
        let who = sign_in.who().await;
        assert_eq!(places(&who), [true, true]);
        let expected = ("me@example.com".to_owned(), "borealisctl login".to_owned());
        assert_eq!(who.account.unwrap(), expected);

        let logged_out = sign_in.log_out().await.unwrap();
        assert_eq!(logged_out.account.as_deref(), Some("me@example.com"));
        assert!(logged_out.next.unwrap().ends_with("netrc"));
        assert_eq!(places(&sign_in.who().await), [false, true]);
        assert_eq!(sign_in.log_out().await.unwrap().account, None);
    }

    #[tokio::test]
    async fn what_heroku_refuses_is_not_kept() {
        let world = world(me()).await;
        let log_in = |token: &str| world.sign_in.log_in(token.into(), KeepIn::File);
        assert_eq!(
            log_in("HRKU-old").await.unwrap_err(),
            Cause::TokenRefused {
                source: GIVEN.into()
            }
        );
        for nonsense in ["", "  ", "two words", "tök"] {
            let cause = log_in(nonsense).await.unwrap_err();
            assert!(matches!(cause, Cause::InvalidRequest { .. }), "{cause:?}");
        }
        assert!(world.store.read().await.unwrap().is_none());
        log_in("HRKU-1").await.unwrap();
        log_in("HRKU-old").await.unwrap_err();
        assert!(
            world.store.read().await.unwrap().is_some(),
            "the one before stays"
        );
    }

    #[tokio::test]
    async fn an_account_with_two_factors_is_told_the_way_out() {
        let two_factor = json!({ "id": "two_factor", "message": "A second factor is required" });
        let world = world(Reply::json(403, &two_factor)).await;
        let cause = world
            .sign_in
            .log_in("HRKU-1".into(), KeepIn::File)
            .await
            .unwrap_err();
        assert_eq!(cause, Cause::TwoFactorRequired);
        assert!(cause.words().hint.contains("heroku login"));
    }
}
