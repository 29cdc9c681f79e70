//! The broker against a provider that keeps books.

mod world;

use std::{
    fs,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::join_all;
use secrecy::SecretString;
use serde_json::json;
use tokio_util::task::TaskTracker;

use self::world::{ADDON, DATABASE, ENOUGH, MAKE, REMOVE, SSH, Step, World};
use super::{
    Broker, BrokerSettings, DatabaseKey, RotationInterval, Token, TokenSource, TokenSources,
    grants::Grants,
};
use crate::{
    model::{Access, Cause, Generation, Resolved, Target},
    platform::clock::Clock,
    provider::testing::{Reply, limits},
};

fn read_only() -> DatabaseKey {
    DatabaseKey::Personal {
        addon: ADDON.into(),
        access: Access::ReadOnly,
    }
}

fn app_user(app: &str, attachment: &str) -> DatabaseKey {
    DatabaseKey::App {
        app: app.into(),
        attachment: attachment.into(),
        access: Access::ReadOnly,
    }
}

fn refuse(status: u16) -> Step {
    Step::Instead(Reply::status(status))
}

#[tokio::test]
async fn one_grant_serves_calls_side_by_side_and_is_removed() {
    let world = World::new().await;
    let gate = world.gate(MAKE);
    let key = read_only();
    let (ssh, database, ()) = tokio::join!(
        world.broker.ssh(ADDON, None),
        world.broker.database(&key, None),
        async {
            world.server.until_asked(MAKE, 1).await;
            gate.add_permits(1);
        }
    );
    let (ssh, database) = (ssh.unwrap(), database.unwrap());
    assert_eq!(ssh.credential.bastion.to_string(), "b:22");
    assert_eq!(database.generation, Generation(1));
    let wait = database
        .rotates_at
        .unwrap()
        .duration_since(database.issued_at);
    assert!((3239..=3961).contains(&wait.as_secs()), "{wait}");
    assert_eq!(world.server.asked(MAKE), 1);
    let shown = format!("{ssh:?} {database:?}");
    assert!(!shown.contains("secret"), "{shown}");
    world.server.until_asked(REMOVE, 1).await;
    world.end().await;
}

#[tokio::test]
async fn fifty_waiters_share_one_password() {
    let world = World::new().await;
    let gate = world.gate(DATABASE);
    let asking = join_all((0..50).map(|_| world.read_only(None)));
    let (passwords, ()) = tokio::join!(asking, async {
        world.server.until_asked(DATABASE, 1).await;
        gate.add_permits(1);
    });
    assert!(passwords.iter().all(|p| p.as_deref() == Ok("secret-ro-1")));
    assert_eq!(world.read_only(None).await.as_deref(), Ok("secret-ro-1"));
    assert_eq!(world.server.asked(DATABASE), 1);
    let asking = join_all((0..50).map(|_| world.read_only(Some(1))));
    assert!(
        asking
            .await
            .iter()
            .all(|p| p.as_deref() == Ok("secret-ro-2"))
    );
    assert_eq!(world.server.asked(DATABASE), 2);
    world.end().await;
}

#[tokio::test]
async fn read_only_and_read_write_are_apart() {
    let world = World::new().await;
    let read_write = DatabaseKey::Personal {
        addon: ADDON.into(),
        access: Access::ReadWrite,
    };
    let lease = world.broker.database(&read_write, None).await.unwrap();
    assert_eq!(lease.credential.username, "rw");
    assert_eq!(world.read_only(None).await.as_deref(), Ok("secret-ro-2"));
    world.end().await;
}

#[tokio::test]
async fn who_goes_away_ends_nothing_and_leaves_nothing() {
    let world = World::new().await;
    let gate = world.gate(DATABASE);
    {
        let mut asking = Box::pin(world.read_only(None));
        tokio::select! {
            _ = &mut asking => panic!("not before the gate opens"),
            () = world.server.until_asked(DATABASE, 1) => {}
        }
    }
    let mut watch = world.broker.watch_database(&read_only());
    gate.add_permits(1);
    watch.changed().await.unwrap();
    assert_eq!(world.read_only(None).await.as_deref(), Ok("secret-ro-1"));
    assert_eq!(world.server.asked(DATABASE), 1);
    world.end().await;
}

#[tokio::test]
async fn a_grant_that_nobody_waits_for_any_more_is_removed() {
    let world = World::new().await;
    let gate = world.gate(MAKE);
    {
        let operation = world.broker.with_grant(
            |_| std::future::pending(),
            |failure| failure.addon_cause(ADDON),
        );
        let mut operation: std::pin::Pin<Box<dyn Future<Output = Result<(), Cause>>>> =
            Box::pin(operation);
        tokio::select! {
            _ = &mut operation => panic!("it never ends"),
            () = world.server.until_asked(MAKE, 1) => {}
        }
    }
    gate.add_permits(1);
    world.server.until_asked(REMOVE, 1).await;
    world.end().await;
}

#[tokio::test]
async fn each_status_has_its_cause_and_none_is_kept() {
    let world = World::new().await;
    for (status, code) in [
        (403, "access-revoked"),
        (404, "other-service"),
        (422, "provisioning"),
        (423, "upgrading"),
        (400, "provider-unavailable"),
        (409, "provider-unavailable"),
    ] {
        world.first(DATABASE, [refuse(status)]);
        let cause = world.read_only(None).await.unwrap_err();
        assert_eq!(cause.kind().code, code);
    }
    world.first(DATABASE, [refuse(503), refuse(503), refuse(503)]);
    let cause = world.read_only(None).await.unwrap_err();
    assert_eq!(cause.kind().code, "provider-unavailable");
    assert_eq!(world.read_only(None).await.as_deref(), Ok("secret-ro-1"));
    // What is held outlives a renewal that fails.
    world.first(DATABASE, [refuse(403)]);
    assert!(world.read_only(Some(1)).await.is_err());
    assert_eq!(world.read_only(None).await.as_deref(), Ok("secret-ro-1"));
    world.end().await;
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again() {
    let world = World::new().await;
    world.first(
        DATABASE,
        [Step::Lost(Reply::Drop), Step::Lost(Reply::Cut("{".into()))],
    );
    assert_eq!(world.read_only(None).await.as_deref(), Ok("secret-ro-3"));
    world.end().await;
}

#[tokio::test]
async fn a_refused_grant_is_replaced_once() {
    let world = World::new().await;
    world.first(DATABASE, [refuse(401)]);
    assert_eq!(world.read_only(None).await.as_deref(), Ok("secret-ro-1"));
    assert_eq!(world.server.asked(MAKE), 2);
    world.first(DATABASE, [refuse(401), refuse(401)]);
    let cause = world.read_only(Some(1)).await.unwrap_err();
    assert_eq!(cause.kind().code, "provider-unavailable");
    assert_eq!(world.server.asked(MAKE), 4);
    world.end().await;
}

#[tokio::test]
async fn a_grant_that_is_old_is_not_shared() {
    let world = World::new().await;
    let (provider, tracker) = (world.server.provider(limits(ENOUGH)), TaskTracker::new());
    let provider = Arc::new(provider);
    let token = Arc::new(Token {
        value: SecretString::from("HRKU-1"),
        source: "here".into(),
    });
    for (young, made) in [(ENOUGH, 1), (Duration::ZERO, 3)] {
        let grants = Grants::new(Arc::clone(&provider), tracker.clone(), young);
        let first = grants.get(Arc::clone(&token)).await.unwrap();
        let second = grants.get(Arc::clone(&token)).await.unwrap();
        assert_eq!(world.server.asked(MAKE), made);
        drop((first, second));
    }
    tracker.close();
    tracker.wait().await;
    world.end().await;
}

#[tokio::test]
async fn stopping_waits_for_an_operation_that_has_a_grant() {
    let world = World::new().await;
    let (go, wait) = tokio::sync::oneshot::channel::<()>();
    let wait = Mutex::new(Some(wait));
    let operation = world.broker.with_grant(
        |grant| {
            let wait = wait.lock().unwrap().take().unwrap();
            async move {
                wait.await.unwrap();
                drop(grant);
                Ok(())
            }
        },
        |failure| failure.addon_cause(ADDON),
    );
    let drain = async {
        world.server.until_asked(MAKE, 1).await;
        let mut drain = Box::pin(world.broker.drain(ENOUGH));
        assert!(futures_util::poll!(&mut drain).is_pending());
        go.send(()).unwrap();
        drain.await;
    };
    let (outcome, ()) = tokio::join!(operation, drain);
    assert_eq!(outcome, Ok(()));
    world.end().await;
}

#[tokio::test]
async fn a_grant_without_a_token_is_removed_too() {
    let world = World::new().await;
    let reply = Reply::json(201, &json!({ "id": "grant-1" }));
    world.first(MAKE, [Step::Lost(reply)]);
    let cause = world.read_only(None).await.unwrap_err();
    assert_eq!(cause.kind().code, "provider-unavailable");
    world.end().await;
}

#[tokio::test]
async fn a_removal_that_fails_is_tried_again_and_fails_nobody() {
    let world = World::new().await;
    let line = format!("{REMOVE}grant-1");
    world.first(&line, [refuse(503), Step::Instead(Reply::Drop)]);
    assert_eq!(world.read_only(None).await.as_deref(), Ok("secret-ro-1"));
    world.server.until_asked(&line, 3).await;
    world.end().await;
}

#[tokio::test]
async fn stopping_ends_renewals_and_removes_their_grants() {
    let world = World::new().await;
    let _never = world.gate(DATABASE);
    let broker = Arc::clone(&world.broker);
    let asking = tokio::spawn(async move { broker.database(&read_only(), None).await });
    world.server.until_asked(DATABASE, 1).await;
    world.broker.drain(ENOUGH).await;
    assert_eq!(asking.await.unwrap().unwrap_err(), Cause::DaemonStopping);
    assert_eq!(world.read_only(None).await, Err(Cause::DaemonStopping));
    world.end().await;
}

#[tokio::test]
async fn a_grant_being_made_while_stopping_is_removed() {
    let world = World::new().await;
    let gate = world.gate(MAKE);
    let broker = Arc::clone(&world.broker);
    let asking = tokio::spawn(async move { broker.ssh(ADDON, None).await });
    world.server.until_asked(MAKE, 1).await;
    let ((), ()) = tokio::join!(world.broker.drain(ENOUGH), async { gate.add_permits(1) });
    assert_eq!(asking.await.unwrap().unwrap_err(), Cause::DaemonStopping);
    assert_eq!(world.books.lock().unwrap().made, 1);
    world.end().await;
}

#[tokio::test]
async fn stopping_waits_no_longer_than_it_may() {
    let world = World::new().await;
    let _never = world.gate(&format!("{REMOVE}grant-1"));
    world.read_only(None).await.unwrap();
    let limit = Duration::from_millis(200);
    let start = std::time::Instant::now();
    world.broker.drain(limit).await;
    assert!(start.elapsed() >= limit && start.elapsed() < ENOUGH);
}

#[tokio::test]
async fn a_provider_that_hangs_is_an_answer() {
    let world = World::with_attempts_of(Duration::from_millis(200)).await;
    let hang = || Step::Instead(Reply::Hang);
    world.first(DATABASE, [hang(), hang(), hang()]);
    let cause = world.read_only(None).await.unwrap_err();
    assert_eq!(cause.kind().code, "provider-unavailable");
    world.end().await;
}

#[tokio::test]
async fn a_refused_token_names_its_place_until_it_changes() {
    let world = World::new().await;
    world.books.lock().unwrap().token = "HRKU-2".into();
    let source = world.netrc.display().to_string();
    for _ in 0..2 {
        let refused = Cause::TokenRefused {
            source: source.clone(),
        };
        assert_eq!(world.read_only(None).await, Err(refused));
    }
    let changed = world.broker.token_changed();
    world.log_in("HRKU-2");
    assert_eq!(world.read_only(None).await.as_deref(), Ok("secret-ro-1"));
    assert!(changed.has_changed().unwrap());
    let (account, from) = world.broker.account().await.unwrap();
    assert_eq!((account.email.as_str(), from), ("me@x.test", source));
    world.end().await;
}

#[tokio::test]
async fn two_factor_and_not_logged_in() {
    let world = World::new().await;
    let two_factor = json!({ "id": "two_factor", "message": "code" });
    world.first(MAKE, [Step::Instead(Reply::json(403, &two_factor))]);
    assert_eq!(world.read_only(None).await, Err(Cause::TwoFactorRequired));
    fs::remove_file(&world.netrc).unwrap();
    assert_eq!(world.read_only(None).await, Err(Cause::NotLoggedIn));
    assert_eq!(
        world.resolve(Target::App("sushi".into())).await,
        Err(Cause::NotLoggedIn)
    );
    world.end().await;
}

#[tokio::test]
async fn a_reload_takes_other_places_and_another_interval() {
    let world = World::new().await;
    world.read_only(None).await.unwrap();
    let changed = world.broker.token_changed();
    let settings = |value: &str| BrokerSettings {
        tokens: TokenSources::from_places(vec![TokenSource::Variable {
            name: "HEROKU_API_KEY",
            value: Some(SecretString::from(value)),
            instead: None,
        }]),
        rotation: RotationInterval::Never,
    };
    world.broker.reload(settings("HRKU-1")).await.unwrap();
    assert!(changed.has_changed().unwrap());
    let lease = world.broker.current_database(&read_only()).unwrap();
    assert_eq!((lease.generation, lease.rotates_at), (Generation(1), None));
    assert_eq!(world.broker.account().await.unwrap().1, "HEROKU_API_KEY");
    world.broker.forget_database(&read_only());
    assert!(world.broker.current_database(&read_only()).is_none());
    world.end().await;
}

#[tokio::test]
async fn the_app_s_own_user() {
    let world = World::new().await;
    for (attachment, host) in [("DATABASE", "r"), ("OLD", "old")] {
        let key = app_user("sushi", attachment);
        let lease = world.broker.database(&key, None).await.unwrap();
        assert_eq!(lease.credential.server.host, host);
        assert_eq!(lease.rotates_at, None);
    }
    for (attachment, variable) in [
        ("BAD", "BAD_TUNNEL_BPG_CONN_INFO"),
        ("NONE", "NONE_TUNNEL_BPG_CONN_INFO"),
    ] {
        let cause = world
            .broker
            .database(&app_user("sushi", attachment), None)
            .await;
        let expected = Cause::ConfigVariableInvalid {
            app: "sushi".into(),
            variable: variable.into(),
        };
        assert_eq!(cause.unwrap_err(), expected);
    }
    let cause = world.broker.database(&app_user("no-app", "X"), None).await;
    assert_eq!(cause.unwrap_err().kind().code, "app-not-found");
    assert_eq!(world.server.asked(MAKE), 0);
    world.end().await;
}

#[tokio::test]
async fn targets_in_every_form() {
    let world = World::new().await;
    let found = |n: u32, app: &str, attachment: &str, ambiguous_in_app| {
        Ok(Resolved {
            addon_id: format!("id-{n}"),
            addon: format!("borealis-pg-hex-{n}"),
            app: app.into(),
            attachment: attachment.into(),
            ambiguous_in_app,
        })
    };
    let word = |word: &str| Target::Word(word.into());
    let in_app = |app: &str, addon: &str| Target::AppAddon {
        app: app.into(),
        addon: addon.into(),
    };
    let sushi = || found(1, "sushi", "DATABASE", false);
    let maroon = || found(2, "ramen", "MAROON", true);
    for (target, expected) in [
        (Target::App("sushi".into()), sushi()),
        (Target::App("app-sushi".into()), sushi()),
        (word("sushi"), sushi()),
        (word(ADDON), sushi()),
        (Target::Addon(ADDON.into()), sushi()),
        (in_app("ramen", "MAROON"), maroon()),
        (Target::Addon("borealis-pg-hex-2".into()), maroon()),
    ] {
        assert_eq!(world.resolve(target.clone()).await, expected, "{target:?}");
    }
    for (target, expected) in [
        (
            Target::App("none".into()),
            Cause::AppNotFound { app: "none".into() },
        ),
        (
            Target::App("..".into()),
            Cause::AppNotFound { app: "..".into() },
        ),
        (
            Target::App("bare".into()),
            Cause::NoAddon { app: "bare".into() },
        ),
        (word("soup"), Cause::NoAddon { app: "soup".into() }),
        (
            word("ramen"),
            Cause::SeveralAddons {
                app: "ramen".into(),
                attachments: vec!["CYAN".into(), "MAROON".into()],
            },
        ),
        (
            word("nothing"),
            Cause::TargetNotFound {
                word: "nothing".into(),
            },
        ),
        (
            word("MAROON"),
            Cause::TargetNotFound {
                word: "MAROON".into(),
            },
        ),
        (
            Target::Addon("MAROON".into()),
            Cause::AddonNotFound {
                addon: "MAROON".into(),
                app: None,
            },
        ),
        (
            Target::Addon("nothing-fits".into()),
            Cause::AddonNotFound {
                addon: "nothing-fits".into(),
                app: None,
            },
        ),
        (
            in_app("ramen", "BLUE"),
            Cause::AddonNotFound {
                addon: "BLUE".into(),
                app: Some("ramen".into()),
            },
        ),
        (
            in_app("gone", "BLUE"),
            Cause::AppNotFound { app: "gone".into() },
        ),
        // The add-on is found, but not whether its app has others: no name is guessed.
        (
            in_app("hidden", ADDON),
            Cause::ProviderRefused {
                api: "Heroku API",
                status: 403,
                message: "words".into(),
                request_id: None,
            },
        ),
        (
            word("redis-hex-9"),
            Cause::OtherService {
                addon: "redis-hex-9".into(),
            },
        ),
    ] {
        assert_eq!(
            world.resolve(target.clone()).await,
            Err(expected),
            "{target:?}"
        );
    }
    world.end().await;
}

/// A session's name follows from whether its app has several add-ons: where that can't be
/// looked up, the one that is known is not changed.
#[tokio::test]
async fn whether_an_app_has_several_is_never_guessed() {
    let world = World::new().await;
    let target = Target::AppAddon {
        app: "ramen".into(),
        addon: "MAROON".into(),
    };
    for (status, code) in [
        (403, "provider-refused"),
        (404, "app-not-found"),
        (410, "provider-refused"),
    ] {
        world.first("GET /apps/ramen/addons", [refuse(status)]);
        let cause = world.resolve(target.clone()).await.unwrap_err();
        assert_eq!(cause.kind().code, code, "{status}");
    }
    assert!(world.resolve(target).await.unwrap().ambiguous_in_app);
    world.end().await;
}

#[tokio::test]
async fn a_look_up_without_the_needed_names_is_unavailable() {
    let world = World::new().await;
    let nameless = json!([{ "id": "id-1", "addon_service": { "name": "borealis-pg" } }]);
    let line = "GET /apps/sushi/addons";
    world.first(line, vec![Step::Instead(Reply::json(200, &nameless)); 3]);
    let cause = world
        .resolve(Target::App("sushi".into()))
        .await
        .unwrap_err();
    assert_eq!(cause.kind().code, "provider-unavailable");
    assert!(cause.words().sentence.contains("name"), "{cause}");
    world.first(
        "GET /addons/id-1/addon-attachments",
        [Step::Instead(Reply::json(200, &json!([])))],
    );
    let cause = world
        .resolve(Target::App("sushi".into()))
        .await
        .unwrap_err();
    assert_eq!(cause.kind().code, "provider-unavailable");
    world.end().await;
}

#[tokio::test]
async fn no_log_shows_a_secret() {
    let log = Log(Arc::default(), std::thread::current().id());
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer({
            let log = log.clone();
            move || log.clone()
        })
        .finish();
    // A subscriber for one thread only would miss what another thread's callsites cached.
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let world = World::new().await;
    world.first(MAKE, [Step::Lost(Reply::Cut("{".into()))]);
    world.first(DATABASE, [refuse(401), refuse(503)]);
    assert!(world.read_only(None).await.is_ok());
    assert!(world.broker.ssh(ADDON, None).await.is_ok());
    let key = app_user("sushi", "DATABASE");
    assert!(world.broker.database(&key, None).await.is_ok());
    assert!(world.resolve(Target::App("sushi".into())).await.is_ok());
    world.broker.drain(ENOUGH).await;
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(text.contains("TRACE") && text.contains("personal-db-users"));
    for secret in ["HRKU", "secret"] {
        let line = text.lines().find(|line| line.contains(secret));
        assert_eq!(line, None);
    }
}

/// What one test's thread logs.
#[derive(Clone)]
struct Log(Arc<Mutex<Vec<u8>>>, std::thread::ThreadId);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if std::thread::current().id() == self.1 {
            self.0.lock().unwrap().extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Sessions ask from tasks of their own.
#[test]
fn what_is_asked_for_can_cross_threads() {
    fn check<T: Send>(_: impl FnOnce(&'static Broker) -> T) {}
    check(|broker| broker.ssh(ADDON, None));
    check(|broker| async move { broker.database(&read_only(), None).await });
    check(|broker| async move { broker.resolve(&Target::App(String::new())).await });
    check(|broker| broker.account());
    check(|broker| broker.reload(BrokerSettings::default()));
    check(|broker| broker.drain(ENOUGH));
    check(|broker| broker.follow_token());
    check(|broker| {
        broker.with_grant(
            async |grant| {
                let borealis = broker.provider().borealis(
                    grant.bearer(),
                    ADDON,
                    crate::provider::Waiting::Somebody,
                );
                borealis.personal_ssh_user().await
            },
            |failure| failure.addon_cause(ADDON),
        )
    });
}

fn refused() -> Cause {
    Cause::DatabaseRefusedLogin {
        sqlstate: "28000".into(),
        message: "pg_hba.conf rejects connection".into(),
    }
}

#[tokio::test]
async fn a_database_that_lets_nobody_in_does_not_empty_the_quota() {
    let world = World::new().await;
    let (broker, key) = (&world.broker, read_only());
    let mut trouble = broker.watch_trouble(&key);
    let mut after = None;
    // Clients that ask on and on, one after the other.
    let mut told = Vec::new();
    for _ in 0..50 {
        match broker.database(&key, after).await {
            Ok(lease) => {
                after = Some(lease.generation);
                told.push(broker.database_refused(&key, lease.generation, &refused()));
            }
            Err(cause) => told.push(cause),
        }
    }
    assert_eq!(world.server.asked(DATABASE), 3);
    let fresh = |cause: &Cause| matches!(cause, Cause::FreshCredentialsRefused { .. });
    assert!(!told[..2].iter().any(fresh), "{told:?}");
    assert!(told[2..].iter().all(fresh), "{told:?}");
    assert!(trouble.borrow_and_update().as_ref().is_some_and(fresh));
    assert!(broker.held_back(&key).is_some());
    assert!(broker.contested().is_empty(), "it is no other machine");
    // What the user asks for is tried all the same, and ends the trouble where it helps.
    let (_, lease) = broker.rotate(ADDON, &key, Clock::now()).await.unwrap();
    broker.database_took(&key, lease.generation);
    assert!(trouble.borrow_and_update().is_none());
    assert_eq!(broker.held_back(&key), None);
    world.read_only(Some(lease.generation.0)).await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn another_machine_is_blamed_only_for_what_was_let_in_before() {
    let world = World::new().await;
    let (broker, key) = (&world.broker, read_only());
    let mut after = None;
    for _ in 0..10 {
        let lease = broker.database(&key, after).await.unwrap();
        broker.database_took(&key, lease.generation);
        broker.database_refused(&key, lease.generation, &refused());
        assert!(broker.taken_away(&key).is_some());
        after = Some(lease.generation);
    }
    assert_eq!(world.server.asked(DATABASE), 10);
    assert_eq!(broker.contested().len(), 1);
    world.end().await;
}

#[tokio::test]
async fn twenty_five_sessions_share_the_renewal_of_a_key_and_none_knocks_with_the_old_one() {
    let world = World::new().await;
    let broker = &world.broker;
    let first = broker.ssh(ADDON, None).await.unwrap();
    let bastion = first.credential.bastion.clone();
    let refused = Cause::BastionRefusedKey { bastion };
    let keys = || world.server.asked(SSH);
    // One after the other, as sessions find out.
    for _ in 0..25 {
        broker.ssh_refused(ADDON, first.generation, &refused);
        let next = broker.ssh(ADDON, None).await.unwrap();
        assert_eq!(next.generation, Generation(2));
    }
    assert_eq!(keys(), 2);
    broker.ssh_took(ADDON, Generation(2));
    world.end().await;
}

#[tokio::test]
async fn one_command_rotates_a_lease_once_for_all_its_sessions() {
    let world = World::new().await;
    let (broker, key) = (&world.broker, read_only());
    tokio::try_join!(broker.ssh(ADDON, None), broker.database(&key, None)).unwrap();
    let asked = Clock::now();
    for _ in 0..25 {
        let (ssh, database) = broker.rotate(ADDON, &key, asked).await.unwrap();
        assert_eq!(ssh.generation, Generation(2));
        assert_eq!(database.generation, Generation(2));
    }
    assert_eq!(
        (world.server.asked(SSH), world.server.asked(DATABASE)),
        (2, 2)
    );
    let (_, next) = broker.rotate(ADDON, &key, Clock::now()).await.unwrap();
    assert_eq!(next.generation, Generation(3));
    world.end().await;
}

#[tokio::test]
async fn what_is_due_is_checked_by_one_and_renewed_with_one_grant() {
    let world = World::new().await;
    let (broker, key) = (&world.broker, read_only());
    tokio::try_join!(broker.ssh(ADDON, None), broker.database(&key, None)).unwrap();
    let mut due: Vec<_> = (0..25).map(|_| broker.watch_due_database(&key)).collect();
    world.rotate_every(Duration::from_millis(1)).await;
    due[0]
        .wait_for(|due| *due == Some(Generation(1)))
        .await
        .unwrap();
    let checks: Vec<_> = (0..25)
        .filter_map(|_| broker.begin_check_database(&key))
        .collect();
    let [check] = checks.try_into().unwrap();
    assert!(due.iter().all(|due| due.borrow().is_none()));
    // The next one is due in an hour.
    world.rotate_every(Duration::ZERO).await;
    let made = world.server.asked(MAKE);
    let lease = broker.renew_due_database(&key, ADDON, check).await.unwrap();
    assert_eq!(lease.generation, Generation(2));
    assert!(world.server.asked(MAKE) <= made + 1);
    world.end().await;
}

#[tokio::test]
async fn what_somebody_has_taken_away_is_due_no_more() {
    let world = World::new().await;
    let (broker, key) = (&world.broker, read_only());
    let lease = broker.database(&key, None).await.unwrap();
    broker.database_took(&key, lease.generation);
    let mut due = broker.watch_due_database(&key);
    world.rotate_every(Duration::from_millis(1)).await;
    due.wait_for(Option::is_some).await.unwrap();
    let check = broker.begin_check_database(&key).unwrap();
    broker.database_refused(&key, check.generation, &refused());
    check.settle();
    assert_eq!(
        broker.taken_away(&key).unwrap().generation,
        lease.generation
    );
    assert!(broker.begin_check_database(&key).is_none());
    // A client brings the next.
    assert_eq!(world.read_only(None).await.as_deref(), Ok("secret-ro-2"));
    assert!(broker.taken_away(&key).is_none());
    world.end().await;
}

#[tokio::test]
async fn a_target_is_looked_up_again_by_one_call_and_followed() {
    let world = World::new().await;
    let target = Target::App("sushi".into());
    let known = world.resolve(target.clone()).await.unwrap();
    let calls = || world.server.asked("GET /apps/sushi/addons");
    let before = (
        calls(),
        world.server.asked("GET /addons/id-1/addon-attachments"),
    );
    let look = || world.broker.look_again_for_user(&target, &known);
    assert_eq!(look().await, Ok(known.clone()));
    assert_eq!(
        (
            calls(),
            world.server.asked("GET /addons/id-1/addon-attachments")
        ),
        (before.0 + 1, before.1)
    );
    // Elsewhere before: it leads here now.
    let elsewhere = Resolved {
        addon_id: "id-7".into(),
        addon: "borealis-pg-hex-7".into(),
        ..known.clone()
    };
    let moved = world.broker.look_again_for_user(&target, &elsewhere).await;
    assert_eq!(moved, Ok(known.clone()));
    // An API that is away changes nothing, and an app that is gone is an error.
    let away = [refuse(503), refuse(503), refuse(503), refuse(503)];
    world.first("GET /apps/sushi/addons", away);
    assert_eq!(look().await, Ok(known.clone()));
    let gone = Target::App("gone-app".into());
    let outcome = world.broker.look_again_for_user(&gone, &known).await;
    assert!(
        matches!(outcome, Err(Cause::AppNotFound { .. })),
        "{outcome:?}"
    );
    world.end().await;
}

#[tokio::test]
async fn a_session_keeps_its_name_where_its_app_may_not_be_looked_into() {
    let world = World::new().await;
    let maroon = Target::AppAddon {
        app: "ramen".into(),
        addon: "MAROON".into(),
    };
    let known = world.resolve(maroon.clone()).await.unwrap();
    assert!(known.ambiguous_in_app);
    for status in [403, 404] {
        world.first("GET /apps/ramen/addons", [refuse(status)]);
        assert_eq!(world.resolve(maroon.clone()).await, Ok(known.clone()));
    }
    // Nothing is guessed.
    let hidden = Target::AppAddon {
        app: "hidden".into(),
        addon: ADDON.into(),
    };
    let outcome = world.resolve(hidden).await;
    let refused = matches!(outcome, Err(Cause::ProviderRefused { status: 403, .. }));
    assert!(refused, "{outcome:?}");
    world.end().await;
}
