//! A user's machine: asks the APIs, and goes through the bastion with OpenSSH's client.

use std::{os::unix::fs::OpenOptionsExt as _, process::Stdio};

use borealis_tests::sandbox::{BastionKind, Options, Sandbox};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio_postgres::NoTls;

pub(crate) const SUSHI: &str = "borealis-pg-hex-12345";

/// Starts a sandbox the fast way.
pub(crate) async fn sandbox(options: Options) -> Sandbox {
    let cache = Some(env!("CARGO_TARGET_TMPDIR").into());
    Sandbox::start(Options { cache, ..options }).await.unwrap()
}

pub(crate) async fn sandbox_with(bastion: BastionKind) -> Sandbox {
    sandbox(Options {
        bastion,
        ..Options::default()
    })
    .await
}

/// An answer that was read.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Value,
}

/// A machine with a user's token.
pub(crate) struct Machine {
    pub(crate) http: reqwest::Client,
    heroku: String,
    borealis: String,
    token: String,
}

#[derive(Debug, Clone)]
pub(crate) struct Ssh {
    pub(crate) host_key: String,
    pub(crate) port: u16,
    pub(crate) username: String,
    pub(crate) private_key: String,
}

#[derive(Debug, Clone)]
pub(crate) struct Database {
    pub(crate) port: u16,
    pub(crate) name: String,
    pub(crate) username: String,
    pub(crate) password: String,
}

/// A database connection through `ssh -W`.
pub(crate) struct Tunnelled {
    pub(crate) client: tokio_postgres::Client,
    pub(crate) ssh: Child,
    _files: TempDir,
}

impl Machine {
    pub(crate) fn new(sandbox: &Sandbox) -> Self {
        Self::with_token(sandbox, &sandbox.token())
    }

    pub(crate) fn with_token(sandbox: &Sandbox, token: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self {
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            heroku: sandbox.heroku_url(),
            borealis: sandbox.borealis_url(),
            token: token.to_owned(),
        }
    }

    pub(crate) fn heroku_request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http
            .request(method, format!("{}{path}", self.heroku))
            .header("Accept", "application/vnd.heroku+json; version=3")
            .bearer_auth(&self.token)
    }

    pub(crate) async fn heroku(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let mut request = self.heroku_request(method, path);
        if let Some(body) = body {
            request = request.json(&body);
        }
        read(request.send().await.unwrap()).await
    }

    /// Makes a short-lived authorization: its id and token.
    pub(crate) async fn grant(&self) -> (String, String) {
        let body = json!({"description": "test", "expires_in": 180, "scope": ["read", "identity"]});
        let answer = self
            .heroku(Method::POST, "/oauth/authorizations", Some(body))
            .await;
        assert_eq!(answer.status, 201, "{answer:?}");
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (
            text(&answer.body["id"]),
            text(&answer.body["access_token"]["token"]),
        )
    }

    /// One call of the Borealis API with that bearer.
    pub(crate) async fn borealis_as(
        &self,
        bearer: &str,
        method: Method,
        addon: &str,
        path: &str,
        body: Option<Value>,
    ) -> Answer {
        let url = format!("{}/heroku/resources/{addon}{path}", self.borealis);
        let mut request = self.http.request(method, url).bearer_auth(bearer);
        if let Some(body) = body {
            request = request.json(&body);
        }
        read(request.send().await.unwrap()).await
    }

    /// One call of the Borealis API with an authorization of its own, removed afterwards.
    pub(crate) async fn borealis(
        &self,
        method: Method,
        addon: &str,
        path: &str,
        body: Option<Value>,
    ) -> Answer {
        let (id, token) = self.grant().await;
        let answer = self.borealis_as(&token, method, addon, path, body).await;
        let removed = self
            .heroku(Method::DELETE, &format!("/oauth/authorizations/{id}"), None)
            .await;
        assert_eq!(removed.status, 200);
        answer
    }

    pub(crate) async fn ssh_user(&self, addon: &str) -> Ssh {
        let answer = self
            .borealis(Method::POST, addon, "/personal-ssh-users", None)
            .await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.body["sshHost"], "127.0.0.1");
        let text = |key: &str| answer.body[key].as_str().unwrap().to_owned();
        Ssh {
            host_key: text("publicSshHostKey"),
            port: answer.body["sshPort"].as_u64().unwrap().try_into().unwrap(),
            username: text("sshUsername"),
            private_key: text("sshPrivateKey"),
        }
    }

    pub(crate) async fn db_user(&self, addon: &str, write: bool) -> Database {
        let body = json!({"enableWriteAccess": write});
        let answer = self
            .borealis(Method::POST, addon, "/personal-db-users", Some(body))
            .await;
        assert_eq!(answer.status, 200, "{answer:?}");
        Database::from_json(&answer.body)
    }
}

