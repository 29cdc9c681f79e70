//! An `sshd` of its own: port, keys and directory.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

/// A running server. Dropping it ends it, with its connections.
pub(crate) struct Sshd {
    child: Child,
    port: u16,
    dir: TempDir,
}

impl Sshd {
    /// With host keys of these kinds (`ed25519`, `ecdsa-256`, `rsa-3072`, …) and one user key;
    /// `-pem` at the end makes it one of the older text form.
    pub(crate) fn start(host_keys: &[&str], user_key: &str) -> Self {
        Self::start_with(host_keys, user_key, "")
    }

    /// With `settings` as well, lines of sshd_config(5).
    pub(crate) fn with_settings(settings: &str) -> Self {
        Self::start_with(&["ed25519"], "ed25519", settings)
    }

    fn start_with(host_keys: &[&str], user_key: &str, settings: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for kind in host_keys {
            generate(kind, &dir.path().join(format!("host-{kind}")));
        }
        generate(user_key, &dir.path().join("user"));
        let port = {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap().port()
        };
        let path = |name: &str| dir.path().join(name).display().to_string();
        let mut config = format!(
            "ListenAddress 127.0.0.1:{port}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\n\
             PermitRootLogin yes\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
             UsePAM no\nAllowTcpForwarding local\n{settings}\n",
            path("user.pub")
        );
        for kind in host_keys {
            config += &format!("HostKey {}\n", path(&format!("host-{kind}")));
        }
        fs::write(dir.path().join("config"), config).unwrap();
        if rustix::process::geteuid().is_root() {
            // Where a privileged sshd locks its unprivileged half in.
            fs::create_dir_all("/run/sshd").unwrap();
        }
        let child = Command::new(program())
            .args(["-D", "-e", "-f", &path("config")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(dir.path().join("log")).unwrap())
            .spawn()
            .expect("sshd can be started (apt install openssh-server)");
        let mut sshd = Self { child, port, dir };
        sshd.wait();
        sshd
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The operating system user that it lets in: whoever runs the test.
    pub(crate) fn username(&self) -> String {
        let output = Command::new("id").arg("-un").output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// As the provider's API gives it.
    pub(crate) fn host_key(&self, kind: &str) -> String {
        let file = self.dir.path().join(format!("host-{kind}.pub"));
        let line = fs::read_to_string(file).unwrap();
        line.split_whitespace()
            .take(2)
            .collect::<Vec<_>>()
            .join(" ")
    }

    pub(crate) fn user_key(&self) -> String {
        fs::read_to_string(self.dir.path().join("user")).unwrap()
    }

    /// Pages that it and its connections were given so far (proc(5), `minflt`).
    #[cfg(target_os = "linux")]
    pub(crate) fn page_faults(&self) -> u64 {
        let children = |pid: u32| -> Vec<u32> {
            let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
            let list = list.unwrap_or_default();
            list.split_whitespace().flat_map(str::parse).collect()
        };
        let mut pids = vec![self.child.id()];
        let mut total = 0;
        while let Some(pid) = pids.pop() {
            pids.extend(children(pid));
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
            let faults = fields.split_whitespace().nth(7);
            total += faults.map_or(0, |faults| faults.parse::<u64>().unwrap());
        }
        total
    }

    fn wait(&mut self) {
        // Connecting is the only way to be told; each try yields to sshd.
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            if let Some(status) = self.child.try_wait().unwrap() {
                let log = fs::read_to_string(self.dir.path().join("log")).unwrap();
                panic!("sshd ended ({status}):\n{log}");
            }
            std::thread::yield_now();
        }
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        // Its connections are processes of their own, and children of this one's.
        let children = Command::new("pgrep")
            .args(["-P", &self.child.id().to_string()])
            .output();
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Ok(children) = children {
            for pid in String::from_utf8_lossy(&children.stdout).split_whitespace() {
                let _ = Command::new("kill").arg(pid).status();
            }
        }
    }
}

fn program() -> PathBuf {
    let places = ["/usr/sbin/sshd", "/usr/bin/sshd", "/usr/local/sbin/sshd"].map(PathBuf::from);
    places
        .into_iter()
        .find(|path| path.exists())
        .expect("sshd (apt install openssh-server)")
}

fn generate(kind: &str, file: &Path) {
    let mut parts = kind.split('-');
    let algorithm = parts.next().unwrap();
    let mut command = Command::new("ssh-keygen");
    command
        .args(["-q", "-N", "", "-C", "", "-t", algorithm, "-f"])
        .arg(file);
    for part in parts {
        match part {
            "pem" => command.args(["-m", "PEM"]),
            bits => command.args(["-b", bits]),
        };
    }
    assert!(command.status().expect("ssh-keygen").success());
}
