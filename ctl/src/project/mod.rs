//! The project that the working directory is in: its `borealis.toml`, and whether that file is
//! believed. A checkout may be a stranger's, so what would widen somebody's access needs the
//! user's word, for exactly this content at this path.

mod file;
mod trust;

use std::{
    env, fs,
    fs::{File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use borealis_proto::{
    trust::is_trusted_owner,
    v1::{Access, Role},
};
use rustix::fs::OFlags;

use self::trust::Said;
use crate::{
    failure::{Exit, Failure, reason},
    output::quote,
};

pub(crate) use file::Entry;

/// What the file is called.
pub(crate) const NAME: &str = "borealis.toml";

/// More than any project lists.
const LONGEST: u64 = 64 << 10;

/// A right of all users.
const OTHERS_WRITE: u32 = 0o002;

/// A project file that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Project {
    /// Where it is: absolute, its directory without links.
    pub(crate) file: PathBuf,
    /// What it lists.
    pub(crate) sessions: Vec<Entry>,
    /// What of it needs the user's word, each as the object of "asks for".
    pub(crate) asks: Vec<String>,
    fingerprint: String,
}

// === impl Project ===

impl Project {
    /// The file that is named, else the nearest one.
    ///
    /// # Errors
    /// Where there is none, or it can't be read or has something that isn't accepted.
    pub(crate) fn at(named: Option<&Path>) -> Result<Self, Failure> {
        match named {
            Some(file) => Self::read(file),
            None => Self::nearest()?.ok_or_else(|| {
                Failure::usage(format!(
                    "there is no {NAME} in the working directory, nor in one above it"
                ))
                .with_hint("name the file, or write one: see `borealisctl up --help`")
            }),
        }
    }

    /// The file of the working directory, or of the nearest directory above that has one, within
    /// the same file system, as git looks for its own.
    ///
    /// # Errors
    /// Where it can't be read, or has something that isn't accepted.
    pub(crate) fn nearest() -> Result<Option<Self>, Failure> {
        let Ok(start) = env::current_dir() else {
            return Ok(None);
        };
        let Ok(device) = fs::metadata(&start).map(|metadata| metadata.dev()) else {
            return Ok(None);
        };
        let is_here = |dir: &&Path| fs::metadata(dir).is_ok_and(|found| found.dev() == device);
        let mut dirs = start.ancestors().take_while(is_here);
        // Something of that name that can't be read is told, rather than passed over.
        let found = dirs.find(|dir| fs::symlink_metadata(dir.join(NAME)).is_ok());
        found.map(|dir| Self::read(&dir.join(NAME))).transpose()
    }

    /// The same, where it asks for nothing, or what it asks for is trusted.
    ///
    /// # Errors
    /// What it asks for.
    pub(crate) fn believed(self) -> Result<Self, Failure> {
        if self.asks.is_empty() {
            return Ok(self);
        }
        let file = self.file.display();
        let asks = self.asks.join(", ");
        let message = match trust::said(&self.file, &self.fingerprint)? {
            Said::This => return Ok(self),
            Said::Other => {
                format!("{file} has changed since it was trusted, and asks for {asks}")
            }
            Said::Nothing => format!("{file} is not trusted, and asks for {asks}"),
        };
        Err(Failure::failed(message).with_hint(format!(
            "read it, then say `borealisctl trust {}`; a command that names its target doesn't need the file",
            quote::sh(&self.file.to_string_lossy())
        )))
    }

    /// Keeps that the file is trusted, as it was read.
    ///
    /// # Errors
    /// When that can't be kept.
    pub(crate) fn trust(&self) -> Result<(), Failure> {
        trust::keep(&self.file, &self.fingerprint)
    }

    /// What commands mean that name nothing: the only session, or the one that is marked.
    pub(crate) fn default_session(&self) -> Option<&Entry> {
        match self.sessions.as_slice() {
            [only] => Some(only),
            several => several.iter().find(|entry| entry.is_default),
        }
    }

    fn read(file: &Path) -> Result<Self, Failure> {
        let failed = |why: String| Failure::failed(format!("{} {why}", file.display()));
        let can_not = |error: &io::Error| failed(format!("can't be read: {}", reason(error)));
        // A link is another path than what it leads to; the directory it is in is not.
        let dir = match file.parent() {
            Some(dir) if dir != Path::new("") => dir,
            _ => Path::new("."),
        };
        let dir = fs::canonicalize(dir).map_err(|error| can_not(&error))?;
        let name = file
            .file_name()
            .ok_or_else(|| failed("is no file".to_owned()))?;
        let path = dir.join(name);
        // A pipe would be waited for.
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags((OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed())
            .open(&path)
            .map_err(|error| can_not(&error))?;
        let metadata = opened.metadata().map_err(|error| can_not(&error))?;
        if !metadata.is_file() {
            return Err(failed("is no regular file".to_owned()));
        }
        let content = content(opened).map_err(|error| can_not(&error))?;
        if content.len() as u64 > LONGEST {
            return Err(failed(format!("has more than {LONGEST} bytes")));
        }
        let text = std::str::from_utf8(&content).map_err(|_| {
            Failure::new(Exit::Usage, format!("{} is not UTF-8 text", path.display()))
        })?;
        let sessions = file::parse(&path, text)
            .map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
        let mut asks: Vec<String> = sessions.iter().flat_map(asks_of).collect();
        if !is_trusted_owner(metadata.uid()) {
            asks.push(format!(
                "your belief, since it belongs to another user (uid {})",
                metadata.uid()
            ));
        } else if metadata.mode() & OTHERS_WRITE != 0 {
            // The group may: many a checkout is made with umask 002.
            asks.push(
                "your belief, since every user can write it (`chmod o-w` ends that)".to_owned(),
            );
        }
        Ok(Self {
            fingerprint: trust::fingerprint(&content),
            file: path,
            sessions,
            asks,
        })
    }
}

fn content(file: File) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut content)?;
    Ok(content)
}

/// What a session has that a stranger's file must not give.
fn asks_of(entry: &Entry) -> impl Iterator<Item = String> {
    let target = &entry.target;
    let write = format!("write access to {target}");
    let app = format!("the app's database user of {target}");
    let port = entry
        .port
        .map(|port| format!("the port {port} for {target}"));
    let write = (entry.access == Access::ReadWrite).then_some(write);
    let app = (entry.role == Role::App).then_some(app);
    [write, app, port].into_iter().flatten()
}
