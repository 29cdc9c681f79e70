//! `events.jsonl`: what happened, an event a line. New lines are appended and not forced to
//! the disk: they survive the daemon's end, however it comes, and a loss of power costs at most
//! the last of them. The file is replaced by what is remembered once it has twice as many lines.
//!
//! A line that can't be read costs nothing but itself: half a line, one of a later version, one
//! that something else wrote. A later line takes the place of an earlier one with its number,
//! and of the one that it says it replaces.

mod line;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::{
    Lock, Problem,
    disk::{self, Found},
};
use crate::{
    journal::{CAPACITY, Journal, Record},
    model::Cause,
};

const FILE: &str = "events.jsonl";
/// More lines than this, and the file is replaced.
const LINES: usize = 2 * CAPACITY;
/// What is read of a file at most, from its end: far more than so many lines have.
const LONGEST: u64 = 16 << 20;
/// When another count of an event is written.
const COUNTS_AFTER: Duration = Duration::from_secs(5);
/// The pause before a failed write is tried again.
const RETRY: Duration = Duration::from_secs(10);

/// What was found in the file.
#[derive(Debug)]
pub(super) struct Events {
    file: EventFile,
    lock: Arc<Lock>,
    found: Vec<Record>,
}

/// Writes what a journal records, until it is dropped: then it writes the last of it.
#[derive(Debug)]
pub struct EventWriter {
    journal: Journal,
    thread: Option<JoinHandle<()>>,
    _lock: Arc<Lock>,
}

#[derive(Debug)]
struct EventFile {
    path: PathBuf,
    /// What it holds, as far as is known; `None` where it is to be replaced.
    known: Option<Known>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Known {
    lines: usize,
    bytes: u64,
}

// === impl Events ===

impl Events {
    /// Reads the file. What is no file of this user's is set aside. Blocks on the disk.
    pub(super) fn open(
        dir: &Path,
        now: Timestamp,
        lock: Arc<Lock>,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let path = dir.join(FILE);
        let (found, known) = match read(&path) {
            Found::Nothing => (Vec::new(), Some(Known { lines: 0, bytes: 0 })),
            Found::Contents(bytes) => parse(&bytes),
            Found::Unreadable(why) => {
                if let Err(cause) = disk::set_aside(&path, &why, now, problems) {
                    tracing::error!(%cause, "the events of earlier daemons are not to be had");
                }
                (Vec::new(), None)
            }
        };
        let file = EventFile { path, known };
        Self { file, lock, found }
    }

    /// A journal that goes on after what was found, and who writes what it records.
    pub(super) fn go_on(self) -> (Journal, EventWriter) {
        let journal = Journal::after(self.found);
        let (mut file, for_thread) = (self.file, journal.clone());
        let thread = std::thread::Builder::new()
            .name("events".to_owned())
            .spawn(move || {
                let mut not_before = None;
                while let Some(records) = for_thread.take_unsaved(COUNTS_AFTER, not_before) {
                    let outcome = file.write(&records, || for_thread.records());
                    if let Err(cause) = &outcome {
                        tracing::error!(%cause, "events are not saved");
                    }
                    not_before = outcome.is_err().then(|| Instant::now() + RETRY);
                    for_thread.saved(&records, outcome);
                }
            })
            .inspect_err(|error| {
                tracing::error!(%error, "events can't be saved: no thread");
                let detail = format!("events can't be saved: {error}");
                journal.saved(&[], Err(Cause::Internal { detail }));
            })
            .ok();
        let writer = EventWriter {
            journal: journal.clone(),
            thread,
            _lock: self.lock,
        };
        (journal, writer)
    }
}

impl Drop for EventWriter {
    fn drop(&mut self) {
        self.journal.close();
        if let Some(thread) = self.thread.take() {
            // A panic in there has been reported by the panic hook.
            let _ = thread.join();
        }
    }
}

// === impl EventFile ===

impl EventFile {
    /// Appends what is new, or replaces the file by all that is remembered.
    fn write(&mut self, new: &[Record], all: impl FnOnce() -> Vec<Record>) -> Result<(), Cause> {
        // Where the write fails, nobody knows how much of it is there.
        let known = self.known.take();
        let room = |known: &Known| known.lines + new.len() <= LINES;
        let appended = match known.filter(room) {
            Some(known) => self
                .append(known, new)
                .map_err(|error| disk::unwritable(&self.path, &error))?,
            None => None,
        };
        let known = match appended {
            Some(known) => known,
            None => self.replace(&all())?,
        };
        self.known = Some(known);
        Ok(())
    }

