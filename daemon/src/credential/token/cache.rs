//! Keeps the token that was read, reads again when it may have changed, and tells who waits
//! for another one.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use secrecy::ExposeSecret as _;
use tokio::sync::{Notify, watch};
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::{FileFingerprint, LookupResult, Token, TokenSources};
use crate::{
    credential::single_flight::{SingleFlight, locked},
    model::Cause,
};

/// How often [`TokenCache::follow`] looks at the files.
const LOOK: Duration = Duration::from_secs(3);
/// The same while the token is a good one: whoever uses it looks at the files first.
const SELDOM: Duration = Duration::from_secs(30);
/// How many looks at files go by before one into the keychain, while there is no token: it
/// may have been unlocked.
const KEYCHAIN_TURN: u32 = 10;

pub(in crate::credential) struct TokenCache {
    state: Mutex<State>,
    flight: SingleFlight<Arc<Token>>,
    tracker: TaskTracker,
    changed: watch::Sender<u64>,
    /// Told when the token is no longer a good one.
    doubt: Notify,
}

struct State {
    sources: Arc<TokenSources>,
    last: Option<Read>,
    /// Problems that were logged, each once until it has gone.
    told: Vec<String>,
}

struct Read {
    token: Option<Arc<Token>>,
    stamp: FileFingerprint,
    worth: Freshness,
}

/// Whether what was read will do for the next who asks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Freshness {
    Good,
    /// Refused, or the user says that it changed: read again first.
    Doubtful,
}

// === impl TokenCache ===

