//! The system's OpenSSH server as the bastion: its own configuration, host key and file of
//! user keys in the sandbox's directory. What happens to its connections is done with
//! signals to its processes.

use std::{
    fmt,
    fs::{self, OpenOptions, Permissions},
    io::Write as _,
    net::Ipv4Addr,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    str::FromStr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use russh::keys::{PrivateKey, PublicKey};
use rustix::process::{Pid, Signal, kill_process};

use super::{
    super::{
        SandboxError,
        child::{Child, RunAs, is_root, tethered},
        issue, port,
    },
    BastionAction, BastionStats,
};

const INSTALL: &str = "`apt-get install openssh-server` (Debian, Ubuntu) or `dnf install openssh-server` \
     (Fedora, RHEL); macOS has it in /usr/sbin";
const START_TIME: Duration = Duration::from_secs(20);
const PORT_ATTEMPTS: u32 = 5;

/// The running server.
#[derive(Debug)]
pub(super) struct SshdBastion {
    program: PathBuf,
    home: PathBuf,
    address: Ipv4Addr,
    port: u16,
    login: String,
    settings: SshdSettings,
    child: Mutex<Option<Child>>,
}

/// What sshd is told beyond what the sandbox needs, or in its place, as sshd_config(5) has it.
#[derive(Debug, Clone, Default)]
pub struct SshdSettings {
    required: Vec<SshdSetting>,
    /// Left out where this sshd doesn't know them.
    where_known: Vec<SshdSetting>,
}

/// One line of sshd's configuration. From `KEYWORD=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshdSetting {
    keyword: String,
    value: String,
}

// === impl SshdSetting ===

impl SshdSetting {
    fn new(keyword: &str, value: &str) -> Self {
        Self {
            keyword: keyword.to_owned(),
            value: value.to_owned(),
        }
    }
}

impl FromStr for SshdSetting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((keyword, value))
                if !keyword.is_empty() && !text.contains(|c: char| c.is_control()) =>
            {
                Ok(Self::new(keyword.trim(), value.trim()))
            }
            _ => Err("expected OPTION=VALUE, as in ClientAliveInterval=15".into()),
        }
    }
}

impl fmt::Display for SshdSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.keyword, self.value)
    }
}

// === impl SshdSettings ===

impl SshdSettings {
    /// Those of a hardened bastion: CIS' limits on silent clients, OpenSSH's own on half-open
    /// connections and on addresses that fail to log in, and a key that doesn't last.
    pub fn strict() -> Self {
        let settings = |known: &[(&str, &str)]| -> Vec<_> {
            let each = known.iter();
            each.map(|(keyword, value)| SshdSetting::new(keyword, value))
                .collect()
        };
        Self {
            required: settings(&[
                ("ClientAliveInterval", "15"),
                ("ClientAliveCountMax", "3"),
                ("MaxStartups", "10:30:100"),
                ("MaxSessions", "10"),
                ("RekeyLimit", "256M"),
            ]),
            where_known: settings(&[
                ("UnusedConnectionTimeout", "60"),
                ("PerSourcePenalties", "yes"),
            ]),
        }
    }

    /// One more, or in the place of one; sshd must know it.
    #[must_use]
    pub fn and(mut self, keyword: &str, value: &str) -> Self {
        let is_other = |setting: &SshdSetting| !setting.keyword.eq_ignore_ascii_case(keyword);
        self.required.retain(is_other);
        self.where_known.retain(is_other);
        self.required.push(SshdSetting::new(keyword, value));
        self
    }

    fn lines(&self, understood: impl Fn(&SshdSetting) -> bool) -> String {
        let known = self.where_known.iter().filter(|it| understood(it));
        let all = self.required.iter().chain(known);
        all.map(|setting| format!("{setting}\n")).collect()
    }

    fn mentions(&self, keyword: &str) -> bool {
        let mut all = self.required.iter().chain(&self.where_known);
        all.any(|setting| setting.keyword.eq_ignore_ascii_case(keyword))
    }
}

impl FromIterator<SshdSetting> for SshdSettings {
    fn from_iter<T: IntoIterator<Item = SshdSetting>>(settings: T) -> Self {
        Self {
            required: settings.into_iter().collect(),
            where_known: Vec::new(),
        }
    }
}

// === impl SshdBastion ===

