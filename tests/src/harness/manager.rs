//! The part of a service manager that a daemon speaks with: it hears what it is told
//! (sd_notify(3)), keeps descriptors between one daemon and the next, and hands them down
//! (sd_listen_fds(3)). Starting and ending the daemon stays the machine's.

use std::{
    fs,
    io::IoSliceMut,
    mem::MaybeUninit,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::fs::PermissionsExt as _,
        unix::net::{UnixDatagram, UnixListener},
    },
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread::{self, JoinHandle},
    time::Instant,
};

use command_fds::{CommandFdExt as _, FdMapping};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use super::PATIENCE;

/// The first descriptor that is handed down.
const FIRST: i32 = 3;

/// A service manager.
pub struct Manager {
    socket: PathBuf,
    told: Arc<(Mutex<Told>, Condvar)>,
    /// Listeners of socket units.
    units: Vec<OwnedFd>,
    watchdog: Option<u64>,
    hearing: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Told {
    messages: Vec<String>,
    stored: Vec<(String, OwnedFd)>,
}

// === impl Manager ===

impl Manager {
    /// Listens in a directory.
    pub fn new(dir: &Path) -> Self {
        let socket = dir.join("manager");
        let datagrams = UnixDatagram::bind(&socket).expect("a notify socket");
        let told = Arc::<(Mutex<Told>, Condvar)>::default();
        let hearing = thread::spawn({
            let told = Arc::clone(&told);
            move || while hear(&datagrams, &told).is_some() {}
        });
        Self {
            socket,
            told,
            units: Vec::new(),
            watchdog: None,
            hearing: Some(hearing),
        }
    }

    /// Holds a socket unit's listener.
    pub fn listen(&mut self, path: &Path) {
        let dir = path.parent().expect("a directory");
        fs::create_dir_all(dir).expect("a directory");
        let listener = UnixListener::bind(path).expect("a socket");
        for (path, mode) in [(dir, 0o700), (path, 0o600)] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
        }
        self.units.push(listener.into());
    }

    /// Wants to hear from the daemon at least this often, in microseconds.
    pub fn watch(&mut self, limit: u64) {
        self.watchdog = Some(limit);
    }

    /// Names of the descriptors that it keeps.
    pub fn stored(&self) -> Vec<String> {
        let told = self.told();
        let mut names: Vec<_> = told.stored.iter().map(|(name, _)| name.clone()).collect();
        names.sort();
        names
    }

    /// Waits until it has been told something that begins so, `count` times in all; answers the
    /// last of those lines.
    #[track_caller]
    pub fn wait_for(&self, start: &str, count: usize) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut told = self.told();
        loop {
            let lines = told.messages.iter().flat_map(|message| message.lines());
            let found: Vec<_> = lines.filter(|line| line.starts_with(start)).collect();
            if let Some(last) = found.last()
                && found.len() >= count
            {
                return (*last).to_owned();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "{start} was not said {count} times: {:#?}",
                told.messages
            );
            told = self.told.1.wait_timeout(told, left).expect("a lock").0;
        }
    }

    pub(super) fn count(&self, start: &str) -> usize {
        let told = self.told();
        let lines = told.messages.iter().flat_map(|message| message.lines());
        lines.filter(|line| line.starts_with(start)).count()
    }

    /// Gives a daemon that is about to be started all that it gets.
    pub(super) fn prepare(&self, command: &mut Command) {
        let copy = |fd: &OwnedFd| fd.try_clone().expect("a descriptor");
        let units = self.units.iter().map(copy);
        let told = self.told();
        let stored = told.stored.iter().map(|(_, fd)| copy(fd));
        let mappings: Vec<_> = (FIRST..)
            .zip(units.chain(stored))
            .map(|(child_fd, parent_fd)| FdMapping {
                parent_fd,
                child_fd,
            })
            .collect();
        command
            .env("NOTIFY_SOCKET", &self.socket)
            .env("LISTEN_FDS", mappings.len().to_string());
        if let Some(limit) = self.watchdog {
            command.env("WATCHDOG_USEC", limit.to_string());
        }
        command.fd_mappings(mappings).expect("descriptors");
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.0.lock().expect("a lock")
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        // An empty message ends the thread.
        let end = UnixDatagram::unbound().and_then(|socket| socket.send_to(&[], &self.socket));
        if let (Ok(_), Some(hearing)) = (end, self.hearing.take()) {
            let _ = hearing.join();
        }
    }
}

/// Takes one message; `None` at the end.
fn hear(datagrams: &UnixDatagram, told: &(Mutex<Told>, Condvar)) -> Option<()> {
    let mut bytes = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(
        datagrams.as_fd(),
        &mut [IoSliceMut::new(&mut bytes)],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC,
    )
    .ok()?;
    if received.bytes == 0 {
        return None;
    }
    let mut descriptors: Vec<OwnedFd> = ancillary
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        })
        .flatten()
        .collect();
    let message = String::from_utf8_lossy(&bytes[..received.bytes]).into_owned();
    let lines = || message.lines();
    let mut now = told.0.lock().expect("a lock");
    if let Some(name) = lines().find_map(|line| line.strip_prefix("FDNAME=")) {
        if lines().any(|line| line == "FDSTOREREMOVE=1") {
            now.stored.retain(|(known, _)| known != name);
        } else if lines().any(|line| line == "FDSTORE=1")
            && let Some(descriptor) = descriptors.pop()
            // The manager knows one that it has already.
            && now.stored.iter().all(|(known, _)| known != name)
        {
            now.stored.push((name.to_owned(), descriptor));
        }
    }
    now.messages.push(message);
    told.1.notify_all();
    Some(())
}
