//! What a running daemon leaves in its state directory for others to find it by: its process,
//! its machine and its control socket.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::{Path, PathBuf},
};

/// The file below the state directory. It is also what the daemon locks.
pub const FILE: &str = "lock";

/// The file is a few short lines; what is longer isn't one.
const LONGEST: u64 = 16 << 10;

/// Who works on a state directory, or did last.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Presence {
    /// Its process id.
    pub pid: u32,
    /// The machine's name.
    pub host: String,
    /// Tells machines of one name apart, and a machine before and after a boot.
    pub machine: String,
    /// Its control socket; `None` until that is bound.
    pub socket: Option<PathBuf>,
}

// === impl Presence ===

impl Presence {
    /// This process, without a socket yet.
    pub fn of_this_process() -> Self {
        Self {
            pid: std::process::id(),
            host: rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned(),
            machine: machine(),
            socket: None,
        }
    }

    /// Who works on this state directory. `None` where nobody ever did, and where a daemon
    /// that doesn't say so did.
    ///
    /// # Errors
    /// When the file is there and can't be read.
    pub fn read(state_dir: &Path) -> io::Result<Option<Self>> {
        let file = state_dir.join(FILE);
        match fs::metadata(&file) {
            Ok(found) if found.is_file() && found.len() <= LONGEST => {}
            Ok(_) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        }
        Ok(Self::parse(&fs::read(file)?))
    }

    /// Whether it is on this machine.
    pub fn is_here(&self) -> bool {
        let here = Self::of_this_process();
        self.machine_id() == here.machine_id()
            && (!here.machine_id().is_empty() || self.host == here.host)
    }

    /// Whether its process is known to have ended. Of another machine's that is never known.
    pub fn has_ended(&self) -> bool {
        if !self.is_here() {
            return false;
        }
        let here = Self::of_this_process();
        let booted_since = self.machine != here.machine;
        booted_since || self.pid == here.pid || !is_alive(self.pid)
    }

    /// What [`Presence::parse`] reads.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = format!(
            "pid {}\nhost {}\nmachine {}\n",
            self.pid, self.host, self.machine
        )
        .into_bytes();
        if let Some(socket) = &self.socket {
            let path = socket.as_os_str().as_bytes();
            // A line holds no line break; such a daemon is found by --socket only.
            if !path.contains(&b'\n') {
                bytes.extend_from_slice(b"socket ");
                bytes.extend_from_slice(path);
                bytes.push(b'\n');
            }
        }
        bytes
    }

    /// `None` where the text names no process.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut found = Self::default();
        for line in bytes.split(|byte| *byte == b'\n') {
            let at = line.iter().position(|byte| *byte == b' ');
            let Some((key, value)) = at.map(|at| (&line[..at], &line[at + 1..])) else {
                continue;
            };
            let text = || String::from_utf8_lossy(value).into_owned();
            match key {
                b"pid" => found.pid = text().parse().ok()?,
                b"host" => found.host = text(),
                b"machine" => found.machine = text(),
                b"socket" => found.socket = Some(OsString::from_vec(value.to_vec()).into()),
                _ => {}
            }
        }
        (found.pid != 0).then_some(found)
    }

    fn machine_id(&self) -> &str {
        self.machine.split('/').next().unwrap_or_default()
    }
}

/// `ID/BOOT`; either may be empty.
fn machine() -> String {
    let line = |file| {
        let text = fs::read_to_string(file).unwrap_or_default();
        text.trim().to_owned()
    };
    let id = line("/etc/machine-id");
    format!("{id}/{}", line("/proc/sys/kernel/random/boot_id"))
}

fn is_alive(pid: u32) -> bool {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    // Another user's process can't be signalled, but is there.
    pid.is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Presence::read(dir.path()).unwrap(), None);
        let presence = Presence {
            socket: Some("/run/user/1000/borealis/control.sock".into()),
            ..Presence::of_this_process()
        };
        fs::write(dir.path().join(FILE), presence.to_bytes()).unwrap();
        assert_eq!(Presence::read(dir.path()).unwrap(), Some(presence));
        // A daemon of an earlier version wrote its pid alone.
        for earlier in [&b"123\n"[..], b"", b"pid x\n", b"\xff\xfe"] {
            fs::write(dir.path().join(FILE), earlier).unwrap();
            assert_eq!(Presence::read(dir.path()).unwrap(), None);
        }
    }

    #[test]
    fn only_a_process_of_this_machine_is_known_to_have_ended() {
        let here = Presence::of_this_process();
        let init = Presence {
            pid: std::os::unix::process::parent_id(),
            ..here.clone()
        };
        assert!(!init.has_ended());
        let nobody = Presence {
            pid: 0x7fff_fff0,
            ..here.clone()
        };
        assert!(nobody.has_ended());
        let elsewhere = Presence {
            machine: "another/boot".into(),
            host: "another".into(),
            ..nobody
        };
        assert!(!elsewhere.is_here() && !elsewhere.has_ended());
    }
}