    /// `None` where the file isn't what it was left as.
    fn append(&self, known: Known, new: &[Record]) -> io::Result<Option<Known>> {
        let text = line::write(new);
        let mut options = disk::private_options();
        let mut file = options.append(true).create(true).open(&self.path)?;
        if file.metadata()?.size() != known.bytes {
            return Ok(None);
        }
        file.write_all(text.as_bytes())?;
        Ok(Some(Known {
            lines: known.lines + new.len(),
            bytes: known.bytes + text.len() as u64,
        }))
    }

    fn replace(&self, all: &[Record]) -> Result<Known, Cause> {
        let text = line::write(all);
        disk::replace(&self.path, text.as_bytes())?;
        Ok(Known {
            lines: all.len(),
            bytes: text.len() as u64,
        })
    }
}

/// The end of the file, where it is too long to be ours.
fn read(path: &Path) -> Found {
    let is_long =
        fs::symlink_metadata(path).is_ok_and(|file| file.is_file() && file.size() > LONGEST);
    if !is_long {
        return disk::read_private(path);
    }
    let end = || {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::End(-i64::try_from(LONGEST).unwrap_or(i64::MAX)))?;
        let mut bytes = Vec::new();
        file.take(LONGEST).read_to_end(&mut bytes)?;
        Ok::<_, io::Error>(bytes)
    };
    match end() {
        Ok(bytes) => Found::Contents(bytes),
        Err(error) => Found::Unreadable(error.to_string()),
    }
}

/// The last events of a file, ordered by number; and what is known of the file, where it needs
/// no mending.
fn parse(bytes: &[u8]) -> (Vec<Record>, Option<Known>) {
    let mut records: BTreeMap<u64, Record> = BTreeMap::new();
    let (mut lines, mut unreadable) = (0, 0);
    for text in bytes.split(|&byte| byte == b'\n') {
        if text.is_empty() {
            continue;
        }
        lines += 1;
        let Some(record) = line::read(text) else {
            unreadable += 1;
            continue;
        };
        if let Some(replaced) = record.replaces.and_then(|number| records.get(&number))
            && tells_of_the_same(&record, replaced)
        {
            let number = replaced.sequence;
            records.remove(&number);
        }
        match records.get(&record.sequence) {
            Some(known) if !(tells_of_the_same(&record, known) && record.count > known.count) => {}
            _ => {
                records.insert(record.sequence, record);
            }
        }
    }
    if unreadable > 0 {
        tracing::warn!(
            lines = unreadable,
            "events could not be read, and are left out"
        );
    }
    let is_whole = unreadable == 0 && bytes.last().is_none_or(|&byte| byte == b'\n');
    let bytes = bytes.len() as u64;
    let known = (is_whole && bytes < LONGEST).then_some(Known { lines, bytes });
    let forgotten = records.len().saturating_sub(CAPACITY);
    (records.into_values().skip(forgotten).collect(), known)
}

/// So that a number which is wrong costs no other event.
fn tells_of_the_same(one: &Record, other: &Record) -> bool {
    fn what(record: &Record) -> impl PartialEq + '_ {
        let code = record.failure.as_ref().map(|failure| &failure.code);
        (&record.kind, &record.session, code)
    }
    what(one) == what(other)
}

#[cfg(test)]
mod tests;
