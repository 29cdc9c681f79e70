//! A test in a network and a mount of its own, where routes, addresses and name look-ups
//! can be broken without anybody else noticing: root can make those, and where the system
//! lets them, others within a user namespace. Where nobody can, the test fails, unless
//! `BOREALIS_LEAVE_OUT=namespaces` says that leaving it out is wanted.

use std::{
    env,
    fs::{self, File},
    io::Write as _,
    net::TcpListener,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use rustix::{
    mount::mount_bind,
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

/// Set for the process that is apart.
const INSIDE: &str = "BOREALIS_CHAOS_APART";
/// Who may make namespaces: root, and a user who keeps name and rights in one of their own.
const WAYS: [&[&str]; 2] = [&[], &["--user", "--map-current-user", "--keep-caps"]];
/// This machine's address on the wire, and the bastion's.
pub(super) const HERE: &str = "10.77.0.2";
pub(super) const THERE: &str = "10.77.0.1";

/// A wire to another network namespace, where the bastion is.
pub(super) struct Wire {
    /// Keeps the other namespace alive.
    other: Child,
}

/// Runs a test, named by its path, with namespaces of its own.
#[track_caller]
pub(super) fn apart(test: &str, body: impl FnOnce()) {
    if env::var_os(INSIDE).is_some() {
        ip("link set lo up");
        return body();
    }
    let Some(way) = WAYS.iter().find(|way| works(way)) else {
        let left_out = env::var("BOREALIS_LEAVE_OUT").is_ok_and(|what| what == "namespaces");
        assert!(
            left_out,
            "{test} needs namespaces: run it as root, let users make them (sysctl \
             user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns), or leave \
             such tests out with BOREALIS_LEAVE_OUT=namespaces"
        );
        return println!("left out: {test} needs namespaces");
    };
    let status = unshare(way)
        .arg(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--include-ignored"])
        .env(INSIDE, "1")
        .status();
    assert!(status.unwrap().success(), "{test} failed apart");
}

fn unshare(way: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    command.args(way).args(["--net", "--mount", "--"]);
    command
}

/// A test that could make namespaces but no wire in them would fail for no fault of the daemon.
fn works(way: &[&str]) -> bool {
    let quiet = unshare(way)
        .args(["ip", "link", "set", "lo", "up"])
        .stderr(Stdio::null())
        .status();
    quiet.is_ok_and(|status| status.success())
}

/// Shows a directory or a file at another place, in this mount namespace only.
#[track_caller]
fn bind(what: &Path, place: &Path) {
    mount_bind(what, place).unwrap();
}

/// `ip`, of iproute2, with these words.
#[track_caller]
pub(super) fn ip(words: &str) {
    run("ip", words);
}

#[track_caller]
fn run(program: &str, words: &str) {
    let status = Command::new(program).args(words.split(' ')).status();
    assert!(status.unwrap().success(), "{program} {words}");
}

// === impl Wire ===

impl Wire {
    /// Makes the other namespace, with a default route to it.
    pub(super) fn lay() -> Self {
        let mut other = Command::new("unshare")
            .args(["--net", "--", "sh", "-c", "echo; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = [0];
        let stdout = other.stdout.as_mut().unwrap();
        std::io::Read::read_exact(stdout, &mut ready).unwrap();
        let pid = other.id();
        ip("link add near type veth peer name far");
        ip(&format!("link set far netns {pid}"));
        ip("link set near address 02:00:00:00:00:02");
        ip(&format!("addr add {HERE}/24 dev near"));
        ip("link set near up");
        let wire = Self { other };
        wire.there("link set lo up");
        wire.there("link set far address 02:00:00:00:00:01");
        wire.there(&format!("addr add {THERE}/24 dev far"));
        wire.there("link set far up");
        wire.deliver();
        wire.route();
        wire
    }

    /// A listener at the other end.
    pub(super) fn listener(&self) -> TcpListener {
        let path = format!("/proc/{}/ns/net", self.other.id());
        // On a thread that is never used for anything else.
        let binding = std::thread::spawn(move || {
            let other = File::open(path).unwrap();
            move_into_link_name_space(other.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            TcpListener::bind((THERE, 0)).unwrap()
        });
        binding.join().unwrap()
    }

    /// Every packet goes to nobody, both ways, and no one is told.
    pub(super) fn lose(&self) {
        self.neighbours("02:00:00:00:00:98", "02:00:00:00:00:99");
    }

    /// Packets arrive again.
    pub(super) fn deliver(&self) {
        self.neighbours("02:00:00:00:00:01", "02:00:00:00:00:02");
    }

    /// The machine is in no network.
    pub(super) fn leave_network(&self) {
        ip("addr flush dev near");
    }

    /// The machine is in a network, with this address.
    pub(super) fn join_network(&self, address: &str) {
        ip(&format!("addr add {address}/24 dev near"));
        self.route();
        let known =
            format!("neigh replace {address} lladdr 02:00:00:00:00:02 dev far nud permanent");
        self.there(&known);
    }

    fn route(&self) {
        ip(&format!("route replace default via {THERE}"));
    }

    fn neighbours(&self, there: &str, here: &str) {
        ip(&format!(
            "neigh replace {THERE} lladdr {there} dev near nud permanent"
        ));
        self.there(&format!(
            "neigh replace {HERE} lladdr {here} dev far nud permanent"
        ));
    }

    #[track_caller]
    fn there(&self, words: &str) {
        run(
            "nsenter",
            &format!("--target {} --net ip {words}", self.other.id()),
        );
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let _ = self.other.kill();
        let _ = self.other.wait();
    }
}

/// The names that can be looked up here: only those of a file.
pub(super) struct Names(PathBuf);

// === impl Names ===

impl Names {
    /// Puts files in the place of the machine's own, in this mount only.
    pub(super) fn instead(dir: PathBuf) -> Self {
        let resolver = dir.join("resolv.conf");
        fs::write(&resolver, "nameserver 127.0.0.1\n").unwrap();
        let names = Self(dir.join("hosts"));
        names.set("");
        bind(&names.0, Path::new("/etc/hosts"));
        let real = fs::canonicalize("/etc/resolv.conf").unwrap_or("/etc/resolv.conf".into());
        if real.exists() {
            bind(&resolver, &real);
        }
        names
    }

    /// Replaces them.
    pub(super) fn set(&self, lines: &str) {
        // The same file: it is the file that is mounted, not its name.
        let mut file = File::create(&self.0).unwrap();
        writeln!(file, "127.0.0.1 localhost\n{lines}").unwrap();
    }
}
