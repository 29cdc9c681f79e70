//! The commands against a provider that answers as it is told.

use std::{
    collections::{HashMap, VecDeque},
    fs,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::{
    extensions::{self, Dependencies, Progress},
    info::{self, News, Pace},
    integrations,
    restore::{self, Again, Created, Request, Started},
    upgrade, users,
};
use crate::{
    credential::{Broker, BrokerSettings, RotationInterval, TokenSource, TokenSources},
    model::{Access, Cause, Class, Resolved, Target},
    provider::{
        testing::{Reply, Server, limits},
        wire::addon::NewIntegration,
    },
};

const ADDON: &str = "borealis-pg-hex-1";
const EXTENSIONS: &str = "/heroku/resources/borealis-pg-hex-1/pg-extensions";
const INFO: &str = "GET /heroku/resources/borealis-pg-hex-1";
const ENOUGH: Duration = Duration::from_secs(10);
const PACE: Pace = Pace {
    heroku: Duration::from_millis(1),
    provider_first: Duration::from_millis(1),
    provider_longest: Duration::from_millis(2),
};

/// Replies by request line, the last of each again and again. Authorizations always work.
struct World {
    server: Server,
    broker: Arc<Broker>,
    replies: Arc<Mutex<HashMap<String, VecDeque<Reply>>>>,
    _dir: TempDir,
}

// === impl World ===

impl World {
    async fn new() -> Self {
        let replies: Arc<Mutex<HashMap<String, VecDeque<Reply>>>> = Arc::default();
        let for_server = Arc::clone(&replies);
        let server = Server::start(move |request| {
            let reply = match request.line.as_str() {
                "POST /oauth/authorizations" => Reply::json(
                    201,
                    &json!({ "id": "g", "access_token": { "token": "secret-grant" } }),
                ),
                "DELETE /oauth/authorizations/g" => Reply::status(200),
                line => {
                    let token = if line.contains("/heroku/resources/") {
                        "Bearer secret-grant"
                    } else {
                        "Bearer HRKU-1"
                    };
                    assert_eq!(request.header("authorization"), Some(token), "{line}");
                    next(&for_server, line)
                }
            };
            std::future::ready(reply)
        })
        .await;
        let dir = tempfile::tempdir().unwrap();
        let netrc = dir.path().join("netrc");
        fs::write(&netrc, "machine 127.0.0.1 password HRKU-1").unwrap();
        let settings = BrokerSettings {
            tokens: TokenSources::from_places(vec![TokenSource::Netrc {
                file: netrc,
                machine: "127.0.0.1".into(),
            }]),
            rotation: RotationInterval::Never,
        };
        Self {
            broker: Broker::new(server.provider(limits(ENOUGH)), settings),
            server,
            replies,
            _dir: dir,
        }
    }

    fn on(&self, line: &str, replies: impl IntoIterator<Item = Reply>) {
        let replies = replies.into_iter().collect();
        self.replies.lock().unwrap().insert(line.into(), replies);
    }

    /// Installs one and tells of each step.
    async fn install(
        &self,
        extension: &str,
        dependencies: Dependencies,
    ) -> (Vec<String>, Result<(), Cause>) {
        let (steps, mut told) = mpsc::channel(100);
        let outcome =
            extensions::install(&self.broker, ADDON, extension, dependencies, &steps).await;
        drop(steps);
        let mut list = Vec::new();
        while let Some(step) = told.recv().await {
            list.push(match step.unwrap() {
                Progress::Started(name) => format!("? {name}"),
                Progress::Installed(e) => format!("+ {} {}", e.name, e.version.unwrap()),
                Progress::Present(name) => format!("= {name}"),
            });
        }
        (list, outcome)
    }

    async fn follow(&self) -> (Vec<News>, Result<(), Cause>) {
        let (news, mut told) = mpsc::channel(100);
        let outcome = info::follow(&self.broker, ADDON, PACE, &news).await;
        drop(news);
        let mut list = Vec::new();
        while let Some(news) = told.recv().await {
            list.push(news.unwrap());
        }
        (list, outcome)
    }

    /// As the control API does it.
    async fn restore(
        &self,
        started: &Started,
        request: Request,
        again: Again,
    ) -> Result<restore::Execution, Cause> {
        let target = Target::Word("sushi".into());
        let source = Resolved {
            addon_id: "id".into(),
            addon: ADDON.into(),
            app: "sushi".into(),
            attachment: "DATABASE".into(),
            ambiguous_in_app: false,
        };
        if again == Again::Join {
            let joined = restore::join(&self.broker, started, &target, &request).await?;
            if let Some((joined, execution)) = joined {
                assert_eq!(joined, source);
                return Ok(execution);
            }
        }
        restore::execute(&self.broker, started, target, source, request, again).await
    }

    fn body(&self, line: &str) -> Value {
        let seen = self.server.seen();
        let request = seen.iter().rev().find(|request| request.line == line);
        request.unwrap().body.clone()
    }
}

fn next(replies: &Mutex<HashMap<String, VecDeque<Reply>>>, line: &str) -> Reply {
    let mut replies = replies.lock().unwrap();
    let Some(queue) = replies.get_mut(line) else {
        return Reply::status(404);
    };
    match queue.len() {
        1 => queue[0].clone(),
        _ => queue.pop_front().unwrap(),
    }
}

fn reason(status: u16) -> Reply {
    Reply::json(status, &json!({ "reason": "the provider's words" }))
}

fn needs(dependencies: &[&str]) -> Reply {
    Reply::json(400, &json!({ "reason": "x", "dependencies": dependencies }))
}

fn installed() -> Reply {
    Reply::json(
        201,
        &json!({ "pgExtensionSchema": "s", "pgExtensionVersion": "1.0" }),
    )
}

fn post() -> String {
    format!("POST {EXTENSIONS}")
}

/// A failed call's code and class.
fn told<T: std::fmt::Debug>(outcome: Result<T, Cause>) -> (&'static str, Class) {
    let cause = outcome.unwrap_err();
    let (kind, words) = (cause.kind(), cause.words());
    assert!(!words.hint.is_empty(), "{}", kind.code);
    (kind.code, kind.class)
}

const SHARED: [(u16, &str, Class); 4] = [
    (404, "other-service", Class::NotFound),
    (422, "provisioning", Class::Unavailable),
    (423, "upgrading", Class::Unavailable),
    (418, "provider-unavailable", Class::Operation),
];

/// Asks with each status and compares what is told, the shared statuses included.
async fn check<T: std::fmt::Debug>(
    line: &str,
    ask: impl AsyncFn(&World) -> Result<T, Cause>,
    own: &[(u16, &'static str, Class)],
) {
    let world = World::new().await;
    let shared = SHARED
        .iter()
        .filter(|(status, ..)| !own.iter().any(|(other, ..)| status == other));
    for (status, code, class) in own.iter().chain(shared) {
        world.on(line, [reason(*status)]);
        assert_eq!(told(ask(&world).await), (*code, *class), "{line} {status}");
    }
    let calls = world.server.asked(line);
    assert_eq!(
        calls,
        own.len() + SHARED.len()
            - own
                .iter()
                .filter(|(s, ..)| SHARED.iter().any(|(o, ..)| s == o))
                .count()
    );
}

/// A call that changes something is not made again where it may have got through.
async fn check_once<T: std::fmt::Debug>(line: &str, ask: impl AsyncFn(&World) -> Result<T, Cause>) {
    for lost in [Reply::Drop, Reply::status(502), Reply::Cut("{".into())] {
        let world = World::new().await;
        world.on(line, [lost]);
        if let Ok(()) = ask(&world).await.map(drop) {
            // Where nothing of the body is needed, a part of it will do.
            assert!(line.starts_with("DELETE"));
            continue;
        }
        assert_eq!(
            told(ask(&world).await),
            ("outcome-unknown", Class::Operation),
            "{line}"
        );
        assert_eq!(world.server.asked(line), 2, "{line}: once for each");
    }
}

#[tokio::test]
async fn statuses_of_the_lists() {
    let base = "GET /heroku/resources/borealis-pg-hex-1";
    let revoked = [(403, "access-revoked", Class::Unavailable)];
    check(base, async |w| info::get(&w.broker, ADDON).await, &revoked).await;
    check(
        &format!("GET {EXTENSIONS}"),
        async |w| extensions::list(&w.broker, ADDON).await,
        &revoked,
    )
    .await;
    check(
        &format!("{base}/db-users"),
        async |w| users::list(&w.broker, ADDON).await,
        &revoked,
    )
    .await;
    check(
        &format!("{base}/data-integrations"),
        async |w| integrations::list(&w.broker, ADDON).await,
        &revoked,
    )
    .await;
    check(
        &format!("{base}/restore-capabilities"),
        async |w| restore::capabilities(&w.broker, ADDON).await,
        &revoked,
    )
    .await;
    check(
        &format!("{base}/pg-version-upgrades"),
        async |w| upgrade::get(&w.broker, ADDON).await,
        &revoked,
    )
    .await;
}

#[tokio::test]
async fn statuses_of_installing() {
    let line = post();
    let ask = async |w: &World| w.install("a", Dependencies::Install).await.1;
    check(
        &line,
        ask,
        &[
            (400, "extension-unsupported", Class::Operation),
            (403, "access-revoked", Class::Unavailable),
            (409, "extension-exists", Class::Operation),
        ],
    )
    .await;
    check_once(&line, ask).await;
}

#[tokio::test]
async fn missing_dependencies_are_named_unless_they_are_to_be_installed() {
    let world = World::new().await;
    world.on(&post(), [needs(&["cube", "hstore"])]);
    let (steps, outcome) = world.install("earthdistance", Dependencies::Report).await;
    assert_eq!(steps, ["? earthdistance"]);
    let words = outcome.unwrap_err().words();
    assert_eq!(
        words.sentence,
        "extension earthdistance has one or more unsatisfied dependencies; all of its dependencies must be installed: cube, hstore"
    );
    assert!(words.hint.contains("--recursive"), "{}", words.hint);
}

#[tokio::test]
async fn dependencies_come_first() {
    let world = World::new().await;
    world.on(
        &post(),
        [
            needs(&["b", "c"]),
            needs(&["d"]),
            installed(),
            installed(),
            Reply::status(409),
            installed(),
        ],
    );
    let (steps, outcome) = world.install("a", Dependencies::Install).await;
    outcome.unwrap();
    assert_eq!(
        steps,
        [
            "? a", "? b", "? d", "+ d 1.0", "? b", "+ b 1.0", "? c", "= c", "? a", "+ a 1.0"
        ]
    );
    assert_eq!(world.body(&post()), json!({ "pgExtensionName": "a" }));
    // One authorization for the whole.
    assert_eq!(world.server.asked("POST /oauth"), 1);
}

#[tokio::test]
async fn a_cycle_is_told_and_not_run_around() {
    let world = World::new().await;
    world.on(&post(), [needs(&["b"]), needs(&["a"])]);
    let (_, outcome) = world.install("a", Dependencies::Install).await;
    let cause = outcome.unwrap_err();
    let (kind, words) = (cause.kind(), cause.words());
    assert_eq!(kind.code, "extension-cycle");
    assert!(words.sentence.ends_with(": a, b"), "{}", words.sentence);
    assert_eq!(world.server.asked(&post()), 2);
}

#[tokio::test]
async fn after_a_lost_answer_the_list_tells() {
    let world = World::new().await;
    world.on(&post(), [Reply::Drop]);
    let list = json!({ "extensions": [{ "name": "a", "schema": "s", "version": "2" }] });
    world.on(&format!("GET {EXTENSIONS}"), [Reply::json(200, &list)]);
    let (steps, outcome) = world.install("a", Dependencies::Report).await;
    assert_eq!(
        (outcome, steps),
        (Ok(()), vec!["? a".into(), "+ a 2".into()])
    );
    let (_, outcome) = world.install("other", Dependencies::Report).await;
    let cause = outcome.unwrap_err();
    let (kind, words) = (cause.kind(), cause.words());
    assert_eq!(kind.code, "outcome-unknown");
    assert_eq!(
        words.hint,
        "see `borealisctl extensions borealis-pg-hex-1` before asking again"
    );
    assert_eq!(world.server.asked(&post()), 2);
}

#[tokio::test]
async fn what_was_turned_away_at_the_door_is_asked_again() {
    let world = World::new().await;
    world.on(&post(), [Reply::status(429), installed()]);
    let (_, outcome) = world.install("a", Dependencies::Report).await;
    assert_eq!((outcome, world.server.asked(&post())), (Ok(()), 2));
}

#[tokio::test]
async fn nobody_waits_so_nothing_further_is_installed() {
    let world = World::new().await;
    let (steps, told) = mpsc::channel(1);
    drop(told);
    extensions::install(&world.broker, ADDON, "a", Dependencies::Install, &steps)
        .await
        .unwrap();
    assert_eq!(world.server.asked(&post()), 0);
}

#[tokio::test]
async fn statuses_of_removing() {
    let line = format!("DELETE {EXTENSIONS}/uuid-ossp");
    let ask = async |w: &World| extensions::remove(&w.broker, ADDON, "uuid-ossp").await;
    check(
        &line,
        ask,
        &[
            (400, "extension-dependents", Class::Operation),
            (403, "access-revoked", Class::Unavailable),
            (404, "extension-not-installed", Class::Operation),
        ],
    )
    .await;
    check_once(&line, ask).await;
    let world = World::new().await;
    world.on(
        &line,
        [Reply::json(404, &json!({ "resourceType": "addon" }))],
    );
    assert_eq!(told(ask(&world).await).0, "other-service");
}

#[tokio::test]
async fn a_name_stays_one_segment() {
    let world = World::new().await;
    let line = format!("DELETE {EXTENSIONS}/a%2F..%3Fb%20%25");
    world.on(&line, [Reply::status(200)]);
    extensions::remove(&world.broker, ADDON, "a/..?b %")
        .await
        .unwrap();
    assert_eq!(
        told(extensions::remove(&world.broker, ADDON, "..").await).0,
        "extension-not-installed"
    );
}

#[tokio::test]
async fn statuses_of_a_reset() {
    let line = "DELETE /heroku/resources/borealis-pg-hex-1/db-users/credentials";
    let ask = async |w: &World| users::reset(&w.broker, ADDON).await;
    check(
        line,
        ask,
        &[
            (400, "maintenance", Class::Operation),
            (403, "write-access-revoked", Class::Unavailable),
        ],
    )
    .await;
    check_once(line, ask).await;
}

#[tokio::test]
async fn statuses_of_integrations() {
    let line = "POST /heroku/resources/borealis-pg-hex-1/data-integrations";
    let new = NewIntegration {
        name: "etl",
        ssh_public_key: "ssh-ed25519 AAAA me",
        access: Access::ReadWrite,
    };
    let ask = async |w: &World| integrations::register(&w.broker, ADDON, new).await;
    check(
        line,
        ask,
        &[
            (400, "integration-invalid", Class::Operation),
            (403, "write-access-revoked", Class::Unavailable),
            (409, "integration-name-taken", Class::Operation),
        ],
    )
    .await;
    check_once(line, ask).await;
    let world = World::new().await;
    world.on(line, [reason(400)]);
    let sentence = ask(&world).await.unwrap_err().words().sentence;
    assert!(sentence.ends_with(": the provider's words"), "{sentence}");
    assert_eq!(
        world.body(line),
        json!({ "integrationName": "etl", "sshPublicKey": "ssh-ed25519 AAAA me", "enableWriteAccess": true })
    );

    let line = "DELETE /heroku/resources/borealis-pg-hex-1/data-integrations/etl";
    let ask = async |w: &World| integrations::remove(&w.broker, ADDON, "etl").await;
    check(
        line,
        ask,
        &[
            (403, "write-access-revoked", Class::Unavailable),
            (404, "integration-not-found", Class::Operation),
        ],
    )
    .await;
    check_once(line, ask).await;
}

#[tokio::test]
async fn statuses_of_upgrades() {
    let line = "POST /heroku/resources/borealis-pg-hex-1/pg-version-upgrades";
    let ask = async |w: &World| upgrade::execute(&w.broker, ADDON).await;
    check(
        line,
        ask,
        &[
            (400, "upgrade-impossible", Class::Operation),
            (403, "write-access-revoked", Class::Unavailable),
            (409, "maintenance", Class::Operation),
        ],
    )
    .await;
    check_once(line, ask).await;
    let line = "DELETE /heroku/resources/borealis-pg-hex-1/pg-version-upgrades/current";
    let ask = async |w: &World| upgrade::cancel(&w.broker, ADDON).await;
    check(line, ask, &[(400, "no-upgrade", Class::Operation)]).await;
    check_once(line, ask).await;
}

// --- restore ---

const CREATE: &str = "POST /apps/ramen/addons";

fn to_ramen() -> Request {
    Request {
        attachment: Some("COPY".into()),
        destination_app: Some("ramen".into()),
        plan: Some("x2".into()),
        restore_to: Some("2026-11-22T14:15:00Z".parse().unwrap()),
    }
}

fn heroku_addon(name: &str, app: &str, state: &str) -> Value {
    json!({ "id": format!("id-{name}"), "name": name, "addon_service": { "name": "borealis-pg" },
        "plan": { "name": "borealis-pg:x1" }, "app": { "name": app }, "state": state })
}

/// A world in which a restore works.
async fn restorable() -> World {
    let world = World::new().await;
    let line = format!("GET /addons/{ADDON}");
    world.on(
        &line,
        [Reply::json(
            200,
            &heroku_addon(ADDON, "sushi", "provisioned"),
        )],
    );
    let token = json!({ "restoreToken": "secret-restore" });
    let line = "POST /heroku/resources/borealis-pg-hex-1/restore-tokens";
    world.on(line, [Reply::json(201, &token)]);
    world.on("GET /apps/ramen/addons", [Reply::json(200, &json!([]))]);
    let new = heroku_addon("borealis-pg-new-2", "ramen", "provisioning");
    world.on(CREATE, [Reply::json(201, &new)]);
    world.on("GET /addons/borealis-pg-new-2", [Reply::json(200, &new)]);
    world
}

#[tokio::test]
async fn what_the_source_decides_is_filled_in() {
    let world = restorable().await;
    let new = heroku_addon("borealis-pg-new-2", "sushi", "provisioning");
    world.on("POST /apps/sushi/addons", [Reply::json(201, &new)]);
    let request = Request {
        attachment: None,
        destination_app: None,
        plan: None,
        restore_to: None,
    };
    let started = Started::default();
    let execution = world.restore(&started, request, Again::Start).await;
    let execution = execution.unwrap();
    assert_eq!(execution.addon, "borealis-pg-new-2");
    assert_eq!(
        world.body("POST /apps/sushi/addons"),
        json!({ "plan": "borealis-pg:x1", "config": { "restore-token": "secret-restore" } })
    );
    world
        .restore(&Started::default(), to_ramen(), Again::Start)
        .await
        .unwrap();
    assert_eq!(
        world.body(CREATE),
        json!({ "plan": "borealis-pg:x2", "attachment": { "name": "COPY" },
            "config": { "restore-token": "secret-restore", "restore-to-time": "2026-11-22T14:15:00Z" } })
    );
}

#[tokio::test]
async fn who_asks_again_and_waits_gets_the_same_one() {
    let world = restorable().await;
    let started = Started::default();
    let first = world
        .restore(&started, to_ramen(), Again::Join)
        .await
        .unwrap();
    let second = world
        .restore(&started, to_ramen(), Again::Join)
        .await
        .unwrap();
    assert_eq!(
        (first.created, second.created),
        (Created::Now, Created::Before)
    );
    assert_eq!(first.addon, second.addon);
    assert_eq!(world.server.asked(CREATE), 1);

    // Another time is another restore, and so is one that nobody waits for.
    let other = Request {
        restore_to: None,
        ..to_ramen()
    };
    world.restore(&started, other, Again::Join).await.unwrap();
    world
        .restore(&started, to_ramen(), Again::Start)
        .await
        .unwrap();
    assert_eq!(world.server.asked(CREATE), 3);

    // Seen to its end, or gone: the next is a new one.
    started.forget("borealis-pg-new-2");
    world
        .restore(&started, to_ramen(), Again::Join)
        .await
        .unwrap();
    world.on("GET /addons/borealis-pg-new-2", [Reply::status(404)]);
    world
        .restore(&started, to_ramen(), Again::Join)
        .await
        .unwrap();
    assert_eq!(world.server.asked(CREATE), 5);
}

#[tokio::test]
async fn a_restore_that_the_daemon_does_not_remember_is_found() {
    let world = restorable().await;
    let addons = json!([
        heroku_addon("borealis-pg-old-9", "ramen", "provisioned"),
        heroku_addon("borealis-pg-new-2", "ramen", "provisioning"),
    ]);
    world.on("GET /apps/ramen/addons", [Reply::json(200, &addons)]);
    let info = |status: &str, source: &str| {
        Reply::json(
            200,
            &json!({ "status": status, "restoreSourceAddonName": source }),
        )
    };
    world.on(
        "GET /heroku/resources/borealis-pg-old-9",
        [info("available", ADDON)],
    );
    world.on(
        "GET /heroku/resources/borealis-pg-new-2",
        [info("configuring", ADDON)],
    );
    let started = Started::default();
    let outcome = world.restore(&started, to_ramen(), Again::Join).await;
    let cause = outcome.unwrap_err();
    let (kind, words) = (cause.kind(), cause.words());
    assert_eq!(kind.code, "restore-under-way");
    assert!(
        words.hint.contains("info borealis-pg-new-2 --wait"),
        "{}",
        words.hint
    );
    assert_eq!(world.server.asked(CREATE), 0);

    world.on(
        "GET /heroku/resources/borealis-pg-new-2",
        [info("configuring", "another")],
    );
    world
        .restore(&started, to_ramen(), Again::Join)
        .await
        .unwrap();
}

#[tokio::test]
async fn statuses_of_a_restore() {
    let world = restorable().await;
    let ask = async || {
        let started = Started::default();
        told(world.restore(&started, to_ramen(), Again::Start).await)
    };
    let line = "POST /heroku/resources/borealis-pg-hex-1/restore-tokens";
    for (status, code, class) in [
        (400, "restore-impossible", Class::Operation),
        (403, "access-revoked", Class::Unavailable),
        (404, "other-service", Class::NotFound),
        (422, "provisioning", Class::Unavailable),
        (423, "upgrading", Class::Unavailable),
    ] {
        world.on(line, [reason(status)]);
        assert_eq!(ask().await, (code, class));
    }
    let token = json!({ "restoreToken": "secret-restore" });
    world.on(line, [Reply::json(201, &token)]);
    world.on(CREATE, [Reply::status(404)]);
    assert_eq!(ask().await.0, "app-not-found");
    world.on(CREATE, [Reply::status(401)]);
    assert_eq!(ask().await, ("token-refused", Class::Login));
    world.on(CREATE, [Reply::status(503)]);
    let before = world.server.asked(CREATE);
    let started = Started::default();
    let outcome = world.restore(&started, to_ramen(), Again::Join).await;
    assert_eq!(told(outcome).0, "outcome-unknown");
    assert_eq!(world.server.asked(CREATE), before + 1);
    let taken = json!({ "id": "invalid_params", "message": "Name COPY is already taken." });
    world.on(CREATE, [Reply::json(422, &taken)]);
    let outcome = world.restore(&started, to_ramen(), Again::Start).await;
    let words = outcome.unwrap_err().words();
    assert!(
        words.sentence.contains("Name COPY is already taken."),
        "{}",
        words.sentence
    );
}

// --- following ---

fn state(state: &str) -> Reply {
    Reply::json(200, &heroku_addon(ADDON, "sushi", state))
}

fn status(status: &str) -> Reply {
    Reply::json(200, &json!({ "status": status }))
}

#[tokio::test]
async fn an_add_on_is_followed_until_both_apis_are_content() {
    let world = World::new().await;
    world.on(
        &format!("GET /addons/{ADDON}"),
        [
            state("provisioning"),
            state("provisioning"),
            state("provisioned"),
        ],
    );
    world.on(
        INFO,
        [
            status("requested"),
            Reply::status(422),
            Reply::status(500),
            Reply::status(500),
            Reply::status(500),
            status("awaiting"),
            status("maintenance-of-a-new-kind"),
        ],
    );
    let (news, outcome) = world.follow().await;
    outcome.unwrap();
    let told: Vec<_> = news
        .iter()
        .map(|n| {
            (
                n.state.as_str(),
                n.status.as_str(),
                n.trouble.is_some(),
                n.done,
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("provisioning", "", false, false),
            ("provisioned", "requested", false, false),
            ("provisioned", "provisioning", false, false),
            ("provisioned", "provisioning", true, false),
            ("provisioned", "awaiting", false, false),
            ("provisioned", "maintenance-of-a-new-kind", false, true),
        ]
    );
}

#[tokio::test]
async fn a_cancelled_provisioning_is_told() {
    let heroku = format!("GET /addons/{ADDON}");
    let world = World::new().await;
    world.on(&heroku, [state("provisioning"), Reply::status(404)]);
    assert_eq!(told(world.follow().await.1).0, "provisioning-cancelled");
    world.on(&heroku, [state("deprovisioned")]);
    assert_eq!(told(world.follow().await.1).0, "provisioning-cancelled");
    world.on(&heroku, [state("provisioned")]);
    world.on(INFO, [Reply::status(404)]);
    assert_eq!(told(world.follow().await.1).0, "provisioning-cancelled");
    world.on(&heroku, [Reply::status(401)]);
    assert_eq!(
        told(world.follow().await.1),
        ("token-refused", Class::Login)
    );
}

#[tokio::test]
async fn following_ends_when_nobody_listens() {
    let world = World::new().await;
    world.on(&format!("GET /addons/{ADDON}"), [state("provisioning")]);
    let (news, mut told) = mpsc::channel(1);
    let pace = Pace {
        heroku: Duration::from_secs(3600),
        ..PACE
    };
    let (outcome, ()) = tokio::join!(info::follow(&world.broker, ADDON, pace, &news), async {
        told.recv().await.unwrap().unwrap();
        drop(told);
    });
    outcome.unwrap();
}