impl TokenCache {
    pub(in crate::credential) fn new(sources: TokenSources) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                sources: Arc::new(sources),
                last: None,
                told: Vec::new(),
            }),
            flight: SingleFlight::default(),
            tracker: TaskTracker::new(),
            changed: watch::Sender::new(0),
            doubt: Notify::new(),
        })
    }

    /// The token of the moment: the one that was read last, unless a file changed since.
    ///
    /// # Errors
    /// [`Cause::NotLoggedIn`] where no place has one, [`Cause::NoUsableToken`] where one of
    /// them can't be read.
    pub(in crate::credential) async fn current(self: &Arc<Self>) -> Result<Arc<Token>, Cause> {
        let sources = self.sources();
        let stamp = sources.stamp().await;
        if let Some(token) = self.good(&stamp) {
            return Ok(token);
        }
        self.flight
            .join(
                &self.tracker,
                || self.good(&stamp),
                || Arc::clone(self).read(sources, stamp.clone()),
            )
            .await
    }

    /// The Heroku API refused `token`: what is read next may be another.
    pub(in crate::credential) fn refused(&self, token: &Token) {
        if let Some(last) = &mut locked(&self.state).last
            && last.token.as_ref().is_some_and(|last| same(last, token))
        {
            last.worth = Freshness::Doubtful;
            self.doubt.notify_one();
        }
    }

    /// Replaces the places and reads them again; who waits for another token is told in any
    /// case, since the user has a reason to ask for this.
    pub(in crate::credential) async fn reload(
        self: &Arc<Self>,
        sources: TokenSources,
    ) -> Result<Arc<Token>, Cause> {
        {
            let mut state = locked(&self.state);
            state.sources = Arc::new(sources);
            state.told.clear();
            if let Some(last) = &mut state.last {
                last.worth = Freshness::Doubtful;
            }
        }
        // A reading under way began with the places of before.
        if let Some(before) = self.flight.under_way() {
            let _ = before.await;
            if let Some(last) = &mut locked(&self.state).last {
                last.worth = Freshness::Doubtful;
            }
        }
        let before = *self.changed.borrow();
        let token = self.current().await;
        self.changed.send_if_modified(|number| {
            let untold = *number == before;
            *number += u64::from(untold);
            untold
        });
        token
    }

    /// Reads the same places again, as [`TokenCache::reload`] does.
    pub(in crate::credential) async fn look_again(self: &Arc<Self>) -> Result<Arc<Token>, Cause> {
        let sources = self.sources();
        self.reload((*sources).clone()).await
    }

    /// Grows with each token that differs from the one before.
    pub(in crate::credential) fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Where the token of the moment was found, or why there is none; `None` while nobody has
    /// asked for one. Asks nobody itself.
    pub(in crate::credential) fn known(&self) -> Option<Result<String, Cause>> {
        let state = locked(&self.state);
        let last = state.last.as_ref()?;
        Some(match (&last.token, last.worth) {
            (Some(token), Freshness::Good) => Ok(token.source.clone()),
            (Some(token), Freshness::Doubtful) => Err(Cause::TokenRefused {
                source: token.source.clone(),
            }),
            (None, _) => Err(no_token(&state.told)),
        })
    }

    /// What every place holds.
    pub(in crate::credential) async fn survey(&self) -> Vec<LookupResult> {
        self.sources().survey().await
    }

    /// Reads again whenever a file among the places changes. Ends when it is dropped.
    pub(in crate::credential) async fn follow(self: &Arc<Self>) -> Infallible {
        let mut turn = 0;
        loop {
            let pause = if self.is_content() { SELDOM } else { LOOK };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                // Somebody waits for another one from now on.
                () = self.doubt.notified() => continue,
            }
            let stamp = self.sources().stamp().await;
            let (mut news, missing) = match &locked(&self.state).last {
                Some(last) => (last.stamp != stamp, last.token.is_none()),
                None => (false, false),
            };
            turn = (turn + 1) % KEYCHAIN_TURN;
            if missing && !news && turn == 0 {
                news = self.sources().keychain_has_one().await;
            }
            if news {
                // No token is an answer too, and remembered as such.
                let _ = self.current().await;
            }
        }
    }

    /// Whether nobody can be waiting for another token.
    fn is_content(&self) -> bool {
        let state = locked(&self.state);
        let last = state.last.as_ref();
        last.is_some_and(|last| last.worth == Freshness::Good && last.token.is_some())
    }

    fn sources(&self) -> Arc<TokenSources> {
        Arc::clone(&locked(&self.state).sources)
    }

    fn good(&self, stamp: &FileFingerprint) -> Option<Arc<Token>> {
        let state = locked(&self.state);
        let last = state.last.as_ref()?;
        (last.worth == Freshness::Good && last.stamp == *stamp)
            .then(|| last.token.clone())
            .flatten()
    }

    async fn read(
        self: Arc<Self>,
        sources: Arc<TokenSources>,
        stamp: FileFingerprint,
    ) -> Result<Arc<Token>, Cause> {
        let readings = sources.read().await;
        let problems: Vec<_> = readings.iter().filter_map(|r| r.problem.clone()).collect();
        let token = readings.into_iter().find_map(|r| r.token).map(Arc::new);
        let differs = {
            let mut state = locked(&self.state);
            for problem in problems.iter().filter(|p| !state.told.contains(p)) {
                warn!("Heroku token: {problem}");
            }
            state.told.clone_from(&problems);
            let differs = state
                .last
                .as_ref()
                .is_some_and(|last| match (&last.token, &token) {
                    (Some(last), Some(token)) => !same(last, token),
                    (last, token) => last.is_some() != token.is_some(),
                });
            state.last = Some(Read {
                token: token.clone(),
                stamp,
                worth: Freshness::Good,
            });
            differs
        };
        if differs {
            info!(
                source = token.as_ref().map_or("nowhere", |t| t.source.as_str()),
                "the Heroku token has changed"
            );
            self.changed.send_modify(|number| *number += 1);
        }
        if token.is_none() {
            self.doubt.notify_one();
        }
        token.ok_or_else(|| no_token(&problems))
    }
}

fn no_token(problems: &[String]) -> Cause {
    if problems.is_empty() {
        Cause::NotLoggedIn
    } else {
        Cause::NoUsableToken {
            problems: problems.join("; "),
        }
    }
}

