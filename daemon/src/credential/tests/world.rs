//! A provider that keeps books: which grants are alive, who was let in, how often what was
//! asked. And a broker that knows it.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::Semaphore;

use super::read_only;
use crate::{
    credential::{Broker, BrokerSettings, TokenSource, TokenSources},
    model::{Cause, Generation, Resolved, Target},
    provider::testing::{Reply, Request, Server, limits},
};

pub(super) const ADDON: &str = "borealis-pg-hex-1";
pub(super) const MAKE: &str = "POST /oauth/authorizations";
pub(super) const REMOVE: &str = "DELETE /oauth/authorizations/";
pub(super) const DATABASE: &str = "POST /heroku/resources/borealis-pg-hex-1/personal-db-users";
pub(super) const SSH: &str = "POST /heroku/resources/borealis-pg-hex-1/personal-ssh-users";
pub(super) const ENOUGH: Duration = Duration::from_secs(10);

pub(super) struct World {
    pub(super) server: Server,
    pub(super) books: Arc<Mutex<Books>>,
    pub(super) broker: Arc<Broker>,
    pub(super) netrc: PathBuf,
    _dir: TempDir,
}

#[derive(Default)]
pub(super) struct Books {
    pub(super) token: String,
    pub(super) made: usize,
    alive: HashSet<String>,
    passwords: usize,
    /// Replies that a request's line gets before its usual one.
    first: HashMap<String, VecDeque<Step>>,
}

#[derive(Clone)]
pub(super) enum Step {
    /// This reply, and nothing is done.
    Instead(Reply),
    /// What is usual is done, but the answer is this one.
    Lost(Reply),
    /// As usual, but not before this lets it.
    Behind(Arc<Semaphore>),
}

// === impl World ===

impl World {
    pub(super) async fn new() -> Self {
        Self::with_attempts_of(ENOUGH).await
    }

    pub(super) async fn with_attempts_of(attempt: Duration) -> Self {
        let books = Arc::new(Mutex::new(Books {
            token: "HRKU-1".into(),
            ..Books::default()
        }));
        let for_server = Arc::clone(&books);
        let server = Server::start(move |request| reply(Arc::clone(&for_server), request)).await;
        let dir = tempfile::tempdir().unwrap();
        let netrc = dir.path().join("netrc");
        let settings = settings(&netrc, Duration::from_secs(3600));
        let world = Self {
            broker: Broker::new(server.provider(limits(attempt)), settings),
            server,
            books,
            netrc,
            _dir: dir,
        };
        world.log_in("HRKU-1");
        world
    }

    /// Gives what is held, and what comes, another time of renewal.
    pub(super) async fn rotate_every(&self, interval: Duration) {
        let settings = settings(&self.netrc, interval);
        self.broker.reload(settings).await.unwrap();
    }

    /// Writes another netrc file in the place of the one before.
    pub(super) fn log_in(&self, token: &str) {
        let new = self.netrc.with_extension("new");
        fs::write(&new, format!("machine 127.0.0.1 password {token}")).unwrap();
        fs::rename(new, &self.netrc).unwrap();
    }

    pub(super) fn first(&self, line: &str, steps: impl IntoIterator<Item = Step>) {
        let mut books = self.books.lock().unwrap();
        books.first.entry(line.into()).or_default().extend(steps);
    }

    pub(super) fn gate(&self, line: &str) -> Arc<Semaphore> {
        let gate = Arc::new(Semaphore::new(0));
        self.first(line, [Step::Behind(Arc::clone(&gate))]);
        gate
    }

    /// Drains the broker; every grant made must be gone, and each by one removal.
    pub(super) async fn end(self) {
        self.broker.drain(ENOUGH).await;
        let books = self.books.lock().unwrap();
        assert!(books.alive.is_empty(), "left: {:?}", books.alive);
        assert!(self.server.asked(REMOVE) >= books.made);
    }

    pub(super) async fn read_only(&self, after: Option<u64>) -> Result<String, Cause> {
        let lease = self
            .broker
            .database(&read_only(), after.map(Generation))
            .await?;
        Ok(lease.credential.password.expose_secret().to_owned())
    }

    pub(super) async fn resolve(&self, target: Target) -> Result<Resolved, Cause> {
        self.broker.resolve(&target).await
    }
}

fn settings(netrc: &Path, interval: Duration) -> BrokerSettings {
    let place = TokenSource::Netrc {
        file: netrc.to_owned(),
        machine: "127.0.0.1".into(),
    };
    BrokerSettings {
        tokens: TokenSources::from_places(vec![place]),
        rotation: interval.into(),
    }
}

async fn reply(books: Arc<Mutex<Books>>, request: Request) -> Reply {
    let step = {
        let mut books = books.lock().unwrap();
        let steps = books.first.get_mut(&request.line);
        steps.and_then(VecDeque::pop_front)
    };
    match step {
        Some(Step::Instead(reply)) => return reply,
        Some(Step::Lost(reply)) => {
            let _ = books.lock().unwrap().usual(&request);
            return reply;
        }
        Some(Step::Behind(gate)) => gate.acquire().await.unwrap().forget(),
        None => {}
    }
    books.lock().unwrap().usual(&request)
}

// === impl Books ===

