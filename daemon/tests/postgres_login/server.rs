//! A real PostgreSQL of a test's own: a cluster in a temporary directory, TLS on, one role for
//! each way to log in.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use borealisd::model::{DatabaseCredential, HostPort};
use rustix::process::{Pid, Signal, kill_process};
use secrecy::SecretString;
use tempfile::TempDir;
use tokio::net::TcpStream;

/// What every role's password is.
pub(crate) const PASSWORD: &str = "pass'word é";
pub(crate) const DATABASE: &str = "d4f0";

const SETUP: &str = "
    create role scram login password 'pass''word é';
    create role plus login password 'pass''word é';
    create role clear login password 'pass''word é';
    create role trusted login;
    create role streams login replication password 'pass''word é';
    create role no_login nologin password 'pass''word é';
    create role full login connection limit 0 password 'pass''word é';
    set password_encryption = md5;
    create role md5 login password 'pass''word é';
    create database d4f0;
    create database closed;
    revoke connect on database closed from public;
";

const HBA: &str = "
    local   all         admin                    trust
    hostssl all         plus       127.0.0.1/32  scram-sha-256
    host    all         md5        127.0.0.1/32  md5
    host    all         clear      127.0.0.1/32  password
    host    all         trusted    127.0.0.1/32  trust
    host    all         all        127.0.0.1/32  scram-sha-256
    host    replication streams    127.0.0.1/32  scram-sha-256
";

/// A certificate and its key, as PEM.
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

pub(crate) struct Server {
    process: Child,
    pub(crate) port: u16,
    home: TempDir,
}

// === impl Server ===

impl Server {
    pub(crate) fn start(identity: &Identity) -> Self {
        let home = tempfile::Builder::new().prefix("pg").tempdir().unwrap();
        let data = home.path().join("data");
        fs::create_dir(&data).unwrap();
        give_away(home.path());
        give_away(&data);
        run(postgres_command("initdb", home.path()).args([
            "--no-sync",
            "--username=admin",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C",
            "--pgdata",
            data.to_str().unwrap(),
        ]));
        for (file, text) in [
            ("pg_hba.conf", HBA),
            ("server.crt", &identity.certificate),
            ("server.key", &identity.key),
        ] {
            let path = data.join(file);
            fs::write(&path, text).unwrap();
            give_away(&path);
            let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            fs::set_permissions(&path, private).unwrap();
        }
        // Somebody else may take the port between the look and the start.
        let (process, port) = (0..5)
            .find_map(|_| launch(home.path(), &data))
            .expect("PostgreSQL starts");
        let server = Self {
            process,
            port,
            home,
        };
        for statement in SETUP.split_inclusive(';') {
            server.admin(statement);
        }
        server
    }

    /// What a statement of the superuser gives, through the server's own socket.
    pub(crate) fn admin(&self, statement: &str) -> String {
        run(Command::new(binary("psql"))
            .env_clear()
            .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "admin", "-h"])
            .arg(self.home.path())
            .args(["-d", "postgres", "-p", &self.port.to_string(), "-c"])
            .arg(statement))
    }

    pub(crate) fn credential(&self, username: &str) -> DatabaseCredential {
        DatabaseCredential {
            server: HostPort {
                host: "db.internal".into(),
                port: self.port,
            },
            database: DATABASE.into(),
            username: username.into(),
            password: SecretString::from(PASSWORD),
        }
    }

    /// What a channel of the tunnel is otherwise.
    pub(crate) async fn channel(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port)).await.unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.process), Signal::QUIT);
        let _ = self.process.wait();
    }
}

/// Looked for on the PATH, then where Debian keeps it.
pub(crate) fn binary(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    std::env::split_paths(&path)
        .chain(debian.flatten().map(|version| version.path().join("bin")))
        .map(|folder| folder.join(name))
        .find(|file| file.exists())
        .unwrap_or_else(|| panic!("{name} is not installed (Debian: postgresql)"))
}

fn launch(home: &Path, data: &Path) -> Option<(Child, u16)> {
    let port = TcpListener::bind(("127.0.0.1", 0))
        .and_then(|listener| listener.local_addr())
        .unwrap()
        .port();
    let mut child = postgres_command("postgres", home)
        .arg("-D")
        .arg(data)
        .args(["-p", &port.to_string(), "-k"])
        .arg(home)
        .args(["-c", "listen_addresses=127.0.0.1", "-c", "ssl=on"])
        .args(["-c", "fsync=off", "-c", "wal_level=logical"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    let up = log.by_ref().map_while(Result::ok).any(|line| {
        println!("{line}");
        line.contains("ready to accept connections")
    });
    if !up {
        let _ = child.wait();
        return None;
    }
    // A full pipe would stop the server.
    std::thread::spawn(move || log.map_while(Result::ok).for_each(drop));
    Some((child, port))
}

/// PostgreSQL doesn't run as root.
fn unprivileged() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let ids = |user: &str| {
        let mut fields = user.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    ["postgres:", "nobody:"]
        .iter()
        .find_map(|name| users.lines().find(|line| line.starts_with(name)))
        .and_then(ids)
        .or_else(|| panic!("there is no user to run PostgreSQL as"))
}

fn postgres_command(name: &str, home: &Path) -> Command {
    let mut command = Command::new(binary(name));
    command.env_clear().current_dir(home).stdout(Stdio::null());
    if let Some((uid, gid)) = unprivileged() {
        command.uid(uid).gid(gid);
    }
    command
}

fn give_away(path: &Path) {
    if let Some((uid, gid)) = unprivileged() {
        chown(path, Some(uid), Some(gid)).unwrap();
    }
}

fn run(command: &mut Command) -> String {
    let output = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}