/// Whether two tokens are the same, wherever they were found.
pub(in crate::credential) fn same(one: &Token, other: &Token) -> bool {
    one.value.expose_secret() == other.value.expose_secret()
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use super::*;
    use crate::credential::token::TokenSource;

    fn keeper(file: PathBuf) -> Arc<TokenCache> {
        TokenCache::new(TokenSources::from_places(vec![TokenSource::Netrc {
            file,
            machine: "h".into(),
        }]))
    }

    async fn value(keeper: &Arc<TokenCache>) -> Option<String> {
        let token = keeper.current().await.ok()?;
        Some(token.value.expose_secret().to_owned())
    }

    /// A new file each time: its inode differs even within one tick of the clock.
    fn write(file: &PathBuf, password: &str) {
        let new = file.with_extension("new");
        fs::write(&new, format!("machine h password {password}")).unwrap();
        fs::rename(new, file).unwrap();
    }

    #[tokio::test]
    async fn a_file_that_changes_is_noticed_at_the_next_use() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("netrc");
        let keeper = keeper(file.clone());
        let changed = keeper.changed();
        assert_eq!(keeper.current().await.err(), Some(Cause::NotLoggedIn));
        write(&file, "one");
        assert_eq!(value(&keeper).await.as_deref(), Some("one"));
        assert_eq!(*changed.borrow(), 1);
        assert_eq!(value(&keeper).await.as_deref(), Some("one"));
        write(&file, "one");
        assert_eq!(value(&keeper).await.as_deref(), Some("one"));
        assert_eq!(*changed.borrow(), 1, "the same token again is no news");
        write(&file, "two");
        assert_eq!(value(&keeper).await.as_deref(), Some("two"));
        fs::remove_file(&file).unwrap();
        assert_eq!(value(&keeper).await, None);
        assert_eq!(*changed.borrow(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_token_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("netrc");
        let keeper = keeper(file.clone());
        assert!(keeper.current().await.is_err());
        let mut changed = keeper.changed();
        write(&file, "one");
        tokio::select! {
            never = keeper.follow() => match never {},
            told = changed.changed() => told.unwrap(),
        }
        assert_eq!(value(&keeper).await.as_deref(), Some("one"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_token_has_the_next_one_looked_for_more_often() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("netrc");
        let keeper = keeper(file.clone());
        write(&file, "one");
        let token = keeper.current().await.unwrap();
        let mut changed = keeper.changed();
        let began = tokio::time::Instant::now();
        let events = async {
            tokio::time::sleep(LOOK).await;
            keeper.refused(&token);
            write(&file, "two");
            changed.changed().await.unwrap();
        };
        tokio::select! {
            never = keeper.follow() => match never {},
            () = events => {}
        }
        assert!(began.elapsed() <= LOOK * 3, "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn what_is_wrong_in_a_place_is_told_where_no_other_has_a_token() {
        let keeper = TokenCache::new(TokenSources::from_places(vec![TokenSource::Variable {
            name: "HEROKU_API_KEY",
            value: None,
            instead: Some("HEROKU_API_TOKEN"),
        }]));
        let cause = keeper.current().await.unwrap_err();
        assert_eq!(cause.kind().code, "not-logged-in");
        assert!(cause.to_string().contains("did you mean HEROKU_API_KEY?"));
    }

    #[tokio::test]
    async fn a_command_runs_once_until_its_token_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("count");
        let line = format!("sh -c 'echo x >> {0}; wc -l < {0}'", file.display());
        let sources = || TokenSources::from_places(vec![TokenSource::Command(line.clone())]);
        let keeper = TokenCache::new(sources());
        let (one, two) = tokio::join!(value(&keeper), value(&keeper));
        assert_eq!((one.as_deref(), two.as_deref()), (Some("1"), Some("1")));
        let token = keeper.current().await.unwrap();
        keeper.refused(&token);
        assert_eq!(value(&keeper).await.as_deref(), Some("2"));
        // Refusing one that was replaced meanwhile is no news.
        keeper.refused(&token);
        assert_eq!(value(&keeper).await.as_deref(), Some("2"));
        let before = *keeper.changed().borrow();
        keeper.reload(sources()).await.unwrap();
        assert_eq!(value(&keeper).await.as_deref(), Some("3"));
        assert!(*keeper.changed().borrow() > before);
    }
}
