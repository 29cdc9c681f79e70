//! The ways to the database that are compared: all as the app's own user, through the same
//! `sshd` to the same PostgreSQL.

use std::{
    fs,
    io::Write as _,
    net::{TcpListener, TcpStream},
    os::unix::fs::OpenOptionsExt as _,
    process::{Child, Command, Stdio},
};

use borealis_tests::{
    harness::Desk,
    sandbox::{BastionKind, Options, Sandbox},
};
use serde_json::{Value, json};

/// One way.
pub(crate) struct Way {
    pub(crate) name: &'static str,
    pub(crate) url: String,
    /// The process that forwards, if there is one.
    pub(crate) pid: Option<u32>,
}

/// Everything that is measured.
pub(crate) struct World {
    pub(crate) desk: Desk,
    pub(crate) ways: Vec<Way>,
    ssh: Child,
}

/// The way that all others are compared with.
pub(crate) const REFERENCE: &str = "ssh -L";

// === impl World ===

impl World {
    pub(crate) fn start() -> Self {
        let desk = Desk::quiet(Options {
            bastion: BastionKind::Sshd,
            ssh_keys_kept: 100,
            ..Options::default()
        });
        let open = |more: &[&str]| desk.open(&[&["sushi", "--role", "app", "-w"], more].concat());
        let managed = open(&[]);
        let passthrough = open(&["--passthrough", "--name", "raw"]);
        let daemon = Some(desk.daemon().pid());

        // The credentials themselves, for those who come in without a daemon.
        let local = |url: &str, port: u16| {
            let (credentials, place) = url.rsplit_once('@').unwrap();
            let (_, database) = place.split_once('/').unwrap();
            format!("{credentials}@127.0.0.1:{port}/{database}")
        };
        let (ssh, ssh_port) = forward(&desk);
        let direct = local(&passthrough, desk.sandbox.database_port());
        let ssh_url = local(&passthrough, ssh_port);
        let plain = |url: &str| format!("{url}?sslmode=disable");
        let ways = vec![
            Way {
                name: "direct",
                url: plain(&direct),
                pid: None,
            },
            Way {
                name: REFERENCE,
                url: plain(&ssh_url),
                pid: Some(ssh.id()),
            },
            // What libpq does by itself: TLS to the database, inside SSH.
            Way {
                name: "ssh -L, TLS",
                url: format!("{ssh_url}?sslmode=require"),
                pid: Some(ssh.id()),
            },
            Way {
                name: "managed",
                url: plain(&managed),
                pid: daemon,
            },
            Way {
                name: "passthrough",
                url: plain(&passthrough),
                pid: daemon,
            },
            Way {
                name: "passthrough, TLS",
                url: format!("{passthrough}?sslmode=require"),
                pid: daemon,
            },
        ];
        Self { desk, ways, ssh }
    }

    pub(crate) fn leave(mut self) {
        let _ = self.ssh.kill();
        let _ = self.ssh.wait();
        self.desk.leave();
    }
}

/// `ssh -N -L` at its defaults, with a key of the same personal SSH user.
fn forward(desk: &Desk) -> (Child, u16) {
    let credential = desk.sandbox.block_on(ssh_credential(&desk.sandbox));
    let text = |key: &str| credential[key].as_str().unwrap().to_owned();
    let key = desk.path("ssh-key");
    fs::File::options()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(&key)
        .and_then(|mut file| file.write_all(text("sshPrivateKey").as_bytes()))
        .unwrap();
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let there = format!(
        "127.0.0.1:{port}:127.0.0.1:{}",
        desk.sandbox.database_port()
    );
    let child = Command::new("ssh")
        .args([
            "-N",
            "-F",
            "none",
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
        ])
        .args(["-o", "IdentitiesOnly=yes", "-o", "LogLevel=ERROR", "-i"])
        .arg(&key)
        .args(["-L", &there, "-p", &credential["sshPort"].to_string()])
        .arg(format!("{}@{}", text("sshUsername"), text("sshHost")))
        .stdin(Stdio::null())
        .spawn()
        .expect("ssh");
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        std::thread::yield_now();
    }
    (child, port)
}

async fn ssh_credential(sandbox: &Sandbox) -> Value {
    let client = reqwest::Client::new();
    let grant: Value = client
        .post(format!("{}/oauth/authorizations", sandbox.heroku_url()))
        .bearer_auth(sandbox.token())
        .header("Accept", "application/vnd.heroku+json; version=3")
        .json(&json!({"description": "bench", "expires_in": 180, "scope": ["read", "identity"]}))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let base = format!(
        "{}/heroku/resources/borealis-pg-hex-12345",
        sandbox.borealis_url()
    );
    let credential = client
        .post(format!("{base}/personal-ssh-users"))
        .bearer_auth(grant["access_token"]["token"].as_str().unwrap())
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    client
        .delete(format!(
            "{}/oauth/authorizations/{}",
            sandbox.heroku_url(),
            grant["id"].as_str().unwrap()
        ))
        .bearer_auth(sandbox.token())
        .header("Accept", "application/vnd.heroku+json; version=3")
        .send()
        .await
        .unwrap();
    credential
}