impl Database {
    pub(crate) fn from_json(body: &Value) -> Self {
        assert_eq!(body["dbHost"], "127.0.0.1");
        let text = |key: &str| body[key].as_str().unwrap().to_owned();
        Self {
            port: body["dbPort"].as_u64().unwrap().try_into().unwrap(),
            name: text("dbName"),
            username: text("dbUsername"),
            password: text("dbPassword"),
        }
    }

    pub(crate) fn config(&self) -> tokio_postgres::Config {
        let mut config = tokio_postgres::Config::new();
        config
            .host("127.0.0.1")
            .port(self.port)
            .user(&self.username)
            .password(&self.password)
            .dbname(&self.name);
        config
    }

    /// Past the bastion.
    pub(crate) async fn connect(&self) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
        let (client, connection) = self.config().connect(NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }
}

impl Ssh {
    /// OpenSSH's client with nothing of this machine's configuration.
    pub(crate) fn command(&self, files: &TempDir) -> Command {
        let key = files.path().join("key");
        let known_hosts = files.path().join("known_hosts");
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&key)
            .unwrap();
        std::io::Write::write_all(&mut file, self.private_key.as_bytes()).unwrap();
        std::fs::write(
            &known_hosts,
            format!("[127.0.0.1]:{} {}\n", self.port, self.host_key),
        )
        .unwrap();
        let mut command = Command::new("ssh");
        command
            .args(["-F", "none", "-p", &self.port.to_string(), "-l"])
            .arg(&self.username)
            .arg("-i")
            .arg(key)
            .arg("-o")
            .arg(format!("UserKnownHostsFile={}", known_hosts.display()))
            .args(["-o", "GlobalKnownHostsFile=/dev/null"])
            .args(["-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes"])
            .args(["-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// What ssh says when it is refused.
    pub(crate) async fn refusal(&self, arguments: &[&str]) -> String {
        let files = tempfile::tempdir().unwrap();
        let output = self.command(&files).args(arguments).output().await.unwrap();
        assert!(!output.status.success(), "ssh {arguments:?} was let in");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    pub(crate) async fn connect(
        &self,
        database: &Database,
    ) -> Result<Tunnelled, tokio_postgres::Error> {
        let files = tempfile::tempdir().unwrap();
        let mut ssh = self
            .command(&files)
            .arg("-W")
            .arg(format!("127.0.0.1:{}", database.port))
            .arg("127.0.0.1")
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let stream = tokio::io::join(ssh.stdout.take().unwrap(), ssh.stdin.take().unwrap());
        let (client, connection) = database.config().connect_raw(stream, NoTls).await?;
        tokio::spawn(connection);
        Ok(Tunnelled {
            client,
            ssh,
            _files: files,
        })
    }
}

async fn read(response: Response) -> Answer {
    let status = response.status();
    let headers = response.headers().clone();
    let text = response.text().await.unwrap();
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    Answer {
        status,
        headers,
        body,
    }
}

/// The SQLSTATE of a refusal.
pub(crate) fn sqlstate<T>(result: Result<T, tokio_postgres::Error>) -> String {
    let error = result.err().expect("should have been refused");
    error.code().expect("no SQLSTATE").code().to_owned()
}