impl Books {
    fn usual(&mut self, request: &Request) -> Reply {
        let bearer = request.header("authorization").unwrap();
        let bearer = bearer.strip_prefix("Bearer ").unwrap();
        if let Some(path) = request.line.split_once("/heroku/resources/") {
            let grant = bearer.strip_prefix("secret-").unwrap_or_default();
            if !self.alive.contains(grant) {
                return Reply::status(401);
            }
            return self.addon(path.1, &request.body);
        }
        if bearer != self.token {
            return Reply::status(401);
        }
        if request.line == MAKE {
            self.made += 1;
            let id = format!("grant-{}", self.made);
            assert_eq!(request.body["expires_in"], 180);
            assert_eq!(request.body["scope"], json!(["read", "identity"]));
            self.alive.insert(id.clone());
            let token = format!("secret-{id}");
            return Reply::json(
                201,
                &json!({ "id": id, "access_token": { "token": token } }),
            );
        }
        if let Some(id) = request.line.strip_prefix(REMOVE) {
            let removed = self.alive.remove(id);
            return Reply::status(if removed { 200 } else { 404 });
        }
        heroku(request)
    }

    fn addon(&mut self, path: &str, body: &Value) -> Reply {
        match path.split_once('/').unwrap().1 {
            "personal-ssh-users" => Reply::json(
                200,
                &json!({ "sshHost": "b", "sshUsername": "s", "sshPrivateKey": "secret-key", "publicSshHostKey": "ssh-ed25519 AAAA" }),
            ),
            "personal-db-users" => {
                self.passwords += 1;
                let side = if body["enableWriteAccess"] == true {
                    "rw"
                } else {
                    "ro"
                };
                Reply::json(
                    200,
                    &json!({ "dbHost": "h", "dbName": "d", "dbUsername": side, "dbPassword": format!("secret-{side}-{}", self.passwords) }),
                )
            }
            _ => Reply::status(404),
        }
    }
}

fn heroku(request: &Request) -> Reply {
    let addon = |n: u32, service: &str, app: &str| {
        json!({ "id": format!("id-{n}"), "name": format!("{service}-hex-{n}"), "addon_service": { "name": service },
            "plan": { "name": "p" }, "app": { "name": app }, "state": "provisioned" })
    };
    let attachment = |n: u32, name: &str, app: &str| {
        json!({ "id": "x", "name": name, "addon": { "id": format!("id-{n}"), "name": format!("borealis-pg-hex-{n}"), "app": {} },
            "app": { "id": format!("app-{app}"), "name": app } })
    };
    let ours = "borealis-pg";
    match request.line.as_str() {
        "GET /apps/sushi/addons" | "GET /apps/app-sushi/addons" => Reply::json(
            200,
            &json!([addon(1, ours, "sushi"), addon(9, "redis", "sushi")]),
        ),
        "GET /apps/ramen/addons" => Reply::json(
            200,
            &json!([addon(2, ours, "ramen"), addon(3, ours, "ramen")]),
        ),
        "GET /apps/bare/addons" => Reply::json(200, &json!([])),
        "GET /apps/soup/addons" => Reply::json(200, &json!([addon(9, "redis", "soup")])),
        "GET /apps/hidden/addons" => Reply::status(403),
        "GET /addons/id-1/addon-attachments" => Reply::json(
            200,
            &json!([
                attachment(1, "OTHER", "elsewhere"),
                attachment(1, "DATABASE", "sushi")
            ]),
        ),
        "GET /addons/id-2/addon-attachments" => {
            Reply::json(200, &json!([attachment(2, "MAROON", "ramen")]))
        }
        "GET /addons/id-3/addon-attachments" => {
            Reply::json(200, &json!([attachment(3, "CYAN", "ramen")]))
        }
        "GET /addons/id-1" => Reply::json(200, &addon(1, ours, "sushi")),
        "GET /addons/id-2" => Reply::json(200, &addon(2, ours, "ramen")),
        "GET /addons/id-9" => Reply::json(200, &addon(9, "redis", "soup")),
        "POST /actions/addon-attachments/resolve" => {
            let word = request.body["addon_attachment"].as_str().unwrap();
            match (word, request.body["app"].as_str()) {
                ("borealis-pg-hex-1", None) => Reply::json(
                    200,
                    &json!([
                        attachment(1, "DATABASE", "sushi"),
                        attachment(1, "OTHER", "elsewhere")
                    ]),
                ),
                ("borealis-pg-hex-2" | "MAROON", None | Some("ramen"))
                    if word != "MAROON" || request.body["app"] == "ramen" =>
                {
                    Reply::json(200, &json!([attachment(2, "MAROON", "ramen")]))
                }
                ("borealis-pg-hex-1", Some("hidden")) => Reply::json(
                    200,
                    &json!([
                        attachment(1, "DATABASE", "sushi"),
                        attachment(1, "SEEN", "hidden")
                    ]),
                ),
                ("redis-hex-9", _) => Reply::json(200, &json!([attachment(9, "REDIS", "soup")])),
                ("nothing-fits", _) => Reply::json(200, &json!([])),
                (_, Some("gone")) => Reply::json(
                    404,
                    &json!({ "id": "not_found", "resource": "app", "message": "Couldn't find that app." }),
                ),
                _ => Reply::status(404),
            }
        }
        "GET /apps/sushi/config-vars" => Reply::json(
            200,
            &json!({
                "DATABASE_TUNNEL_BPG_CONN_INFO": "POSTGRES_READER_HOST:=r|POSTGRES_DB_NAME:=d|POSTGRES_READER_USERNAME:=app|POSTGRES_READER_PASSWORD:=secret",
                "OLD_SSH_TUNNEL_BPG_CONNECTION_INFO": "POSTGRES_READER_HOST:=old|POSTGRES_DB_NAME:=d|POSTGRES_READER_USERNAME:=app|POSTGRES_READER_PASSWORD:=secret",
                "BAD_TUNNEL_BPG_CONN_INFO": "secret",
                "NUMBER": 1, "NOTHING": null, "PORT": "80",
            }),
        ),
        "GET /account" => Reply::json(200, &json!({ "email": "me@x.test" })),
        _ => Reply::status(404),
    }
}