impl SshdBastion {
    pub(super) async fn start(
        home: &Path,
        host_key: &PrivateKey,
        address: Ipv4Addr,
        database_port: u16,
        settings: SshdSettings,
    ) -> Result<Self, SandboxError> {
        let program = find()?;
        let home = home.join("sshd");
        fs::create_dir(&home).map_err(SandboxError::path("creating", &home))?;
        // The user's keys are read as that user, who may be another than ours.
        fs::set_permissions(&home, Permissions::from_mode(0o711))
            .map_err(SandboxError::path("changing the mode of", &home))?;
        if is_root() {
            prepare_privilege_separation()?;
        }
        let mut server = Self {
            login: login_user(&program)?.name,
            program,
            home,
            address,
            port: 0,
            settings,
            child: Mutex::new(None),
        };
        server.write_host_key(host_key)?;
        server.write_keys(&[])?;
        let mut attempt = 1;
        loop {
            server.port = port::free()?;
            server.write_config(database_port)?;
            match server.launch().await {
                Ok(()) => return Ok(server),
                Err(_) if attempt < PORT_ATTEMPTS && port::is_taken(server.port) => attempt += 1,
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn login_name(&self) -> &str {
        &self.login
    }

    /// Replaces the keys that are taken. They are looked up at every log-in.
    pub(super) fn write_keys(&self, keys: &[PublicKey]) -> Result<(), SandboxError> {
        let mut text = String::new();
        for key in keys {
            text.push_str(&key.to_openssh().map_err(SandboxError::failed)?);
            text.push('\n');
        }
        write(&self.authorized_keys(), text.as_bytes(), 0o644)
    }

    /// Shows another host key to connections that come from now on.
    pub(super) async fn show(&self, host_key: &PrivateKey) -> Result<(), SandboxError> {
        self.write_host_key(host_key)?;
        if !self.is_running() {
            return Ok(());
        }
        // The listener starts itself anew and stays the parent of those connected.
        let listening = self.times_listening();
        self.signal_listener(Signal::HUP);
        tokio::time::timeout(START_TIME, self.listening_more_than(listening))
            .await
            .map_err(|_| SandboxError::failed("sshd did not come back with its new host key"))
    }

    pub(super) async fn act(&self, action: BastionAction) -> Result<(), SandboxError> {
        match action {
            BastionAction::Stop => {
                self.signal_connections(Signal::KILL);
                self.stop_listener().await;
            }
            BastionAction::Start if self.is_running() => {}
            BastionAction::Start => self.launch().await?,
            BastionAction::Cut | BastionAction::Reset => self.signal_connections(Signal::KILL),
            BastionAction::Freeze => {
                // The listener first, so that no connection is born in between.
                self.signal_listener(Signal::STOP);
                self.signal_connections(Signal::STOP);
            }
            BastionAction::FreezeConnections => self.signal_connections(Signal::STOP),
            BastionAction::Thaw => {
                self.signal_connections(Signal::CONT);
                self.signal_listener(Signal::CONT);
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn stats(&self) -> BastionStats {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        let count = |what: &str| {
            let lines = log.lines().filter(|line| line.starts_with(what));
            u64::try_from(lines.count()).unwrap_or(u64::MAX)
        };
        BastionStats {
            connections: count("Connection from "),
            open_connections: Some(self.open_connections()),
            logins: count("Accepted publickey "),
            dropped: count("drop connection "),
            key_exchanges: count("debug1: SSH2_MSG_NEWKEYS received"),
            ..BastionStats::default()
        }
    }

    pub(super) fn end(&self) {
        self.signal_connections(Signal::KILL);
        drop(self.lock().take());
    }

    async fn launch(&self) -> Result<(), SandboxError> {
        let mut command = tethered(&self.program, "TERM", None);
        command
            .args(["-D", "-f"])
            .arg(self.config())
            .arg("-E")
            .arg(self.log())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let listening = self.times_listening();
        let child = Child::spawn(command, Signal::TERM)?;
        let up = tokio::select! {
            () = self.listening_more_than(listening) => Ok(()),
            () = child.ended() => Err("its process ended"),
            () = tokio::time::sleep(START_TIME) => Err("it does not listen"),
        };
        if let Err(why) = up {
            let said = fs::read_to_string(self.log()).unwrap_or_default();
            return Err(SandboxError::failed(format!(
                "sshd did not start: {why}; it said:\n{}",
                said.trim()
            )));
        }
        *self.lock() = Some(child);
        Ok(())
    }

    /// The listener has a child for each.
    fn open_connections(&self) -> u64 {
        let listener = self.lock().as_ref().map(Child::pid);
        let Some(listener) = listener.map(|pid| pid.as_raw_nonzero().get()) else {
            return 0;
        };
        let children = processes().into_iter();
        children.filter(|(_, parent)| *parent == listener).count() as u64
    }

    fn is_running(&self) -> bool {
        self.lock().as_ref().is_some_and(|c| c.status().is_none())
    }

    fn times_listening(&self) -> usize {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        log.matches("Server listening on ").count()
    }

    /// The log is the only place where sshd tells; a connection would be counted as one.
    async fn listening_more_than(&self, before: usize) {
        let mut pause = tokio::time::interval(Duration::from_millis(10));
        while self.times_listening() <= before {
            pause.tick().await;
        }
    }

    async fn stop_listener(&self) {
        let child = self.lock().take();
        if let Some(child) = child {
            child.signal(Signal::CONT);
            child.stop(Signal::TERM, Duration::from_secs(5)).await;
        }
    }

    fn signal_listener(&self, signal: Signal) {
        if let Some(child) = &*self.lock() {
            child.signal(signal);
        }
    }

    /// Each connection is served by processes of its own, the listener's descendants.
    fn signal_connections(&self, signal: Signal) {
        let listener = self.lock().as_ref().map(Child::pid);
        for pid in listener.map(descendants).unwrap_or_default() {
            let _ = kill_process(pid, signal);
        }
    }

    fn write_host_key(&self, key: &PrivateKey) -> Result<(), SandboxError> {
        let text = issue::key_text(key).map_err(SandboxError::failed)?;
        write(&self.home.join("host_key"), text.as_bytes(), 0o600)
    }

    fn write_config(&self, database_port: u16) -> Result<(), SandboxError> {
        let own = format!(
            "ListenAddress {address}:{port}\n\
             HostKey \"{home}/host_key\"\n\
             AuthorizedKeysFile \"{keys}\"\n\
             StrictModes no\n\
             PidFile none\n\
             UsePAM {pam}\n\
             UseDNS no\n\
             LogLevel VERBOSE\n\
             PermitRootLogin yes\n\
             AuthenticationMethods publickey\n\
             PubkeyAuthentication yes\n\
             PasswordAuthentication no\n\
             KbdInteractiveAuthentication no\n\
             MaxAuthTries 20\n\
             MaxStartups 500\n\
             MaxSessions 0\n\
             AllowTcpForwarding local\n\
             PermitOpen 127.0.0.1:{database_port}\n\
             AllowStreamLocalForwarding no\n\
             AllowAgentForwarding no\n\
             X11Forwarding no\n\
             PermitTunnel no\n\
             PermitTTY no\n\
             PrintMotd no\n",
            address = self.address,
            pam = if needs_pam() { "yes" } else { "no" },
            port = self.port,
            home = self.home.display(),
            keys = self.authorized_keys().display(),
        );
        // What asks sshd whether it knows a setting needs a file that it takes.
        write(&self.config(), own.as_bytes(), 0o600)?;
        let mut config = self.settings.lines(|setting| self.understands(setting));
        // Of some keywords the first value counts, of others the last.
        for line in own.lines() {
            let keyword = line.split(' ').next().unwrap_or_default();
            if !self.settings.mentions(keyword) {
                config += &format!("{line}\n");
            }
        }
        // Newer versions punish addresses that fail to log in, and here all have one address.
        let lenient = SshdSetting::new("PerSourcePenalties", "no");
        if !self.settings.mentions(&lenient.keyword) && self.understands(&lenient) {
            config += &format!("{lenient}\n");
        }
        write(&self.config(), config.as_bytes(), 0o600)
    }

    fn understands(&self, setting: &SshdSetting) -> bool {
        Command::new(&self.program)
            .args(["-t", "-f"])
            .arg(self.config())
            .arg("-o")
            .arg(setting.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    }

    fn config(&self) -> PathBuf {
        self.home.join("sshd_config")
    }

    fn log(&self) -> PathBuf {
        self.home.join("sshd.log")
    }

    fn authorized_keys(&self) -> PathBuf {
        self.home.join("authorized_keys")
    }

    fn lock(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for SshdBastion {
    fn drop(&mut self) {
        self.end();
    }
}

/// It must be called by its full path, and is kept out of users' PATH.
fn find() -> Result<PathBuf, SandboxError> {
    [
        "/usr/sbin/sshd",
        "/usr/local/sbin/sshd",
        "/usr/bin/sshd",
        "/opt/homebrew/sbin/sshd",
    ]
    .into_iter()
    .map(PathBuf::from)
    .find(|path| path.is_file())
    .ok_or(SandboxError::Missing {
        what: "OpenSSH's server (sshd)".into(),
        install: INSTALL,
    })
}

/// As root sshd insists on this directory, which else the service's start makes.
fn prepare_privilege_separation() -> Result<(), SandboxError> {
    let directory = Path::new("/run/sshd");
    if cfg!(target_os = "linux") && !directory.exists() {
        fs::create_dir_all(directory).map_err(SandboxError::path("creating", directory))?;
        fs::set_permissions(directory, Permissions::from_mode(0o755))
            .map_err(SandboxError::path("changing the mode of", directory))?;
    }
    Ok(())
}

/// Without root sshd can't see whether an account is locked, takes it for locked, and
/// leaves the question to PAM where it may.
fn needs_pam() -> bool {
    !is_root() && Path::new("/etc/pam.d/sshd").exists()
}

/// Without root sshd can only log in the user that it runs as. As root it refuses users
/// whose password field begins with `!`.
fn login_user(program: &Path) -> Result<RunAs, SandboxError> {
    let current = RunAs::current();
    if !is_root() {
        return current.ok_or_else(|| {
            SandboxError::failed(format!(
                "this process' user has no name, which {} needs",
                program.display()
            ))
        });
    }
    let locked = |user: &RunAs| {
        let shadow = fs::read_to_string("/etc/shadow").unwrap_or_default();
        shadow.contains(&format!("\n{}:!", user.name))
            || shadow.starts_with(&format!("{}:!", user.name))
    };
    [RunAs::find("nobody"), current, RunAs::find("postgres")]
        .into_iter()
        .flatten()
        .find(|user| !locked(user))
        .ok_or_else(|| SandboxError::failed("found no user that sshd would let log in"))
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), SandboxError> {
    // In one step: sshd may read at any moment.
    let half = path.with_extension("new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&half)
        .map_err(SandboxError::path("creating", &half))?;
    file.write_all(bytes)
        .and_then(|()| fs::rename(&half, path))
        .map_err(SandboxError::path("writing", path))
}

/// All processes below `root`.
fn descendants(root: Pid) -> Vec<Pid> {
    let mut below = vec![root.as_raw_nonzero().get()];
    let processes = processes();
    let mut next = 0;
    while let Some(parent) = below.get(next).copied() {
        below.extend(
            processes
                .iter()
                .filter(|(_, p)| *p == parent)
                .map(|(c, _)| *c),
        );
        next += 1;
    }
    below
        .into_iter()
        .skip(1)
        .filter_map(Pid::from_raw)
        .collect()
}

/// Every process with its parent.
fn processes() -> Vec<(i32, i32)> {
    let Ok(entries) = fs::read_dir("/proc") else {
        let listed = Command::new("ps").args(["-A", "-o", "pid=,ppid="]).output();
        let text = listed.map(|output| output.stdout).unwrap_or_default();
        return String::from_utf8_lossy(&text)
            .lines()
            .filter_map(|line| {
                let mut fields = line.split_whitespace();
                Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
            })
            .collect();
    };
    entries
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            // The name, in parentheses, may hold anything.
            let (_, after_name) = stat.rsplit_once(')')?;
            let parent = after_name.split_whitespace().nth(1)?.parse().ok()?;
            Some((pid, parent))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_a_keyword_and_a_value() {
        let setting: SshdSetting = "ClientAliveInterval = 15".parse().unwrap();
        assert_eq!(setting.to_string(), "ClientAliveInterval 15");
        for wrong in ["", "=", "=15", "MaxStartups", "A=b\nPermitOpen any"] {
            assert!(wrong.parse::<SshdSetting>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_this_sshd_does_not_know_is_left_out() {
        let known = |setting: &SshdSetting| setting.keyword != "PerSourcePenalties";
        let lines = SshdSettings::strict().and("RekeyLimit", "16M").lines(known);
        assert!(lines.contains("RekeyLimit 16M\n"), "{lines}");
        assert!(!lines.contains("256M"), "{lines}");
        assert!(lines.contains("UnusedConnectionTimeout 60\n"), "{lines}");
        assert!(!lines.contains("PerSourcePenalties"), "{lines}");
    }
}
