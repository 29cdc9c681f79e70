//! The ways to the database that are compared: all as the app's own user, through the same
//! `sshd` to the same PostgreSQL.

use std::{
    fs,
    io::Write as _,
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use borealis_tests::{
    harness::TestMachine,
    sandbox::{BastionKind, Options, Sandbox},
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use serde_json::{Value, json};

use super::{
    line::Line,
    link::{LinkEmulator, THERE},
};

/// One way.
pub(crate) struct Way {
    pub(crate) name: &'static str,
    pub(crate) url: String,
    /// The process that forwards, if there is one.
    pub(crate) pid: Option<u32>,
    /// The session that keeps connections ready, if it is one.
    pub(crate) session: Option<Machine>,
    /// How a client in this process does TLS, where the URL says that it does.
    pub(crate) tls: Arc<ClientConfig>,
}

impl Way {
    /// Whether the client is to do TLS.
    pub(crate) fn wants_tls(&self) -> bool {
        self.url.ends_with("sslmode=require")
    }
}

/// Whose daemon it is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Machine {
    /// With its defaults.
    Usual,
    /// Without TLS to the database.
    Plain,
}

/// Everything that is measured.
pub(crate) struct World {
    pub(crate) machine: TestMachine,
    /// What TLS costs is a matter of processors, and no other over a long line: there is none.
    plain: Option<TestMachine>,
    pub(crate) ways: Vec<Way>,
    ssh: Child,
    // Dropped last: the far end stands on it.
    _shuttle: Option<LinkEmulator>,
}

/// The managed sessions' name.
pub(crate) const SESSION: &str = "sushi-app-rw";

/// For thousands of idle connections, in the daemon's config.
const MANY: &str = "max_connections = 5100\n";

/// The way that all others are compared with.
pub(crate) const REFERENCE: &str = "ssh -L";

/// And those that have TLS to the database.
pub(crate) const TLS_REFERENCE: &str = "ssh -L, TLS";

// === impl World ===

impl World {
    pub(crate) fn start(line: Line) -> Self {
        let link = (line != Line::LOOPBACK).then(|| LinkEmulator::start(line));
        let address = match link {
            None => Ipv4Addr::LOCALHOST,
            Some(_) => THERE,
        };
        let options = Options {
            bastion: BastionKind::Sshd,
            address,
            ssh_keys_kept: 100,
            max_connections: 5_200,
            ..Options::default()
        };
        let start = || Sandbox::start_blocking(options).expect("the sandbox starts");
        let sandbox = match &link {
            None => start(),
            Some(link) => link.there(start),
        };
        let mut machine = TestMachine::quiet_at(Arc::new(sandbox));
        machine.write_config(MANY);
        machine.start_daemon();
        let plain = (line == Line::LOOPBACK).then(|| {
            let mut plain = TestMachine::quiet_at(Arc::clone(&machine.sandbox));
            plain.write_config(&format!("{MANY}upstream_tls = \"disable\"\n"));
            plain.start_daemon();
            plain
        });
        let open = |machine: &TestMachine, more: &[&str]| {
            machine.open(&[&["sushi", "--role", "app", "-w"], more].concat())
        };
        let managed = open(&machine, &[]);
        let passthrough = open(&machine, &["--passthrough", "--name", "raw"]);
        let daemon = Some(machine.daemon().pid());

        // The credentials themselves, for those who come in without a daemon.
        let at = |url: &str, address: Ipv4Addr, port: u16| {
            let (credentials, place) = url.rsplit_once('@').unwrap();
            let (_, database) = place.split_once('/').unwrap();
            format!("{credentials}@{address}:{port}/{database}")
        };
        let (ssh, ssh_port) = forward(&machine);
        let direct = at(&passthrough, address, machine.sandbox.database_port());
        let ssh_url = at(&passthrough, Ipv4Addr::LOCALHOST, ssh_port);
        let without_tls = |url: &str| format!("{url}?sslmode=disable");
        let tls = trusting(machine.sandbox.database_authority());
        let way = |name, url: String, pid, session| Way {
            name,
            url,
            pid,
            session,
            tls: Arc::clone(&tls),
        };
        let over_ssh = Some(ssh.id());
        let with_tls = |url: &str| format!("{url}?sslmode=require");
        let mut ways = vec![
            way("direct", without_tls(&direct), None, None),
            way(REFERENCE, without_tls(&ssh_url), over_ssh, None),
            // What libpq does by itself: TLS to the database, inside SSH.
            way(TLS_REFERENCE, with_tls(&ssh_url), over_ssh, None),
            way(
                "managed",
                without_tls(&managed),
                daemon,
                Some(Machine::Usual),
            ),
            way("passthrough", without_tls(&passthrough), daemon, None),
        ];
        if let Some(plain) = &plain {
            let url = without_tls(&open(plain, &[]));
            let pid = Some(plain.daemon().pid());
            ways.push(way(
                "managed, plain upstream",
                url,
                pid,
                Some(Machine::Plain),
            ));
            ways.push(way(
                "passthrough, TLS",
                with_tls(&passthrough),
                daemon,
                None,
            ));
        }
        Self {
            machine,
            plain,
            ways,
            ssh,
            _shuttle: link,
        }
    }

    /// Waits until the way's session has a connection ready, where it keeps any.
    pub(crate) fn await_ready(&self, way: &Way) {
        let machine = match way.session {
            None => None,
            Some(Machine::Usual) => Some(&self.machine),
            Some(Machine::Plain) => self.plain.as_ref(),
        };
        let Some(machine) = machine else { return };
        machine.wait_for(SESSION, |session| session.warm_connections > 0);
    }

    pub(crate) fn leave(mut self) {
        let _ = self.ssh.kill();
        let _ = self.ssh.wait();
        if let Some(plain) = self.plain {
            plain.leave();
        }
        self.machine.leave();
    }
}

/// Trusts the one authority.
fn trusting(authority: &Path) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_file(authority).expect("an authority");
    roots.add(certificate).expect("an authority");
    let config = ClientConfig::builder().with_root_certificates(roots);
    Arc::new(config.with_no_client_auth())
}

/// `ssh -N -L` at its defaults, with a key of the same personal SSH user.
fn forward(machine: &TestMachine) -> (Child, u16) {
    let credential = machine.sandbox.block_on(ssh_credential(&machine.sandbox));
    let text = |key: &str| credential[key].as_str().unwrap().to_owned();
    let key = machine.path("ssh-key");
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
        machine.sandbox.database_port()
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
